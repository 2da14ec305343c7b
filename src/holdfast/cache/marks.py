"""A node's memory of when tags last changed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from holdfast.cache.tags import hashed

BITS = 20  # 8 MiB; two tags in one bucket cost a load too many, never a value too old


class Marks:
    """For each bucket of tags the tick of the last change.

    Attributes:
        ticks: by bucket, read directly where every nanosecond counts.
    """

    __slots__ = ("_mask", "ticks")

    def __init__(self, bits: int = BITS) -> None:
        self.ticks = array("q", bytes(8 << bits))
        self._mask = (1 << bits) - 1

    def buckets(self, hashes: Iterable[int]) -> tuple[int, ...]:
        """The buckets of hashed tags."""
        mask = self._mask
        return tuple([number & mask for number in hashes])

    def mark(self, tag: str, tick: int) -> None:
        """Note that `tag` changed at `tick`."""
        bucket = hashed(tag) & self._mask
        if self.ticks[bucket] < tick:
            self.ticks[bucket] = tick

    def clear(self) -> None:
        """Forget everything: nothing in these marks may then be relied on for what was loaded before."""
        self.ticks[:] = array("q", bytes(8 * len(self.ticks)))  # in place: readers hold on to it
