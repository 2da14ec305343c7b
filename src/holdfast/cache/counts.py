"""Counting what happens to cached values, cheaply enough for every read; kept by the minute and by the hour."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

NAMES = 1_000  # that are told apart; what comes after is counted together
_MINUTES = 60
_HOURS = 48

OTHERS = "…"
"""The name under which everything is counted that comes after the first thousand names."""


READS = {"memory": "hits", "redis": "shared", "none": "misses", "bypassed": "bypassed"}
"""Fields of `Counts` that count reads, by where these were served from, as monitoring splits them."""

LOADS = {"ok": "loads", "failed": "failures"}
"""Fields that count loads, by outcome."""

ENDED = {"changed": "changed", "expired": "expired", "evicted": "evicted"}
"""Fields that count values that were kept no more, by reason."""


class Counts(msgspec.Struct, gc=False):
    """What happened. Added to from any thread, without a lock, so that one in a great many may be lost.

    Attributes:
        hits: reads served from this node's memory.
        shared: reads served from Redis.
        misses: reads that found nothing fresh.
        changed: misses where something was kept that had been changed since.
        expired: values in memory that were loaded anew after their end, though nothing had changed.
        evicted: values that gave way in memory to others.
        bypassed: reads that left the cache alone, within a unit that had written or that reads as of its beginning.
        stale: reads served with an older value, and told so; they are misses too.
        loads, failures: loads that ended well, and that raised.
        load_seconds: that all of these took together.
        shared_seconds: that the reads served from Redis took together.
        timed, hit_seconds: hits whose time was taken (one of 64), and that together they took.
        measured, bytes: loaded values whose size was taken (one of 16), and their sizes as msgpack together.
        changes: of what carries a tag, how often it was told; counted for tags alone.
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0
    changed: int = 0
    expired: int = 0
    evicted: int = 0
    bypassed: int = 0
    stale: int = 0
    loads: int = 0
    failures: int = 0
    load_seconds: float = 0.0
    shared_seconds: float = 0.0
    timed: int = 0
    hit_seconds: float = 0.0
    measured: int = 0
    bytes: int = 0
    changes: int = 0

    @property
    def reads(self) -> int:
        """All reads but those that left the cache alone."""
        return self.hits + self.shared + self.misses

    @property
    def hit_rate(self) -> float | None:
        """The share of reads that were served without a load; None without reads."""
        return (self.hits + self.shared) / self.reads if self.reads else None

    @property
    def seconds_a_load(self) -> float | None:
        """The mean; None without loads."""
        loads = self.loads + self.failures
        return self.load_seconds / loads if loads else None

    @property
    def bytes_a_value(self) -> float | None:
        """The mean; None where none was measured."""
        return self.bytes / self.measured if self.measured else None

    def since(self, before: Counts) -> Counts:
        """What came on top of `before`."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(before), strict=True)
        return Counts(*(now - then for now, then in pairs))

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Counts(*(one + two for one, two in pairs))


def added(found: dict[str, Counts], name: str, counts: Counts) -> None:
    """Add to what is counted under `name`."""
    found[name] = found.get(name, Counts()).plus(counts)


class Slice(msgspec.Struct, frozen=True):
    """What happened in a minute or an hour.

    Attributes:
        at: when it began, seconds since 1970.
        counts: by name; those to which nothing happened are left out.
    """

    at: int
    counts: dict[str, Counts]


class Series:
    """Counts by name: since the start, by the minute for an hour, by the hour for two days.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: dict[str, Counts] = {}
        self._minutes = _Ring(60, _MINUTES, clock())
        self._hours = _Ring(3_600, _HOURS, clock())

    def of(self, name: str) -> Counts:
        """The counts of `name`, to be added to."""
        counts = self._counts.get(name)
        if counts is None:
            if len(self._counts) >= NAMES:
                name = OTHERS
            counts = self._counts.setdefault(name, Counts())
        return counts

    def add(self, name: str, counts: Counts) -> None:
        """Add to the counts of `name`."""
        mine = self.of(name)
        for field in Counts.__struct_fields__:
            if more := getattr(counts, field):
                setattr(mine, field, getattr(mine, field) + more)

    def total(self) -> dict[str, Counts]:
        """Everything since the start, by name; a copy."""
        return {name: counts.plus(Counts()) for name, counts in list(self._counts.items())}

    def minutes(self) -> list[Slice]:
        """The last hour, oldest first; the minute that is not over yet is the last."""
        return self._minutes.slices(self._counts, self._clock())

    def hours(self) -> list[Slice]:
        """The last two days, oldest first; the hour that is not over yet is the last."""
        return self._hours.slices(self._counts, self._clock())

    def turn(self) -> None:
        """End the minute and the hour, if they are over; called now and then."""
        now = self._clock()
        self._minutes.turn(self._counts, now)
        self._hours.turn(self._counts, now)


class _Ring:
    """The last slices of one length."""

    def __init__(self, seconds: int, kept: int, now: float) -> None:
        self._seconds = seconds
        self._kept = kept
        self._at = int(now // seconds)
        self._before: dict[str, Counts] = {}
        self._slices: deque[Slice] = deque(maxlen=kept - 1)

    def slices(self, counts: dict[str, Counts], now: float) -> list[Slice]:
        self.turn(counts, now)
        oldest = now - self._kept * self._seconds
        return [*(one for one in self._slices if one.at > oldest), self._current(counts)]

    def turn(self, counts: dict[str, Counts], now: float) -> None:
        at = int(now // self._seconds)
        if at == self._at:
            return
        self._slices.append(self._current(counts))
        self._before = {name: one.plus(Counts()) for name, one in list(counts.items())}
        self._at = at

    def _current(self, counts: dict[str, Counts]) -> Slice:
        nothing = Counts()
        came = ((name, one.since(self._before.get(name, nothing))) for name, one in list(counts.items()))
        return Slice(self._at * self._seconds, {name: one for name, one in came if one != nothing})
