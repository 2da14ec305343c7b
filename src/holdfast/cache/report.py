"""What is told of a node's cache: figures for people and programs, made of its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from holdfast.cache.advice import Advice, advise
from holdfast.cache.changes import EVENT
from holdfast.cache.counts import Counts, Series, Slice, added
from holdfast.cache.memory import Size
from holdfast.cache.statistics import OWN, Kind, Statistics

Span = Literal["hour", "days", "start"]
"""The last hour by the minute, the last two days by the hour, or everything since the start."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to values, with rates and means; None where there is nothing to divide.

    Attributes:
        name: the template, tier, kind of tag or endpoint.
        reads, hits, shared, misses, changed, expired, evicted, bypassed, stale, loads, failures, changes: see `Counts`.
        hit_rate: the share of reads that were served without a load.
        hit_microseconds, shared_milliseconds, load_milliseconds: the mean time of a read from memory, of one from
            Redis, and of a load.
        bytes: of a value, the mean.
        tier, ttl, tags: of a template.
    """

    name: str
    reads: int
    hits: int
    shared: int
    misses: int
    changed: int
    expired: int
    evicted: int
    bypassed: int
    stale: int
    loads: int
    failures: int
    changes: int
    hit_rate: float | None
    hit_microseconds: float | None
    shared_milliseconds: float | None
    load_milliseconds: float | None
    bytes: int | None
    tier: str | None = None
    ttl: float | None = None
    tags: list[str] | None = None


class Moment(msgspec.Struct, frozen=True):
    """What happened in a minute or an hour that began `at` then, seconds since 1970."""

    at: int
    figures: Figures


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the cache of one node is used.

    Attributes:
        since: when counting began, seconds since 1970.
        span: which time the figures are of.
        memory: how much is kept.
        redis: "none", "ok" or "away".
        total: everything.
        templates, tiers, tags, endpoints: the same by one of these, most reads first.
        moments: by minute or hour, oldest first; none since the start.
        advice: what to look at.
        unused: names of declared keys of which nothing was read since the start.
    """

    since: float
    span: Span
    memory: Size
    redis: Literal["none", "ok", "away"]
    total: Figures
    templates: list[Figures]
    tiers: list[Figures]
    tags: list[Figures]
    endpoints: list[Figures]
    moments: list[Moment]
    advice: list[Advice]
    unused: list[str]


def reported(
    statistics: Statistics,
    size: Size,
    redis: Literal["none", "ok", "away"],
    span: Span = "hour",
    declared: Iterable[tuple[str, str]] = (),
) -> CacheReport:
    """The report of a node.

    Args:
        declared: keys by name and template.
    """
    read = {kind.template for kind in statistics.kinds() if kind.counts.reads}
    templates, slices = _summed(statistics.templates, span)
    endpoints, _ = _summed(statistics.endpoints, span)
    changes, _ = _summed(statistics.tags, span)
    changes.pop(EVENT, None)  # whatever is ended by hand
    kinds = [
        msgspec.structs.replace(kind, counts=templates[kind.template])
        for kind in statistics.kinds()
        if kind.template in templates
    ]
    tags: dict[str, Counts] = {}
    tiers: dict[str, Counts] = {}
    for kind in kinds:
        if kind.template == OWN:
            continue
        added(tiers, kind.tier, kind.counts)
        for tag in kind.tags:
            added(tags, tag, kind.counts)
    for tag, counts in changes.items():
        added(tags, tag, counts)
    return CacheReport(
        since=statistics.since,
        span=span,
        memory=size,
        redis=redis,
        total=figures("total", _total(templates)),
        templates=_ordered(_of_kind(kind) for kind in kinds),
        tiers=_ordered(figures(name, counts) for name, counts in tiers.items()),
        tags=_ordered(figures(name, counts) for name, counts in tags.items()),
        endpoints=_ordered(figures(name, counts) for name, counts in endpoints.items()),
        moments=[Moment(one.at, figures("total", _total(one.counts))) for one in slices],
        advice=advise(kinds, size, redis_is_away=redis == "away"),
        unused=sorted(name for name, template in declared if template not in read),
    )


def figures(name: str, counts: Counts) -> Figures:
    """The figures of some counts."""
    size = counts.bytes_a_value
    same = {field: getattr(counts, field) for field in _SAME}
    return Figures(
        name=name,
        hit_rate=counts.hit_rate,
        hit_microseconds=_mean(counts.hit_seconds, counts.timed, 1e6),
        shared_milliseconds=_mean(counts.shared_seconds, counts.shared, 1e3),
        load_milliseconds=_mean(counts.load_seconds, counts.loads + counts.failures, 1e3),
        bytes=None if size is None else round(size),
        **same,
    )


_SAME = ("reads", *(name for name in Figures.__struct_fields__ if name in Counts.__struct_fields__ and name != "bytes"))


def _of_kind(kind: Kind) -> Figures:
    made = figures(kind.template, kind.counts)
    return msgspec.structs.replace(made, tier=kind.tier, ttl=kind.options.ttl, tags=sorted(kind.tags))


def _summed(series: Series, span: Span) -> tuple[dict[str, Counts], list[Slice]]:
    if span == "start":
        return series.total(), []
    slices = series.minutes() if span == "hour" else series.hours()
    found: dict[str, Counts] = {}
    for one in slices:
        for name, counts in one.counts.items():
            added(found, name, counts)
    return found, slices


def _total(counts: Mapping[str, Counts]) -> Counts:
    total = Counts()
    for name, one in counts.items():
        if name != OWN:
            total = total.plus(one)
    return total


def _ordered(rows: Iterable[Figures]) -> list[Figures]:
    return sorted(rows, key=lambda row: (-row.reads, -row.changes, row.name))


def _mean(sum: float, count: int, scale: float) -> float | None:
    return round(scale * sum / count, 3) if count else None
