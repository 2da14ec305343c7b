"""What is told of the cache: figures of the time that was asked for, and advice that says what to do."""

from __future__ import annotations

import pytest

from holdfast.cache.advice import advise
from holdfast.cache.counts import Counts
from holdfast.cache.memory import Size
from holdfast.cache.options import Options
from holdfast.cache.report import reported
from holdfast.cache.statistics import Kind, Statistics

ROOM = Size(10, 10, 100)
FULL = Size(100, 100, 100)


def kind(counts: Counts, **options: object) -> Kind:
    return Kind("user:*", Options.of(**options), counts)


@pytest.mark.parametrize(
    ("counts", "size", "state", "detail", "do"),
    [
        (Counts(loads=20, failures=5), ROOM, "wrong", "20% of 25 loads failed", "fail_safe="),
        (Counts(hits=300, stale=10), ROOM, "wrong", "3% of 300 reads got an older value", "soft_timeout"),
        (Counts(hits=50, misses=250, expired=200), ROOM, "note", "80% of the misses had ended by time", "ttl=300"),
        (Counts(hits=50, misses=250, changed=200), ROOM, "note", "80% of the misses had been changed", "narrower tags"),
        (Counts(hits=50, misses=250, evicted=240), FULL, "note", "memory is full", "HOLDFAST_CACHE_CAPACITY"),
        (Counts(hits=50, misses=250, evicted=240), ROOM, "note", "asked for once", "warm it"),
        (
            Counts(hits=900, misses=100, loads=100, load_seconds=90),
            ROOM,
            "note",
            "a load takes 0.90 s",
            "refresh_ahead",
        ),
        (Counts(hits=1, measured=2, bytes=4_000_000), ROOM, "note", "a value takes 2.0 MB", "weight"),
    ],
)
def test_what_is_off_is_told_with_what_to_do(counts: Counts, size: Size, state: str, detail: str, do: str) -> None:
    [advice] = advise([kind(counts)], size)
    assert (advice.state, advice.about) == (state, "user:*")
    assert detail in advice.detail
    assert do in advice.do


@pytest.mark.parametrize(
    "counts",
    [
        Counts(),
        Counts(hits=10, misses=150, expired=150),  # too few to say
        Counts(hits=900, misses=100, changed=100, loads=100, load_seconds=1.0),
        Counts(hits=1_000, loads=1_000, failures=10),
    ],
)
def test_what_is_well_is_not_told(counts: Counts) -> None:
    assert advise([kind(counts)], FULL) == []


def test_a_slow_load_that_nobody_waits_for_is_well() -> None:
    counts = Counts(hits=900, misses=100, loads=100, load_seconds=90)
    assert advise([kind(counts, refresh_ahead=1)], ROOM) == []
    assert advise([kind(counts, soft_timeout=0.1)], ROOM) == []


def test_alerts_come_first() -> None:
    found = advise([kind(Counts(hits=50, misses=250))], ROOM, redis_is_away=True)
    assert [(advice.state, advice.about) for advice in found] == [("wrong", "redis"), ("note", "user:*")]


def test_figures_are_of_the_time_that_was_asked_for() -> None:
    now = [0.0]
    statistics = Statistics(lambda: now[0])
    options = Options.of(ttl="1h")
    for hour in range(3):
        now[0] = 3_600.0 * hour
        statistics.turn()
        tally = statistics.tally("user:1", options)
        tally.hit()
        tally.missed()
        tally.loaded(0.5, ("city:7",), lambda: 100)
        statistics.changed(["city:7", "city:8"])
    reports = {span: reported(statistics, ROOM, "none", span) for span in ("hour", "days", "start")}  # type: ignore[arg-type]
    assert {span: report.total.reads for span, report in reports.items()} == {"hour": 2, "days": 6, "start": 6}
    report = reports["days"]
    assert [(moment.at, moment.figures.reads) for moment in report.moments] == [(0, 2), (3_600, 2), (7_200, 2)]
    [template] = report.templates
    assert (template.name, template.tier, template.ttl, template.tags) == ("user:*", "cold", 3_600.0, ["city:*"])
    assert (template.hit_rate, template.load_milliseconds, template.bytes) == (0.5, 500.0, 100)
    [tag] = report.tags
    assert (tag.name, tag.reads, tag.changes) == ("city:*", 6, 6)
    assert [tier.name for tier in report.tiers] == ["cold"]
    assert reports["start"].moments == []
