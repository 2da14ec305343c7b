"""Limits in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from holdfast.guard.limits.memory import MemoryLimits
from holdfast.guard.limits.window import Answer, Demand
from tests.guard.checks import SECOND, Admitted, most_in_any_window

MINUTE = 60 * SECOND


class Clock:
    def __init__(self) -> None:
        self.now = 10**9

    def __call__(self) -> int:
        return self.now


def limits_with_clock(capacity: int = 100_000) -> tuple[MemoryLimits, Clock]:
    clock = Clock()
    return MemoryLimits(capacity=capacity, clock=clock), clock


def hit(limits: MemoryLimits, *demands: Demand, cost: int = 1) -> Answer:
    return limits.ask(demands, cost, charge=True)


def used(limits: MemoryLimits, *demands: Demand) -> list[int]:
    return [said.used for said in limits.ask(demands, 1, charge=False).said]


def test_where_one_of_several_limits_denies_none_counts() -> None:
    limits, clock = limits_with_clock()
    wide, narrow = Demand("wide", 10, MINUTE), Demand("narrow", 2, SECOND)
    for _ in range(2):
        assert hit(limits, wide, narrow).passes
    for _ in range(5):
        answer = hit(limits, wide, narrow)
        assert not answer.passes
        assert [said.wait for said in answer.said] == [0, SECOND]
    assert used(limits, wide, narrow) == [2, 2]
    clock.now += SECOND
    assert used(limits, wide, narrow) == [2, 0]


def test_looking_counts_nothing_and_keeps_nothing() -> None:
    limits, _ = limits_with_clock()
    demand = Demand("k", 1, MINUTE)
    for _ in range(3):
        assert limits.ask([demand], 1, charge=False).passes
    assert len(limits) == 0
    assert hit(limits, demand).passes
    assert not limits.ask([demand], 1, charge=False).passes


def test_a_limit_of_nothing_and_a_call_that_costs_more_than_the_limit_never_pass_and_keep_nothing() -> None:
    limits, _ = limits_with_clock()
    assert hit(limits, Demand("k", 0, MINUTE)).said[0].wait == -1
    assert hit(limits, Demand("k", 5, MINUTE), cost=6).said[0].wait == -1
    assert hit(limits, Demand("k", 20_000, MINUTE), cost=20_001).said[0].wait == -1
    assert len(limits) == 0


def test_what_is_idle_leaves() -> None:
    limits, clock = limits_with_clock()
    for number in range(1_000):
        hit(limits, Demand(f"k{number}", 5, MINUTE))
        hit(limits, Demand(f"k{number}", 50_000, 2 * MINUTE))
    assert len(limits) == 2_000
    clock.now += 3 * MINUTE
    for _ in range(1_100):
        hit(limits, Demand("only", 10_000, MINUTE))
    assert len(limits) == 1


def test_those_for_whom_there_is_no_room_share_and_memory_stays_what_it_is() -> None:
    limits, clock = limits_with_clock(capacity=100)
    for number in range(100):
        assert hit(limits, Demand(f"early{number}", 3, MINUTE)).passes
    for number in range(5_000):
        hit(limits, Demand(f"late{number}", 3, MINUTE))
    assert len(limits) <= 100 + 256
    # Those who were first have their own.
    assert hit(limits, Demand("early7", 3, MINUTE), cost=2).passes
    clock.now += MINUTE
    assert hit(limits, Demand("late7", 3, MINUTE), cost=3).passes


names = st.sampled_from([f"user{number}" for number in range(30)])


@given(
    st.lists(st.tuples(names, st.integers(0, 2 * SECOND), st.integers(1, 3)), max_size=150),
    st.integers(0, 6),
    st.sampled_from([4, 20_000]),
)
def test_nobody_passes_more_often_than_the_limit_says_whether_there_is_room_or_not(
    calls: Sequence[tuple[str, int, int]], capacity: int, most: int
) -> None:
    limits, clock = limits_with_clock(capacity)
    admitted: dict[str, list[Admitted]] = {}
    unit = most // 4  # so that four calls fill it
    for name, pause, cost in calls:
        clock.now += pause
        if hit(limits, Demand(name, most, 10 * SECOND), cost=cost * unit).passes:
            admitted.setdefault(name, []).append(Admitted(clock.now, cost * unit))
    for one in admitted.values():
        assert most_in_any_window(one, 10 * SECOND) <= most


def test_a_call_costs_microseconds() -> None:
    limits = MemoryLimits()
    demand = Demand("k", 10_000, 10 * MINUTE)
    began = time.perf_counter()
    for _ in range(20_000):
        hit(limits, demand)
    assert time.perf_counter() - began < 2.0
