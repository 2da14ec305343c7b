"""Ending what is cached, as the command line and the endpoint ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from holdfast.cache import Cache
from holdfast.errors import InvalidValue


class Clear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to end: give one of them.

    Attributes:
        tags: everything that carries one of them, on every node.
        keys: on every node.
        matching: clean up keys like this pattern, in Redis and in this process.
        everything: on every node.
        redis: for an emergency, drop every key of ours in Redis; nodes keep what they have in memory.
    """

    tags: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    matching: str | None = None
    everything: bool = False
    redis: bool = False

    @property
    def given(self) -> list[str]:
        """The names of those that are given."""
        return [name for name in self.__struct_fields__ if getattr(self, name)]


async def clear(cache: Cache, flush_redis: Callable[[], Awaitable[int]], what: Clear) -> int | None:
    """End it; returns how many values or keys were removed from Redis, None where something ends on every node.

    Args:
        flush_redis: drops every key of ours.

    Raises:
        InvalidValue: not one thing is given.
    """
    if len(what.given) != 1:
        raise InvalidValue(
            f"say what is to end: one of {', '.join(what.__struct_fields__)}; not {what.given or 'none'}"
        )
    if what.matching:
        return await cache.remove_matching(what.matching)
    if what.redis:
        return await flush_redis()
    if what.tags:
        await cache.invalidate(*what.tags)
    elif what.keys:
        await cache.delete(*what.keys)
    else:
        await cache.clear()
    return None
