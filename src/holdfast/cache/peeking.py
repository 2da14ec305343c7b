"""The read that is made most: a look into this node's memory. Plain calls only, and every nanosecond counts."""

from __future__ import annotations

from typing import Any, Protocol

from holdfast.cache.clock import boottime
from holdfast.cache.freshness import Freshness
from holdfast.cache.memory import Memory
from holdfast.cache.own_writes import verdict
from holdfast.cache.statistics import endpoint, timed
from holdfast.store.current import current

_TIMED = 63  # of so many hits and one more, one's time is taken


class Peek(Protocol):
    """Look for the fresh value of `key`; `default` where there is none."""

    def __call__(self, key: str, default: Any = None) -> Any: ...


def peeking(memory: Memory, freshness: Freshness) -> Peek:
    """A function that looks for fresh values in `memory`, and counts them. It is `Freshness.is_fresh` written out."""
    look, clock, marks = memory.get, boottime, freshness.marks
    state_of, place_of = current.get, endpoint.get

    def peek(key: str, default: Any = None) -> Any:
        now = clock()  # before looking: what is found is judged by what was known then
        entry = look(key)
        if entry is None or now >= entry.refresh_from or now - freshness.since > entry.max_staleness:
            return default
        state = state_of()
        if state is not None and verdict(state, freshness.covers) != "use":
            return default
        as_of = entry.as_of
        if as_of < freshness.floor or entry.epoch != freshness.epoch:
            return default
        ticks = marks.ticks
        for bucket in entry.buckets:
            if ticks[bucket] > as_of:
                return default
        counts = entry.counts
        counts.hits = hits = counts.hits + 1
        if not hits & _TIMED:
            timed(counts, now)
        place = place_of()
        if place is not None:
            place.hits += 1
        return entry.value

    return peek
