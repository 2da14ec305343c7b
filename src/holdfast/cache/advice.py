"""What the counts of the cache say should be looked at, and what to do about it. Rules only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from holdfast.cache.memory import Size
from holdfast.cache.statistics import Kind

ENOUGH = 200  # reads before a rate says anything
_POOR = 0.5  # hit rate
_MANY = 0.5  # share of misses with one cause
_FAILING = 0.05  # share of loads
_STALE = 0.01  # share of reads
_SLOW = 0.5  # seconds a load
_HEAVY = 1_000_000  # bytes a value
_FULL = 0.95  # share of the capacity


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at.

    Attributes:
        state: `wrong` is an alert: callers fail, or get older values; a `note` is a recommendation.
        about: a key template, `memory` or `redis`.
        detail: what was counted.
        do: what to do about it.
    """

    state: Literal["note", "wrong"]
    about: str
    detail: str
    do: str


def advise(kinds: Iterable[Kind], size: Size, *, redis_is_away: bool = False) -> list[Advice]:
    """What to look at: alerts first.

    Args:
        kinds: what was read, with counts of the time that matters.
        size: of the memory.
        redis_is_away: whether a Redis that is configured does not answer.
    """
    found = [advice for kind in kinds for advice in _of_kind(kind, size)]
    if redis_is_away:
        found.append(
            Advice(
                state="wrong",
                about="redis",
                detail="Redis does not answer: nodes share nothing, and each loads for itself",
                do="bring it back; it is used again within a second, and nothing else needs to be done",
            )
        )
    return sorted(found, key=lambda advice: advice.state, reverse=True)


def _of_kind(kind: Kind, size: Size) -> list[Advice]:
    counts, found = kind.counts, []

    def add(state: Literal["note", "wrong"], detail: str, do: str) -> None:
        found.append(Advice(state=state, about=kind.template, detail=detail, do=do))

    tried = counts.loads + counts.failures
    if counts.failures >= 3 and counts.failures / tried > _FAILING:
        do = "see the log for cache_load_failed"
        if not kind.options.fail_safe:
            do += '; fail_safe="1h" serves the older value meanwhile'
        add("wrong", f"{_share(counts.failures, tried)} of {tried:,} loads failed", do)
    if counts.stale >= 3 and counts.stale / max(1, counts.reads) > _STALE:
        detail = f"{_share(counts.stale, counts.reads)} of {counts.reads:,} reads got an older value, and were told so"
        add("wrong", detail, "loading fails or takes longer than soft_timeout; see the log, and the time of a load")
    if counts.reads >= ENOUGH:
        rate = counts.hit_rate or 0.0
        if rate < _POOR:
            add("note", *_poor(kind, rate, size))
        seconds = counts.seconds_a_load or 0.0
        if seconds > _SLOW and kind.options.soft_timeout is None and not kind.options.refresh_ahead:
            do = 'refresh_ahead=1 loads it before it ends; fail_safe="1h" with soft_timeout="100ms" bounds the wait'
            add("note", f"a load takes {seconds:.2f} s, and callers wait for it", do)
    weight = counts.bytes_a_value or 0.0
    if weight > _HEAVY:
        do = "keep what is needed of it; give it a weight, so that it takes its share of the memory"
        add("note", f"a value takes {weight / 1e6:.1f} MB", do)
    return found


def _poor(kind: Kind, rate: float, size: Size) -> tuple[str, str]:
    """Why few reads find something, by the cause of most misses."""
    counts, misses = kind.counts, max(1, kind.counts.misses)
    head = f"{rate:.0%} of {counts.reads:,} reads found something"
    if counts.evicted / misses > _MANY and size.weight > _FULL * size.capacity:
        return f"{head}; memory is full, and {counts.evicted:,} values gave way", "raise HOLDFAST_CACHE_CAPACITY"
    if counts.expired / misses > _MANY:
        detail = f"{head}; {_share(counts.expired, misses)} of the misses had ended by time, and nothing had changed"
        return detail, f"keep them for longer than ttl={kind.options.ttl:g}: they end by themselves when they change"
    if counts.changed / misses > _MANY:
        detail = f"{head}; {_share(counts.changed, misses)} of the misses had been changed since"
        return detail, "give them narrower tags, that change only when they do; or do not cache them"
    return f"{head}; most were asked for once", "do not cache what is not asked for again, or warm it"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}"
