"""From the URL a person writes to the one an engine takes."""

from __future__ import annotations

import re
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
LIBSQL = "sqlite+libsql"
_LIBSQL = {"libsql": None, "libsql+http": "0", "libsql+https": "1"}  # what each says of tls
_LIBSQL_EXAMPLE = "libsql://name-org.turso.io or libsql+http://127.0.0.1:8080"
_EXAMPLES = "sqlite:///holdfast.db or postgresql://user@127.0.0.1:5432/holdfast"
_REFUSED = {  # what other clients take in a URL and asyncpg does not, with what to do instead
    "channel_binding": "the driver has none; remove it",
    "connect_timeout": "set HOLDFAST_DATABASE_CONNECT_TIMEOUT instead",
    "ssl": "write sslmode=require",
}


def parse_url(text: str) -> URL:
    """The engine's URL for `text`; a bare path ending in .db, .sqlite or .sqlite3 is a SQLite file.

    A PostgreSQL URL may carry libpq's parameters that asyncpg knows (`sslmode`, `sslrootcert`, `host`, …), a libSQL
    URL `tls=0` (libsql+http:// says the same) and the `namespace` where the host does not begin with it.

    Raises:
        ConfigurationError: it is no database URL, or names a database that is not supported.
    """
    if "://" not in text and text.endswith((".db", ".sqlite", ".sqlite3")):
        text = f"sqlite:///{text}"
    place = repr(hide_password(text))
    url = _parsed(text)
    if url is None:
        raise ConfigurationError(f"{place} is no database URL; write {_EXAMPLES}")
    if url.drivername in _LIBSQL:
        return _libsql(url, place)
    name = url.drivername.partition("+")[0]
    if name not in _DRIVERS or ("+" in url.drivername and url.drivername != _DRIVERS[name]):
        known = ", ".join(sorted({*_DRIVERS, *_DRIVERS.values(), *_LIBSQL}))
        raise ConfigurationError(f"{url.drivername!r} is not a supported database ({known}); write {_EXAMPLES}")
    url = url.set(drivername=_DRIVERS[name])
    if "\0" in text:
        raise ConfigurationError(f"{place} holds a NUL character; remove it")
    if name == "sqlite":
        _check_sqlite(url, place)
    else:
        _check_postgres(url, place)
    return url


def dialect_of(url: URL) -> Dialect:
    """Which of the two dialects the URL is of."""
    return "sqlite" if url.drivername.startswith("sqlite") else "postgresql"


def is_remote(url: URL) -> bool:
    """Whether it is a libSQL database over HTTP."""
    return url.drivername == LIBSQL


def web_address(url: URL) -> str:
    """The address of a remote database's server: `https://host:port`."""
    secure = url.query.get("tls") != "0"
    host = f"[{url.host}]" if ":" in str(url.host) else url.host
    return f"{'https' if secure else 'http'}://{host}:{url.port or (443 if secure else 80)}"


def file_of(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL, for a database in memory and for one over HTTP."""
    if dialect_of(url) != "sqlite" or is_remote(url) or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None  # the parser's own message repeats the text, which may hold a password


def _libsql(url: URL, place: str) -> URL:
    """The engine's URL: `tls` said, and nothing else but the namespace."""
    if url.username or url.password:
        raise ConfigurationError(f"{place} names a user; the token goes into HOLDFAST_DATABASE_AUTH_TOKEN")
    for name in url.query:
        if name.lower() in ("authtoken", "auth_token", "jwt"):
            raise ConfigurationError(f"{place} carries a token; put it into HOLDFAST_DATABASE_AUTH_TOKEN instead")
        if name not in ("tls", "namespace"):
            raise ConfigurationError(f"{place} has the parameter {name!r}; a libSQL URL takes tls and namespace")
    tls = _LIBSQL[url.drivername] or url.query.get("tls", "1")
    if tls not in ("0", "1") or url.query.get("tls", tls) != tls:
        raise ConfigurationError(f"{place} says tls={url.query['tls']}; write tls=0 or tls=1, as its scheme says")
    namespace = url.query.get("namespace", "")
    if not isinstance(namespace, str) or not re.fullmatch(r"[\w-]*", namespace, re.ASCII):
        raise ConfigurationError(f"{place} names a namespace of other signs than letters, digits, - and _")
    if url.port is not None and not 0 < url.port < 65536:
        raise ConfigurationError(f"{place} names the port {url.port}; ports are 1 to 65535")
    if not url.host or url.database or not re.fullmatch(r"[\w.:-]+", url.host, re.ASCII):
        raise ConfigurationError(f"{place} must name a host and no path; write {_LIBSQL_EXAMPLE}")
    query = {"tls": tls, **({"namespace": namespace} if namespace else {})}
    return url.set(drivername=LIBSQL, database=None, query=query)


def _check_sqlite(url: URL, place: str) -> None:
    if url.host or url.username or url.port:
        raise ConfigurationError(f"{place} names a host; a SQLite path has three slashes, four when absolute")
    if url.query or (url.database or "").startswith("file:"):
        raise ConfigurationError(f"{place} has parameters, and a SQLite URL takes none; name the file alone")


def _check_postgres(url: URL, place: str) -> None:
    if not url.database:
        raise ConfigurationError(f"{place} names no database; write {_EXAMPLES}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ConfigurationError(f"{place} names the port {url.port}; ports are 1 to 65535")
    for name, advice in _REFUSED.items():
        if name in url.query:
            raise ConfigurationError(f"{place} asks for {name}: {advice}")
    try:
        (url.host or "").encode("idna")
    except UnicodeError:
        nameable = False
    else:
        nameable = not any(sign.isspace() for sign in url.host or "")
    if not nameable:
        raise ConfigurationError(f"{place} names a host that cannot be one; write {_EXAMPLES}")
