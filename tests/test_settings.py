"""Settings from the environment: ours first, the usual names next, and a clear refusal of what makes no sense."""

from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.settings import Settings


def read(environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    return Settings.from_environment(environ or {}, **overrides)


def test_without_anything_rows_live_in_a_file_here() -> None:
    settings = read()
    assert settings.database_url == "sqlite:///holdfast.db"
    assert settings.database_url_is_default
    assert settings.environment == "development"
    assert settings.redis_url is None


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"HOLDFAST_DATABASE_URL": "sqlite:///a.db"}, "database_url", "sqlite:///a.db"),
        ({"DATABASE_URL": "sqlite:///a.db"}, "database_url", "sqlite:///a.db"),
        ({"TURSO_DATABASE_URL": "libsql://a"}, "database_url", "libsql://a"),
        (
            {"DATABASE_URL": "sqlite:///no.db", "HOLDFAST_DATABASE_URL": "sqlite:///a.db"},
            "database_url",
            "sqlite:///a.db",
        ),
        ({"HOLDFAST_DATABASE_URL": "  ", "DATABASE_URL": "sqlite:///a.db"}, "database_url", "sqlite:///a.db"),
        ({"HOLDFAST_DATABASE_URL": " sqlite:///a.db\n"}, "database_url", "sqlite:///a.db"),
        ({"TURSO_AUTH_TOKEN": "t"}, "database_auth_token", "t"),
        ({"REDIS_URL": "redis://r"}, "redis_url", "redis://r"),
        ({"REDIS_PREFIX": "app"}, "redis_prefix", "app"),
        ({"HOLDFAST_ENV": "production", "DATABASE_URL": "sqlite:///a.db"}, "environment", "production"),
        ({"DATABASE_POOL_MIN": "2"}, "pool_size", 2),
        ({"DATABASE_POOL_SIZE": "3", "DATABASE_POOL_MIN": "2"}, "pool_size", 3),
        ({"HOLDFAST_DATABASE_POOL_MAX": "40"}, "pool_max", 40),
        ({"DATABASE_POOL_TIMEOUT": "1.5"}, "pool_timeout", 1.5),
        ({"HOLDFAST_DATABASE_CONNECT_TIMEOUT": "2"}, "connect_timeout", 2.0),
        ({"HOLDFAST_START_TIMEOUT": "0"}, "start_timeout", 0.0),
        ({"HOLDFAST_STATEMENT_TIMEOUT": "30"}, "statement_timeout", 30.0),
        ({"HOLDFAST_SLOW_QUERY": "0"}, "slow_query", 0.0),
        ({"HOLDFAST_DATABASE_POOLER": "transaction"}, "pooler", "transaction"),
        ({"HOLDFAST_POLL_INTERVAL": "1e-1"}, "poll_interval", 0.1),
    ],
)
def test_each_variable_sets_its_field(environ: dict[str, str], field: str, value: Any) -> None:
    settings = read(environ)
    assert getattr(settings, field) == value
    assert settings.database_url_is_default == (field != "database_url" and "DATABASE_URL" not in environ)


def test_what_is_said_outright_wins_and_none_says_nothing() -> None:
    settings = read({"HOLDFAST_DATABASE_URL": "sqlite:///a.db"}, database_url="sqlite:///b.db", pool_size=None)
    assert settings.database_url == "sqlite:///b.db"
    assert not settings.database_url_is_default
    assert settings.pool_size == 5


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"HOLDFAST_DATABASE_POOL_SIZE": "many"}, "HOLDFAST_DATABASE_POOL_SIZE='many' is not a whole number"),
        ({"DATABASE_POOL_SIZE": "1.5"}, "DATABASE_POOL_SIZE='1.5' is not a whole number"),
        ({"HOLDFAST_START_TIMEOUT": "soon"}, "HOLDFAST_START_TIMEOUT='soon' is not a number"),
        ({"HOLDFAST_START_TIMEOUT": "-1"}, "HOLDFAST_START_TIMEOUT must be 0 or more, and finite, not -1.0"),
        ({"HOLDFAST_START_TIMEOUT": "inf"}, "HOLDFAST_START_TIMEOUT must be 0 or more, and finite, not inf"),
        ({"HOLDFAST_SLOW_QUERY": "nan"}, "HOLDFAST_SLOW_QUERY must be 0 or more, and finite, not nan"),
        ({"HOLDFAST_DATABASE_POOL_SIZE": "0"}, "HOLDFAST_DATABASE_POOL_SIZE must be 1 or more"),
        ({"HOLDFAST_DATABASE_CONNECT_TIMEOUT": "0"}, "HOLDFAST_DATABASE_CONNECT_TIMEOUT must be 0.01 or more"),
        ({"HOLDFAST_POLL_INTERVAL": "0"}, "HOLDFAST_POLL_INTERVAL must be 0.001 or more"),
        (
            {"HOLDFAST_DATABASE_POOL_MAX": "3"},
            "HOLDFAST_DATABASE_POOL_MAX is 3, less than the 5 of HOLDFAST_DATABASE_POOL_",
        ),
        ({"HOLDFAST_ENV": "prod"}, "Invalid enum value 'prod' in HOLDFAST_ENV"),
        ({"HOLDFAST_DATABASE_POOLER": "session"}, "Invalid enum value 'session' in HOLDFAST_DATABASE_POOLER"),
        ({"REDIS_URL": "http://:hidden@x"}, r"HOLDFAST_REDIS_URL must begin with redis://.*'http://:\*\*\*@x'"),
        ({"HOLDFAST_ENV": "production"}, "no database is named: set HOLDFAST_DATABASE_URL"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_variable(environ: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read(environ)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"pool_size": -1}, "HOLDFAST_DATABASE_POOL_SIZE must be 1 or more"),
        ({"pool_size": "five"}, "Expected `int`, got `str` in HOLDFAST_DATABASE_POOL_SIZE"),
        ({"pool_sise": 5}, "unknown field `pool_sise`"),
        ({"database_url": 5}, "in HOLDFAST_DATABASE_URL"),
    ],
)
def test_what_is_said_outright_must_make_sense_too(overrides: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read({}, **overrides)
