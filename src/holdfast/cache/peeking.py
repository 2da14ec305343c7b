"""The read that is made most: a look into this node's memory. Plain calls only, and every nanosecond counts."""

from __future__ import annotations

import math
from typing import Any, Protocol

from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.keys import checked_key
from holdfast.cache.memory import Memory
from holdfast.cache.own_writes import verdict
from holdfast.cache.statistics import endpoint, timed
from holdfast.store.current import current


class Unfit:
    """What a look into memory gives that found nothing fresh, to who gave `SEEK` as the default.

    A second look would tell: but memory counts looks to know what to keep, and what is missed would count twice.

    Attributes:
        entry: what is kept and is not fresh; None where nothing is.
    """

    __slots__ = ("entry",)

    def __init__(self, entry: Entry | None) -> None:
        self.entry = entry


SEEK = Unfit(None)
"""The default by which `peek` gives an `Unfit`."""

_TIMED = 63  # of so many hits and one more, one's time is taken


class Peek(Protocol):
    """Look for the fresh value of `key`; `default` where there is none, or none that is known to be fresh as of `bound`
    seconds ago.
    """

    def __call__(self, key: str, default: Any = None, bound: float = math.inf) -> Any: ...


def peeking(memory: Memory, freshness: Freshness) -> Peek:
    """A function that looks for fresh values in `memory`, and counts them."""
    look, clock = memory.get, boottime
    state_of, place_of = current.get, endpoint.get

    def peek(key: str, default: Any = None, bound: float = math.inf) -> Any:
        now = clock()  # before looking: what is found is judged by what was known then
        try:
            entry = look(key)
        except TypeError:  # it cannot be hashed
            checked_key(key)
            raise
        if entry is None:
            return default
        age = now - freshness.since
        if now >= entry.refresh_from or age > entry.max_staleness or age > bound:
            return default if default is not SEEK else Unfit(entry)
        state = state_of()
        if state is not None and verdict(state, freshness.covers) != "use":
            return default if default is not SEEK else Unfit(entry)
        if entry.held_at != freshness.notes and not freshness.is_fresh(entry):
            return default if default is not SEEK else Unfit(entry)
        counts = entry.counts
        counts.hits = hits = counts.hits + 1
        if not hits & _TIMED:
            timed(counts, now)
        place = place_of()
        if place is not None:
            place.hits += 1
        return entry.value

    return peek
