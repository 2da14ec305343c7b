"""What a node keeps in its own memory: bounded by weight, evicted by use (TinyLFU)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from moka_py import Moka

from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry


class Size(msgspec.Struct, frozen=True):
    """How much a node keeps in memory.

    Attributes:
        entries: how many values.
        weight: the sum of their weights, and `capacity`, which it does not exceed for long.
    """

    entries: int
    weight: int
    capacity: int


class Memory:
    """Entries by key. Any thread may use it.

    Args:
        capacity: the sum of the weights of what is kept.

    Attributes:
        get: the entry of a key, or None.
    """

    __slots__ = ("_capacity", "_entries", "get")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: Moka[str, Entry] = Moka(
            capacity, weigher=lambda key, entry: entry.weight, eviction_listener=_ended
        )
        self.get: Callable[[str], Entry | None] = self._entries.get

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Keep `entry` until it may not be served any more."""
        self._entries.set(key, entry, ttl=max(0.001, entry.kept - now))

    def remove(self, keys: Iterable[str]) -> None:
        """Drop the entries of `keys`."""
        for key in keys:
            self._entries.remove(key)

    def clear(self) -> None:
        """Drop everything, at once."""
        self._entries.clear()
        self._entries.run_pending_tasks()  # else it lies there until something else is kept

    def size(self) -> Size:
        """How much is kept; what is due to go, goes before."""
        self._entries.run_pending_tasks()
        return Size(self._entries.count(), self._entries.weighted_size(), self._capacity)


def _ended(key: str, entry: Entry, cause: str) -> None:
    """Count why an entry is kept no more."""
    if cause == "size":
        entry.counts.evicted += 1
    elif cause == "replaced" and boottime() >= entry.expires:
        entry.counts.expired += 1
