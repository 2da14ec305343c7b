"""A node's memory of when tags last changed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from holdfast.cache.tags import hashed

BITS = 20  # 8 MiB; two tags in one bucket cost a load too many, never a value too old


class Marks:
    """For each bucket of tags the tick of the last change.

    Attributes:
        ticks: by bucket, read directly where every nanosecond counts; of one bucket until `clear` is called first.
    """

    __slots__ = ("_mask", "ticks")

    def __init__(self) -> None:
        self.ticks = array("q", [0])
        self._mask = 0

    def buckets(self, hashes: Sequence[int]) -> tuple[int, ...]:
        """The buckets of hashed tags."""
        mask = self._mask
        if len(hashes) == 1:  # the key's alone, as it mostly is
            return (hashes[0] & mask,)
        return tuple([number & mask for number in hashes])

    def mark(self, tag: str, tick: int) -> None:
        """Note that `tag` changed at `tick`."""
        bucket = hashed(tag) & self._mask
        if self.ticks[bucket] < tick:
            self.ticks[bucket] = tick

    def clear(self) -> None:
        """Forget everything, and take the memory: what was loaded before may not be relied on any more."""
        self.ticks = array("q", [0]) * (1 << BITS)
        self._mask = (1 << BITS) - 1
