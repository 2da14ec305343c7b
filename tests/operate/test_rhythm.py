"""When a schedule is due, and what becomes of what was missed."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError
from holdfast.operate.rhythm import GRACE, Rhythm, moment_of, retry_after, time_of, turn

CRONS = ("* * * * *", "*/7 * * * *", "0 2 * * *", "30 4 1,15 * 5", "0 0 29 2 *", "*/10 * * * * *", "0 12 * * MON-FRI")
rhythms = st.one_of(
    st.sampled_from([Rhythm.of(cron, None) for cron in CRONS]),
    st.integers(100, 90_000_000).map(lambda every: Rhythm(every=every)),
)
moments = st.integers(0, moment_of(dt.datetime(2090, 1, 1, tzinfo=dt.UTC)))


def at(text: str) -> int:
    return moment_of(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC))


@given(rhythms, moments)
def test_the_next_turn_is_beyond_and_the_last_is_not_and_none_lies_between(rhythm: Rhythm, moment: int) -> None:
    following, last = rhythm.after(moment), rhythm.last(moment)
    assert last <= moment < following
    assert rhythm.after(last) == following
    assert rhythm.last(following) == following
    assert rhythm.last(following - 1) == last
    assert Rhythm.parse(str(rhythm)) == rhythm


@given(rhythms, moments, st.integers(0, 40))
def test_all_takes_every_missed_turn_once_and_in_order(rhythm: Rhythm, start: int, missed: int) -> None:
    expected = [due := rhythm.after(start)]
    for _ in range(missed):
        expected.append(rhythm.after(expected[-1]))
    now, taken = expected[-1], []
    while due <= now:
        step = turn(rhythm, "all", due, now)
        taken.append(step.planned)
        due = step.following
    assert taken == expected


@given(rhythms, moments, st.integers(0, 10**10))
def test_once_takes_the_newest_and_skip_only_when_it_is_not_late(rhythm: Rhythm, start: int, later: int) -> None:
    due = rhythm.after(start)
    now = due + later
    once, skip = turn(rhythm, "once", due, now), turn(rhythm, "skip", due, now)
    assert once.planned == max(due, rhythm.last(now))
    assert once.following == skip.following == rhythm.after(now)
    assert skip.planned == (once.planned if now - once.planned <= GRACE else None)


def test_turns_of_a_cron_expression_are_utc() -> None:
    nightly = Rhythm.of(" 0  2 * * * ", None)
    assert str(nightly) == "0 2 * * *"
    assert time_of(nightly.after(at("2026-03-29 00:30"))) == dt.datetime(2026, 3, 29, 2, tzinfo=dt.UTC)
    assert turn(nightly, "once", at("2026-03-01 02:00"), at("2026-03-29 13:00")).planned == at("2026-03-29 02:00")
    assert Rhythm.of(None, 3600).after(at("2026-01-01 10:17")) == at("2026-01-01 11:00")


@pytest.mark.parametrize(
    ("cron", "every", "told"),
    [
        ("61 * * * *", None, "no cron expression"),
        ("*/61 * * * *", None, "no cron expression"),
        ("0 0 */99999999999999999999 * *", None, "no cron expression"),
        ("0 0 31 2 *", None, "no cron expression"),
        ("", None, "no cron expression"),
        ("@daily", None, "no cron expression"),
        ("* * * * *", 5.0, "not both"),
        (None, None, "not both"),
        (None, 0.0, "0.1 seconds"),
        (None, -3.0, "0.1 seconds"),
        (None, float("nan"), "0.1 seconds"),
        (None, float("inf"), "366 days"),
    ],
)
def test_what_has_no_moments_is_refused(cron: str | None, every: float | None, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Rhythm.of(cron, every)


@given(st.integers(-5, 10_000))
def test_a_failure_is_never_tried_again_at_once_nor_much_later(failures: int) -> None:
    assert 10_000 <= retry_after(failures) <= retry_after(failures + 1) <= 3_600_000
