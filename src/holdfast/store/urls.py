"""From the URL a person writes to the one an engine takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from holdfast.errors import ConfigurationError
from holdfast.settings import hide_password

Dialect = Literal["sqlite", "postgresql"]

_DRIVERS: dict[str, str] = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
_EXAMPLES = "sqlite:///holdfast.db or postgresql://user@127.0.0.1:5432/holdfast"


def parse_url(text: str) -> URL:
    """The engine's URL for `text`; a bare path ending in .db, .sqlite or .sqlite3 is a SQLite file.

    Raises:
        ConfigurationError: it is no database URL, or names a database that is not supported.
    """
    if "://" not in text and text.endswith((".db", ".sqlite", ".sqlite3")):
        text = f"sqlite:///{text}"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The parser's own message repeats the text, which may hold a password.
        raise ConfigurationError(f"{hide_password(text)!r} is no database URL; write {_EXAMPLES}") from None
    name = url.drivername.partition("+")[0]
    if name not in _DRIVERS or ("+" in url.drivername and url.drivername != _DRIVERS[name]):
        known = ", ".join(sorted({*_DRIVERS, *_DRIVERS.values()}))
        raise ConfigurationError(f"{url.drivername!r} is not a supported database ({known}); write {_EXAMPLES}")
    url = url.set(drivername=_DRIVERS[name])
    if name == "sqlite":
        if url.host:
            raise ConfigurationError(
                f"{hide_password(text)!r} names the host {url.host!r}; a SQLite path has three slashes, four when absolute"
            )
    elif not url.database:
        raise ConfigurationError(f"{hide_password(text)!r} names no database; write {_EXAMPLES}")
    return url


def dialect_of(url: URL) -> Dialect:
    """Which of the two dialects the URL is of."""
    return "sqlite" if url.drivername.startswith("sqlite") else "postgresql"


def file_of(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL and for a database in memory."""
    if dialect_of(url) != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))
