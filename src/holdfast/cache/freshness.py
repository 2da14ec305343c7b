"""The rule that decides every read: may this entry be served now? Rules only.

An entry has seen every commit up to the tick `as_of`. The node's marks have every change up to `tick`, and everything
that was committed before `since` is at or before `tick`. So while `since` is less than `max_staleness` ago, an entry
none of whose buckets has a mark after `as_of` is at most that stale, wherever it comes from. An entry for which that
was found out remembers it for as long as nothing more is noted: most reads are of such ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.cache.entry import Entry
from holdfast.cache.marks import Marks


class Freshness:
    """What one node knows of the journal.

    Attributes:
        epoch, tick: up to where the marks know it; epoch 0 before anything is known.
        covers: the number of this process' last commit when that renewal began.
        since: when the last renewal began, on the clock of `boottime`.
        floor: entries of an earlier tick are not served: changes up to it may be missing from the marks.
        marks: when tags changed.
        notes: how often anything was noted, which is counted after it was.
    """

    __slots__ = ("covers", "epoch", "floor", "marks", "notes", "since", "tick")

    def __init__(self, marks: Marks) -> None:
        self.epoch = 0
        self.tick = 0
        self.covers = -1
        self.since = float("-inf")
        self.floor = 0
        self.marks = marks
        self.notes = 0

    def is_known(self, now: float, max_staleness: float) -> bool:
        """Whether the marks are recent enough to rely on; `now` is read before the entry is looked up."""
        return now - self.since <= max_staleness

    def is_fresh(self, entry: Entry) -> bool:
        """Whether nothing that `entry` depends on has changed since it was loaded, as far as the marks know."""
        notes, as_of = self.notes, entry.as_of  # what another thread notes meanwhile is looked at by the next read
        if entry.epoch != self.epoch or as_of < self.floor:
            return False
        ticks = self.marks.ticks
        for bucket in entry.buckets:
            if ticks[bucket] > as_of:
                return False
        entry.held_at = notes
        return True

    def is_outdated(self, epoch: int, as_of: int, hashes: Sequence[int]) -> bool:
        """Whether what was loaded as of a tick, with these tags by their hashes, may never be served here again.

        An entry of an epoch to come is none of it. One of before what this node knows is.
        """
        if epoch != self.epoch:
            return epoch < self.epoch
        ticks = self.marks.ticks
        return as_of < self.floor or any(ticks[bucket] > as_of for bucket in self.marks.buckets(hashes))

    def changed(self, tags: Iterable[str], tick: int) -> None:
        """Note that what has these tags changed at `tick`."""
        for tag in tags:
            self.marks.mark(tag, tick)
        self.notes += 1

    def everything_changed(self, tick: int) -> None:
        """Note that anything may have changed up to `tick`."""
        self.floor = max(self.floor, tick)
        self.notes += 1

    def begin(self, epoch: int, tick: int) -> None:
        """Another life of the database: what was loaded before counts for nothing."""
        self.marks.clear()
        self.epoch, self.tick, self.floor = epoch, tick, tick
        self.notes += 1

    def replayed(self, floor: int, begun: int) -> None:
        """What changed from `floor` on is noted too, where this node had known nothing before `begun`."""
        if self.floor == begun:
            self.floor = floor

    def know_nothing(self) -> None:
        """Serve nothing from now on: nobody follows the journal any more."""
        self.since = float("-inf")

    def renewed(self, tick: int, since: float, covers: int) -> None:
        """All changes up to `tick` are noted; it was made after `since`, and after commit number `covers`."""
        self.tick, self.since, self.covers = tick, since, covers
