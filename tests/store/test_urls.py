"""From the URL a person writes to the database that is meant; anything else is told what to write."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationError
from holdfast.store import Store
from holdfast.store.urls import dialect_of, file_of, parse_url
from tests.backends import settings_for


@pytest.mark.parametrize(
    ("written", "dialect", "file"),
    [
        ("sqlite:///holdfast.db", "sqlite", "holdfast.db"),
        ("sqlite:////var/lib/holdfast.db", "sqlite", "/var/lib/holdfast.db"),
        ("sqlite+aiosqlite:///a.db", "sqlite", "a.db"),
        ("holdfast.db", "sqlite", "holdfast.db"),
        ("./data/my file.sqlite3", "sqlite", "./data/my file.sqlite3"),
        ("/tmp/a@b.sqlite", "sqlite", "/tmp/a@b.sqlite"),
        ("sqlite://", "sqlite", None),
        ("sqlite:///:memory:", "sqlite", None),
        ("postgresql://u:p@h:5432/db", "postgresql", None),
        ("postgres://h/db", "postgresql", None),
        ("postgresql+asyncpg://h/db", "postgresql", None),
        ("postgresql://u:p%40%2F@h/db?sslmode=require&application_name=x", "postgresql", None),
        ("postgresql://u@[::1]:5432/db", "postgresql", None),
        ("postgresql://u@bücher.example/db", "postgresql", None),
        ("postgresql:///db?host=/var/run/postgresql", "postgresql", None),
    ],
)
def test_a_url_names_a_database(written: str, dialect: str, file: str | None) -> None:
    url = parse_url(written)
    assert dialect_of(url) == dialect
    assert file_of(url) == (Path(file) if file else None)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "is no database URL"),
        ("   ", "is no database URL"),
        ("holdfast", "is no database URL"),
        ("://", "is no database URL"),
        ("postgresql", "is no database URL"),
        ("postgresql://h:port/db", "is no database URL"),
        ("postgresql://[::1/db", "is no database URL"),
        ("/etc/passwd", "is no database URL"),
        ("mysql://u:p@h/db", "'mysql' is not a supported database"),
        ("mongodb://h/db", "'mongodb' is not a supported database"),
        ("https://example.org/db", "'https' is not a supported database"),
        ("oracle://h", "'oracle' is not a supported database"),
        ("postgresql+psycopg://h/db", r"'postgresql\+psycopg' is not a supported database"),
        ("sqlite+pysqlite:///a.db", r"'sqlite\+pysqlite' is not a supported database"),
        ("sqlite://holdfast.db", "names a host; a SQLite path has three slashes"),
        ("sqlite://u:p@h/a.db", "names a host"),
        ("sqlite:///a.db?mode=ro", "a SQLite URL takes none"),
        ("sqlite:///file:a.db", "a SQLite URL takes none"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/", "names no database"),
        ("postgresql://h:0/db", "ports are 1 to 65535"),
        ("postgresql://h:99999/db", "ports are 1 to 65535"),
        ("postgresql://a..b/db", "names a host that cannot be one"),
        ("postgresql://ho st/db", "names a host that cannot be one"),
        (f"postgresql://{'a' * 70}.example/db", "names a host that cannot be one"),
        ("postgresql://h/db?channel_binding=require", "asks for channel_binding: the driver has none"),
        ("postgresql://h/db?connect_timeout=5", "HOLDFAST_DATABASE_CONNECT_TIMEOUT"),
        ("postgresql://h/db?ssl=true", "write sslmode=require"),
        ("postgresql://h/d\0b", "holds a NUL character"),
        ("sqlite:///a\0.db", "holds a NUL character"),
    ],
)
def test_what_names_no_database_is_told_what_to_write(written: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Store(settings_for(written))
