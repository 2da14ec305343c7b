"""The read that is made most: a look into this node's memory. Plain calls only, and every nanosecond counts."""

from __future__ import annotations

from typing import Any, Protocol

from holdfast.cache.clock import boottime
from holdfast.cache.freshness import Freshness
from holdfast.cache.memory import Memory
from holdfast.cache.own_writes import verdict
from holdfast.store.current import current


class Peek(Protocol):
    """Look for the fresh value of `key`; `default` where there is none."""

    def __call__(self, key: str, default: Any = None) -> Any: ...


def peeking(memory: Memory, freshness: Freshness) -> Peek:
    """A function that looks for fresh values in `memory`; it is `Freshness.is_fresh` written out."""
    look, clock, state_of, marks = memory.get, boottime, current.get, freshness.marks

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
        return entry.value

    return peek
