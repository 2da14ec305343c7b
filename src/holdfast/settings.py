"""Configuration from the environment: `HOLDFAST_*`, and the usual names of other tools as a fallback."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from holdfast.errors import ConfigurationError

DEFAULT_DATABASE_URL = "sqlite:///holdfast.db"
DEFAULT_MIGRATIONS = "migrations"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process needs to know before it starts. Read with `Settings.from_environment()`.

    Durations are seconds. URLs may hold passwords: `repr` leaves them out.
    """

    database_url: str = DEFAULT_DATABASE_URL
    database_url_is_default: bool = True
    database_auth_token: str | None = None  # libSQL
    database_replica_file: str | None = None  # libSQL: where a local copy is kept, for reads that ask for it
    redis_url: str | None = None
    redis_prefix: str = "holdfast"
    redis_timeout: float = 0.25  # how long one call waits for Redis; then it is done without
    environment: Literal["development", "production"] = "development"
    secret_key: str | None = None  # signs page cursors: `current,previous`
    models: str = "holdfast.apps.agents"  # modules of the models that the command line keeps, between commas
    database_replica_urls: str | None = None  # PostgreSQL: replicas for reads that ask for one, between commas
    replica_wait: float = 0.25  # how long a read waits for a replica to have what it must see
    encryption_keys: str | None = None  # of encrypted columns: `id:base64,…`, the first one encrypts
    key_peppers: str | None = None  # of API keys: `id:base64,…`, the first one hashes
    stripe_webhook_secret: str | None = None  # of the endpoint /webhooks/stripe
    clerk_webhook_secret: str | None = None  # of the endpoint /webhooks/clerk
    audit_keys: str | None = None  # of the audit trail: `id:base64,…`, the first one seals
    key_prefix: str = "hold"  # what API keys begin with
    key_bcrypt: int = 0  # rounds of bcrypt that API keys are checked by as well, from 10 to 16; 0: none
    seeds: str = ""  # modules of the seeds, between commas; else a module `seeds` in or beside those of the models
    pool_size: int = 5  # connections kept open (PostgreSQL), readers (SQLite)
    pool_max: int = 15  # connections at most, under load
    pool_timeout: float = 30.0  # how long a unit waits for a connection
    connect_timeout: float = 5.0  # one attempt
    start_timeout: float = 10.0  # all attempts of a start, with backoff between them
    statement_timeout: float = 0.0  # 0: the server's own; set per transaction, so that poolers are safe
    slow_query: float = 0.1  # queries over this are logged
    pooler: Literal["none", "transaction"] = "none"  # "transaction": no prepared statements, no LISTEN
    row_security: bool = False  # PostgreSQL: policies confine units to their tenant, as the role holdfast_app
    require_tls: bool = False  # refuse a URL that would leave this machine without TLS and a checked certificate
    migrations: str = DEFAULT_MIGRATIONS  # the folder of the migrations; without one, what is missing is made
    migration_lock_timeout: float = 1.0  # how long a migration may wait for locks, and so make others wait
    migration_statement_timeout: float = 30.0  # how long one of its statements may take that holds locks; 0: for ever
    migration_give_up: float = 300.0  # how long locks that are not had are tried for again
    cache_capacity: int = 100_000  # what the cache keeps in memory, by weight; a value weighs 1 unless it says so
    cache_ttls: str = ""  # of declared keys, in place of what they say: `shop.price=5s, shop.user=1m`
    limits: str = ""  # how often who may call, by tier, beside the defaults: `free=60/min, pro=10/s + 5000/hour`
    instances: int = 1  # processes that serve: without Redis each lets its part of a limit through
    service_keys: str | None = None  # of services that sign their calls and pass without a limit: `id:secret,…`
    service_tolerance: float = 60.0  # how far their clocks may be from ours
    http_reads: Literal["open", "closed"] = "open"  # whether anything is read without an API key
    key_guesses: str = "30/min"  # keys that open nothing that one address may send; `unlimited`: any number
    trusted_proxies: str = ""  # whose X-Forwarded-For is believed: addresses or CIDR, between commas
    cors_origins: str = ""  # origins whose pages may ask, between commas: `https://app.example`; none unless given
    poll_interval: float = 0.25  # how often the journal is looked at for changes by other programs

    def __post_init__(self) -> None:
        for field, lowest in _LOWEST.items():
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= lowest):
                raise ConfigurationError(f"{_told(field)} must be {lowest} or more, and finite, not {value!r}")
        if self.pool_max < self.pool_size:
            raise ConfigurationError(
                f"{_told('pool_max')} is {self.pool_max}, less than the {self.pool_size} of {_told('pool_size')};"
                " raise the one or lower the other"
            )

        if self.redis_url is not None and not self.redis_url.startswith(_REDIS):
            shown = hide_password(self.redis_url)
            raise ConfigurationError(
                f"{_told('redis_url')} must begin with redis://, rediss:// or unix://, or with redis+cluster:// or"
                f" rediss+cluster:// for a cluster: {shown!r}"
            )

    def __repr__(self) -> str:
        return f"<Settings {self.environment} {hide_password(self.database_url)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]  # msgspec's own would show the passwords in a traceback with local variables

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        """Read the environment; `overrides` that are not None win.

        Raises:
            ConfigurationError: a value is malformed, or production lacks a database URL. It names the variable.
        """
        env = os.environ if environ is None else environ
        values: dict[str, object] = {}
        for field, (names, kind) in _VARIABLES.items():
            name = next((n for n in names if env.get(n, "").strip()), None)
            if name is not None:
                values[field] = _convert(name, env[name].strip(), kind)
        values.update({k: v for k, v in overrides.items() if v is not None})
        values["database_url_is_default"] = "database_url" not in values
        if values.get("environment") == "production" and values["database_url_is_default"]:
            raise ConfigurationError(
                "HOLDFAST_ENV is production, but no database is named: set HOLDFAST_DATABASE_URL"
                " (or DATABASE_URL), for example postgresql://app@db.internal/holdfast"
            )
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            problem = str(error)
        # Invalid enum value 'prod' - at `$.environment`
        named = re.sub(r" - at `\$\.(\w+)`$", lambda found: f" in {_told(found[1])}", problem)
        raise ConfigurationError(f"the configuration is not usable: {named}")


_VARIABLES: dict[str, tuple[tuple[str, ...], type]] = {
    "database_url": (("HOLDFAST_DATABASE_URL", "DATABASE_URL", "TURSO_DATABASE_URL"), str),
    "database_auth_token": (("HOLDFAST_DATABASE_AUTH_TOKEN", "TURSO_AUTH_TOKEN"), str),
    "database_replica_file": (("HOLDFAST_DATABASE_REPLICA_FILE",), str),
    "redis_url": (("HOLDFAST_REDIS_URL", "REDIS_URL"), str),
    "redis_prefix": (("HOLDFAST_REDIS_PREFIX", "REDIS_PREFIX"), str),
    "redis_timeout": (("HOLDFAST_REDIS_TIMEOUT",), float),
    "environment": (("HOLDFAST_ENV",), str),
    "secret_key": (("HOLDFAST_SECRET_KEY",), str),
    "database_replica_urls": (("HOLDFAST_DATABASE_REPLICA_URLS", "DATABASE_REPLICA_URLS"), str),
    "replica_wait": (("HOLDFAST_DATABASE_REPLICA_WAIT",), float),
    "encryption_keys": (("HOLDFAST_ENCRYPTION_KEYS",), str),
    "key_peppers": (("HOLDFAST_KEY_PEPPERS",), str),
    "audit_keys": (("HOLDFAST_AUDIT_KEYS",), str),
    "key_prefix": (("HOLDFAST_KEY_PREFIX",), str),
    "key_bcrypt": (("HOLDFAST_KEY_BCRYPT",), int),
    "stripe_webhook_secret": (("HOLDFAST_STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET"), str),
    "clerk_webhook_secret": (("HOLDFAST_CLERK_WEBHOOK_SECRET", "CLERK_WEBHOOK_SECRET"), str),
    "models": (("HOLDFAST_MODELS",), str),
    "seeds": (("HOLDFAST_SEEDS",), str),
    "pool_size": (("HOLDFAST_DATABASE_POOL_SIZE", "DATABASE_POOL_SIZE", "DATABASE_POOL_MIN"), int),
    "pool_max": (("HOLDFAST_DATABASE_POOL_MAX", "DATABASE_POOL_MAX"), int),
    "pool_timeout": (("HOLDFAST_DATABASE_POOL_TIMEOUT", "DATABASE_POOL_TIMEOUT"), float),
    "connect_timeout": (("HOLDFAST_DATABASE_CONNECT_TIMEOUT",), float),
    "start_timeout": (("HOLDFAST_START_TIMEOUT",), float),
    "statement_timeout": (("HOLDFAST_STATEMENT_TIMEOUT",), float),
    "slow_query": (("HOLDFAST_SLOW_QUERY",), float),
    "pooler": (("HOLDFAST_DATABASE_POOLER",), str),
    "row_security": (("HOLDFAST_ROW_SECURITY",), bool),
    "require_tls": (("HOLDFAST_REQUIRE_TLS",), bool),
    "migrations": (("HOLDFAST_MIGRATIONS",), str),
    "migration_lock_timeout": (("HOLDFAST_MIGRATION_LOCK_TIMEOUT",), float),
    "migration_statement_timeout": (("HOLDFAST_MIGRATION_STATEMENT_TIMEOUT",), float),
    "migration_give_up": (("HOLDFAST_MIGRATION_GIVE_UP",), float),
    "cache_capacity": (("HOLDFAST_CACHE_CAPACITY",), int),
    "cache_ttls": (("HOLDFAST_CACHE_TTLS",), str),
    "limits": (("HOLDFAST_LIMITS",), str),
    "instances": (("HOLDFAST_INSTANCES",), int),
    "service_keys": (("HOLDFAST_SERVICE_KEYS",), str),
    "service_tolerance": (("HOLDFAST_SERVICE_TOLERANCE",), float),
    "http_reads": (("HOLDFAST_HTTP_READS",), str),
    "key_guesses": (("HOLDFAST_KEY_GUESSES",), str),
    "trusted_proxies": (("HOLDFAST_TRUSTED_PROXIES",), str),
    "cors_origins": (("HOLDFAST_CORS_ORIGINS",), str),
    "poll_interval": (("HOLDFAST_POLL_INTERVAL",), float),
}


_REDIS = ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://")

# The least that makes sense, in the field's own unit.
_LOWEST: dict[str, float] = {
    "pool_size": 1,
    "pool_max": 1,
    "pool_timeout": 0,
    "connect_timeout": 0.01,
    "start_timeout": 0,
    "statement_timeout": 0,
    "slow_query": 0,
    "migration_lock_timeout": 0.001,
    "migration_statement_timeout": 0,
    "migration_give_up": 0,
    "redis_timeout": 0.001,
    "cache_capacity": 0,
    "instances": 1,
    "service_tolerance": 1,
    "poll_interval": 0.001,
    "replica_wait": 0,
}


_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _convert(name: str, text: str, kind: type) -> object:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in _SWITCH:
            raise ConfigurationError(f"{name}={text!r} must be on or off")
        return _SWITCH[text.lower()]
    try:
        return kind(text)
    except ValueError:
        problem = f"{name}={text!r} is not {'a whole number' if kind is int else 'a number'}"
    raise ConfigurationError(problem)


def _told(field: str) -> str:
    """The variable that sets `field`, or the field itself."""
    return _VARIABLES[field][0][0] if field in _VARIABLES else field


_PRIVATE = re.compile(r"token|pass|pwd|secret|key|auth", re.IGNORECASE)


def hide_password(url: str) -> str:
    """`url` with the password and any token in its query replaced by `***`, fit for logs and errors.

    Of a URL that is malformed rather too much is hidden than too little.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    if not (scheme.startswith("sqlite") and rest.startswith("/")):  # a path, which may have an @ too
        # The last @ ends the password, which may hold any of the other signs when it was not encoded.
        login, at, place = rest.rpartition("@")
        user, colon, _ = login.partition(":")
        rest = f"{user}:***@{place}" if colon else f"{login}{at}{place}"
    path, question, query = rest.partition("?")
    pairs = (pair.partition("=") for pair in query.split("&"))
    shown = "&".join(
        f"{name}{sign}***" if sign and _PRIVATE.search(name) else name + sign + value for name, sign, value in pairs
    )
    return f"{scheme}{mark}{path}{question}{shown}"
