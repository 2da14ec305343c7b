"""Whether what a URL names is reached by TLS with a checked certificate, where that is required."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import URL

from holdfast.errors import ConfigurationError
from holdfast.settings import Settings, hide_password
from holdfast.store.urls import dialect_of, is_remote, parse_url

_CHECKED = ("verify-full", "verify-ca")


def require_tls(settings: Settings) -> None:
    """Refuse settings whose URLs leave this machine without TLS, or without looking at the certificate.

    Raises:
        ConfigurationError: one does; it names the setting, and what to write.
    """
    for name, shown, advice in in_the_clear(settings):
        raise ConfigurationError(f"HOLDFAST_REQUIRE_TLS is on, and {name}={shown!r} {advice}")


def in_the_clear(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """The settings whose URLs do so: each with the URL without its password, and what is wrong with it."""
    urls = [("HOLDFAST_DATABASE_URL", settings.database_url)]
    urls += [
        ("HOLDFAST_DATABASE_REPLICA_URLS", one) for one in (settings.database_replica_urls or "").split(",") if one
    ]
    for name, text in urls:
        if (advice := _database(parse_url(text.strip()))) is not None:
            yield name, hide_password(text.strip()), advice
    if settings.redis_url is not None and (advice := _redis(settings.redis_url)) is not None:
        yield "HOLDFAST_REDIS_URL", hide_password(settings.redis_url), advice


def _database(url: URL) -> str | None:
    """What is wrong with the URL of a database, or None."""
    if is_remote(url):
        return "is not encrypted; write libsql://" if url.query.get("tls") == "0" and not is_local(url.host) else None
    if dialect_of(url) == "sqlite":
        return None
    named = url.query.get("host") or url.host or os.environ.get("PGHOST", "")
    hosts = [host for part in ([named] if isinstance(named, str) else named) for host in part.split(",")]
    if all(is_local(host) for host in hosts) or url.query.get("sslmode") in _CHECKED:
        return None
    return "does not check the server's certificate; write ?sslmode=verify-full&sslrootcert=/path/ca.pem"


def _redis(text: str) -> str | None:
    split = urlsplit(text)
    if split.scheme == "unix":
        return None
    hosts = [host.rpartition(":")[0] or host for host in split.netloc.rpartition("@")[2].split(",")]
    if all(is_local(host) for host in hosts):
        return None
    if not split.scheme.startswith("rediss"):
        return "is not encrypted; write rediss://"
    asked = {value for values in parse_qs(split.query).get("ssl_cert_reqs", []) for value in [values.lower()]}
    return "does not check the server's certificate; leave ssl_cert_reqs out" if asked - {"required"} else None


def is_local(host: str | None) -> bool:
    """Whether a host is this machine: a socket's folder, or a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
