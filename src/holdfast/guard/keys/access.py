"""What a key opens, and why it does not: rules only."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal
from uuid import UUID

import msgspec

from holdfast.errors import HoldfastError, InvalidValue

Reason = Literal["malformed", "unknown", "revoked", "expired", "holder", "mode", "address", "scope"]

SCOPES = 100  # that a key may have
_NAME = 255  # characters
_NETWORKS = 100
_SCOPE_LENGTH = 100
EVERYTHING = "*"
_OPERATORS = "operate:"
OPERATE = _OPERATORS + "read"
"""What operators may see: how the service itself fares. `*` is for everything but what begins with `operate:`, so that
no customer's key has it, and over HTTP nobody gives what he does not have."""


class KeyRefused(HoldfastError):
    """A key does not open what was asked for.

    Attributes:
        reason: why, for logs and for the key's owner; who has no key is told none of it.
        is_known: whether the key itself is good, and only this is not for it (403 rather than 401).
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_known = reason in ("address", "scope")


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """A key as it is known where it is verified; its text is no part of it.

    Attributes:
        id, name, user_id, org_id, scopes, live, tier, networks, limits: as in `KeyColumns`.
        expires_at: seconds since 1970; None for never.
        is_revoked: whether somebody took it back.
        is_held: whether whose it is may have it: a member who left has no keys of the organisation any more.
    """

    id: UUID
    name: str
    user_id: UUID
    org_id: UUID | None
    scopes: tuple[str, ...]
    live: bool
    tier: str
    networks: tuple[str, ...] | None
    limits: tuple[str, ...] | None
    expires_at: float | None
    is_revoked: bool
    is_held: bool = True

    def check(self, now: float, *, scope: str | None, address: str | None, live: bool | None) -> None:
        """Raise `KeyRefused` where it does not open what is asked for.

        Args:
            now: seconds since 1970.
            scope: what is to be done; None asks for nothing special.
            address: where the request comes from; None is no address of any network.
            live: whether it is to be a live key or one for tests; None takes both.
        """
        if self.is_revoked:
            raise KeyRefused("revoked", f"the API key {self.name!r} was revoked")
        if self.expires_at is not None and now >= self.expires_at:
            raise KeyRefused("expired", f"the API key {self.name!r} has expired")
        if not self.is_held:
            raise KeyRefused("holder", f"whose the API key {self.name!r} is may not have it any more")
        if live is not None and live != self.live:
            here = "live" if live else "test"
            raise KeyRefused("mode", f"the API key {self.name!r} is not for here: a {here} key is wanted")
        if self.networks is not None and not is_within(address, self.networks):
            raise KeyRefused("address", f"the API key {self.name!r} may not be used from this address")
        if scope is not None and not allows(self.scopes, scope):
            raise KeyRefused("scope", f"the API key {self.name!r} lacks the scope {scope!r}")


def allows(scopes: Iterable[str], wanted: str) -> bool:
    """Whether one of `scopes` is `wanted`, or is wider: `tools:*` is for all of `tools:…`, `*` for everything but
    `operate:…`."""
    for scope in scopes:
        if scope == wanted or (scope == EVERYTHING and not wanted.startswith(_OPERATORS)):
            return True
        if scope.endswith(":*") and wanted.startswith(scope[:-1]):
            return True
    return False


def checked_name(name: str) -> str:
    """What a key is called. InvalidValue: it is no name."""
    if not isinstance(name, str) or not 0 < len(name) <= _NAME or not name.isprintable():
        raise InvalidValue(f"a key has a name of 1 to {_NAME} characters that can be seen, not {str(name)[:60]!r}")
    return name


def checked_scopes(scopes: Iterable[str]) -> list[str]:
    """Scopes, each once.

    Raises:
        InvalidValue: one is no scope, or they are too many.
    """
    if isinstance(scopes, str):
        raise InvalidValue(f"scopes={scopes!r} are several; write ({scopes!r},)")
    found = list(dict.fromkeys(scopes))
    if len(found) > SCOPES:
        raise InvalidValue(f"a key has at most {SCOPES} scopes, not {len(found)}")
    for scope in found:
        is_one = isinstance(scope, str) and 0 < len(scope) <= _SCOPE_LENGTH and scope.isascii() and scope.isprintable()
        if not is_one or " " in scope or ("*" in scope and scope != EVERYTHING and not _ends_wide(scope)):
            raise InvalidValue(
                f"{str(scope)[:60]!r} is no scope: write 1 to {_SCOPE_LENGTH} characters without spaces, such as"
                " 'tools:read', 'tools:*' or '*'"
            )
    return found


def _ends_wide(scope: str) -> bool:
    return scope.endswith(":*") and "*" not in scope[:-1] and len(scope) > 2


def checked_networks(networks: Iterable[str] | None) -> list[str] | None:
    """Networks in CIDR notation; None for all.

    Raises:
        InvalidValue: one is none, they are too many, or there is none, which would shut everybody out.
    """
    if networks is None:
        return None
    if isinstance(networks, str):
        raise InvalidValue(f"networks={networks!r} are several; write ({networks!r},)")
    found = list(dict.fromkeys(networks))
    if not 0 < len(found) <= _NETWORKS:
        raise InvalidValue(f"a key is confined to 1 to {_NETWORKS} networks, not {len(found)}; None is for all")
    written = []
    for network in found:
        try:
            written.append(str(ipaddress.ip_network(network)))
        except ValueError:
            problem = (
                f"{str(network)[:60]!r} is no network; write an address or CIDR, as in 10.0.0.0/8 or 2001:db8::/32"
            )
        else:
            continue
        raise InvalidValue(problem)
    return written


def is_within(address: str | None, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks; an IPv4 address written as IPv6 is the IPv4 one."""
    if address is None:
        return False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in _parsed(networks))


@lru_cache(maxsize=1_024)
def _parsed(networks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in networks)


def seconds_of(moment: dt.datetime | None) -> float | None:
    """A moment as seconds since 1970."""
    return None if moment is None else moment.timestamp()
