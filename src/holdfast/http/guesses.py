"""Keys and tokens that open nothing, counted against the address that they come from: to guess costs."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from holdfast.errors import ConfigurationError
from holdfast.guard.limits import Limiter, headers_of
from holdfast.guard.limits.limit import limits_of
from holdfast.http.problems import Refusal

_SHUT = 10_000  # addresses that are remembered
_SUBNET = 64  # bits of an IPv6 address that one subscriber has


class Guesses:
    """Who has given too many keys that open nothing is not looked up any more, until his window has room again.

    All processes that share a Redis count together; each shuts out by itself whom it has found over the limit. Requests
    that are under way at once may be looked up though only some of them fit.

    Args:
        limits: how many from one address, such as `30/min`; `unlimited` counts nothing.

    Raises:
        ConfigurationError: they are no limits.
    """

    def __init__(self, limiter: Limiter, limits: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = limiter
        try:
            self._limits = limits_of(limits)
        except ConfigurationError as error:
            raise ConfigurationError(f"HOLDFAST_KEY_GUESSES: {error}") from None
        self._counts = not all(limit.is_unlimited for limit in self._limits)
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def is_shut(self, address: str | None) -> bool:
        """Whether a key from this address is not looked up: a plain call."""
        return bool(self._until) and self._left(address) > 0

    def refuse_shut(self, address: str | None) -> None:
        """Raise `Refusal`, a 429, where `is_shut`."""
        if self._until and (left := self._left(address)) > 0:
            raise _too_many(left, {})

    async def count(self, address: str | None) -> None:
        """Count a key that opens nothing. Refusal: 429, they were too many before it."""
        if not self._counts:
            return
        who = _who(address)
        decision = await self._limiter.hit(f"guesses:{who}", limits=self._limits)
        if decision.allowed:
            return
        wait = decision.retry_after
        left = max(limit.window for limit in self._limits) if wait is None else wait
        self._until[who] = self._clock() + left
        self._until.move_to_end(who)
        if len(self._until) > _SHUT:
            self._until.popitem(last=False)
        raise _too_many(left, headers_of(decision))

    def _left(self, address: str | None) -> float:
        """Seconds for which an address is shut out."""
        who = _who(address)
        left = self._until.get(who, 0.0) - self._clock()
        if left <= 0:
            self._until.pop(who, None)
        return left


def _too_many(left: float, headers: dict[str, str]) -> Refusal:
    wait = max(1, math.ceil(left))
    detail = f"too many keys that open nothing came from your address; try again in {wait} s"
    return Refusal(429, detail, headers | {"Retry-After": str(wait)})


def _who(address: str | None) -> str:
    """Who is behind an address, as far as it tells: of IPv6 the network of a subscriber, who has 2^64 of them."""
    if address is None:
        return "nobody"
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _SUBNET), strict=False))
