"""The rules of windows, against a count of everything that was admitted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.guard.limits.window import NEVER, PARTS, Counters, Demand, Log, Window, window_of
from tests.guard.checks import SECOND, Admitted, counted, most_in_any_window

WINDOW = 60 * SECOND

# A pause and a cost; pauses at which calls meet the edges of windows and of sub-windows are likely.
pauses = st.one_of(
    st.integers(0, 3),
    st.integers(0, 2 * WINDOW),
    st.sampled_from([WINDOW, WINDOW - 1, WINDOW + 1, WINDOW // 2, WINDOW // PARTS, WINDOW // PARTS - 1]),
)
calls = st.lists(st.tuples(pauses, st.integers(1, 6)), max_size=60)


@given(calls, st.integers(0, 8), st.integers(0, 10**15))
def test_a_log_lets_through_exactly_what_fits_into_the_window_that_ends_now(
    calls: list[tuple[int, int]], most: int, now: int
) -> None:
    log, admitted = Log(WINDOW), list[Admitted]()
    for pause, cost in calls:
        now += pause
        at = log.at(now)
        fits = counted(admitted, now - WINDOW, now) + cost <= most
        assert log.used == counted(admitted, now - WINDOW, now)
        wait = log.wait(most, cost, now)
        assert (wait == 0) == fits
        if fits:
            log.add(cost, at)
            admitted.append(Admitted(now, cost))
        elif cost > most:
            assert wait == NEVER
        else:
            assert counted(admitted, now + wait - WINDOW, now + wait) + cost <= most
            assert counted(admitted, now + wait - 1 - WINDOW, now + wait - 1) + cost > most
    assert most_in_any_window(admitted, WINDOW) <= most


@given(calls, st.integers(0, 8), st.integers(0, 10**15), st.integers(1, 10**9))
def test_counters_never_let_through_more_and_deny_early_by_one_sub_window_at_most(
    calls: list[tuple[int, int]], most: int, now: int, window: int
) -> None:
    counters, admitted = Counters(window), list[Admitted]()
    width = -(-window // PARTS)
    for pause, cost in calls:
        now += pause * window // WINDOW
        at = counters.at(now)
        wait = counters.wait(most, cost, now)
        if wait == 0:
            counters.add(cost, at)
            admitted.append(Admitted(now, cost))
        elif cost <= most:
            # Only where that much was admitted in a window that is one sub-window longer.
            assert counted(admitted, now - (PARTS + 1) * width, now) + cost > most
            assert _passes(counters, most, cost, now + wait)
            assert not _passes(counters, most, cost, now + wait - 1)
        else:
            assert wait == NEVER
    assert most_in_any_window(admitted, window) <= most


@given(calls, st.booleans(), st.lists(st.integers(-3 * WINDOW, 0), min_size=60, max_size=60))
def test_a_clock_that_is_set_back_stands_still_and_nothing_is_forgotten(
    calls: list[tuple[int, int]], is_exact: bool, steps: list[int]
) -> None:
    window: Window = Log(WINDOW) if is_exact else Counters(WINDOW)
    now, admitted = 10**12, list[Admitted]()
    for (pause, cost), back in zip(calls, steps, strict=False):
        now += pause + (back if back % 3 == 0 else 0)
        at = window.at(now)
        if window.wait(7, cost, now) == 0:
            window.add(cost, at)
            admitted.append(Admitted(at, cost))
    assert [one.at for one in admitted] == sorted(one.at for one in admitted) or not is_exact
    assert most_in_any_window(admitted, WINDOW) <= 7


def test_up_to_ten_thousand_each_call_is_kept_and_above_that_sub_windows_are() -> None:
    assert isinstance(window_of(Demand("k", 10_000, WINDOW)), Log)
    assert isinstance(window_of(Demand("k", 10_001, WINDOW)), Counters)


def test_a_steady_stream_above_the_limit_gets_a_hundredth_less_from_counters() -> None:
    counters, admitted = Counters(WINDOW), 0
    most, windows = 20_000, 20
    step = WINDOW // (3 * most)
    for now in range(0, windows * WINDOW, step):
        at = counters.at(now)
        if counters.wait(most, 1, now) == 0:
            counters.add(1, at)
            admitted += 1
    assert windows * most * PARTS / (PARTS + 1) * 0.99 <= admitted <= windows * most


def _passes(window: Counters, most: int, cost: int, now: int) -> bool:
    then = window.copy()
    then.at(now)
    return then.wait(most, cost, now) == 0
