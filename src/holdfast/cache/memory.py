"""What a node keeps in its own memory: bounded by weight, evicted by use (TinyLFU)."""

from __future__ import annotations

from collections.abc import Callable

from moka_py import Moka

from holdfast.cache.entry import Entry


class Memory:
    """Entries by key. Any thread may use it.

    Args:
        capacity: the sum of the weights of what is kept.

    Attributes:
        get: the entry of a key, or None.
    """

    __slots__ = ("_entries", "get")

    def __init__(self, capacity: int) -> None:
        self._entries: Moka[str, Entry] = Moka(capacity, weigher=lambda key, entry: entry.weight)
        self.get: Callable[[str], Entry | None] = self._entries.get

    def put(self, key: str, entry: Entry, now: float) -> None:
        """Keep `entry` until it may not be served any more."""
        self._entries.set(key, entry, ttl=max(0.001, entry.kept - now))

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def __len__(self) -> int:
        self._entries.run_pending_tasks()
        return self._entries.count()

    @property
    def weight(self) -> int:
        """The sum of the weights of what is kept."""
        self._entries.run_pending_tasks()
        return self._entries.weighted_size()
