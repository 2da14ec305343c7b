"""The URL of a cluster of Redis: one setting that names several servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.settings import hide_password

_PORT = 6379


class Address(NamedTuple):
    """Where a server of a cluster listens."""

    host: str
    port: int


def parsed(url: str) -> tuple[list[Address], Callable[[Address], str]]:
    """The servers that a cluster's URL names, and a function that gives the URL of any one server.

    Raises:
        ConfigurationError: it names none, a port is none, or it asks for a database: a cluster has only the first.
    """
    scheme, _, rest = url.partition("+cluster://")
    login, at, place = rest.rpartition("@")
    hosts, slash, more = place.partition("/")
    if not slash:
        hosts, mark, query = place.partition("?")
        more = f"{mark}{query}"
    database, _, query = more.partition("?")
    try:
        seeds = [_address(host) for host in hosts.split(",")]
    except ValueError:
        seeds = []
    if not seeds or database not in ("", "0"):
        raise ConfigurationError(
            f"HOLDFAST_REDIS_URL={hide_password(url)!r} names no cluster: it must be like redis+cluster://host:6379,"
            "host:6379?option=value, with rediss+cluster:// for TLS, and without a database"
        )

    def url_of(address: Address) -> str:
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{scheme}://{login}{at}{host}:{address.port}/0" + (f"?{query}" if query else "")

    return seeds, url_of


def _address(text: str) -> Address:
    split = urlsplit(f"//{text}")
    if not split.hostname or split.username is not None or split.path or split.query:
        raise ValueError(text)
    return Address(split.hostname, split.port or _PORT)
