"""Where requests come from: who is connected, or whom a proxy names that we were told to believe."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from holdfast.errors import ConfigurationError

_MOST_HOPS = 32
_FORWARDED = b"x-forwarded-for"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(text: str) -> tuple[Network, ...]:
    """The networks that a setting names, between commas.

    Raises:
        ConfigurationError: one is no network.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            raise ConfigurationError(
                f"HOLDFAST_TRUSTED_PROXIES names {part[:60]!r}, which is no network; write addresses or CIDR, as in"
                " 10.0.0.0/8, 2001:db8::1"
            ) from None
    return tuple(found)


def address_of(peer: str, headers: Iterable[tuple[bytes, bytes]], proxies: tuple[Network, ...]) -> str:
    """The address that a request comes from.

    Each proxy appends whom it was connected to, so `X-Forwarded-For` is read from its end, for as long as what is read
    is a proxy of ours: what stands before that anybody may have written.

    Args:
        peer: who is connected.
        proxies: whose word is taken.
    """
    if not _is_of(peer, proxies):
        return peer
    hops = b",".join(value for name, value in headers if name == _FORWARDED).decode("latin-1").split(",")
    found = peer
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = _address(hop.strip())
        if address is None:
            break
        found = address
        if not _is_of(address, proxies):
            break
    return found


def _is_of(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def _address(text: str) -> str | None:
    """An address as proxies write it, some of them with a port; None for what is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
