"""The script in Redis decides what the rules say, to the microsecond: on one server and on a cluster."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.guard.limits.memory import MemoryLimits
from holdfast.guard.limits.redis import RedisLimits
from holdfast.guard.limits.script import HIT, TIME
from holdfast.guard.limits.window import Demand
from holdfast.store.redis import Redis
from tests.guard.checks import (
    DENIED_COUNT_TOO,
    NOTHING_LEAVES,
    ONE_COUNTS_THOUGH_ANOTHER_DENIES,
    ONE_MORE,
    SECOND,
    Admitted,
    most_in_any_window,
)

START = 1_700_000_000 * SECOND
WINDOW = 600 * SECOND  # long beside the test, whose keys end by the real clock
WIDTH = WINDOW // 100

pauses = st.one_of(
    st.integers(0, 3),
    st.integers(0, 2 * WINDOW),
    st.sampled_from([WINDOW, WINDOW - 1, WINDOW // 2, WIDTH, WIDTH - 1, WIDTH + 1]),
)
# Small limits, and one of sub-windows whose calls cost so much that a few fill it.
limits = st.lists(
    st.sampled_from([("a", 0), ("a", 3), ("b", 7), ("b", 2_500), ("c", 20_000), ("d", 12_000)]),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
)
calls = st.lists(st.tuples(pauses, st.sampled_from([1, 1, 2, 3, 1_001, 6_000]), st.booleans()), max_size=25)
_names = itertools.count()


class Set:
    """A clock that the test sets, for the rules and for the script."""

    def __init__(self, redis: Redis, tag: str, script: str) -> None:
        self.now = START
        self.here = MemoryLimits(clock=lambda: self.now)
        text = script.replace(TIME, f"local now = tonumber(redis.call('GET', '{{{tag}}}:clock'))")
        assert text != script
        self.there = RedisLimits(redis, script=text)
        self._redis, self._tag = redis, tag

    async def put(self, now: int) -> None:
        self.now = now
        name = f"{{{self._tag}}}:clock"
        await self._redis.ask(lambda client: client.set(name, now), name)


async def differs(redis: Redis, script: str, limits: Any, calls: Any) -> str | None:
    """In what the script differs from the rules; None: in nothing."""
    tag = f"t{next(_names)}"
    clocks = Set(redis, tag, script)
    demands = [Demand(f"{{{tag}}}:{name}:{most > 10_000}", most, WINDOW) for name, most in limits]
    for pause, cost, charge in calls:
        await clocks.put(clocks.now + pause)
        here = clocks.here.ask(demands, cost, charge=charge)
        there = await clocks.there.ask(demands, cost, charge=charge)
        if (here.passes, here.said) != (there.passes, there.said):
            return f"{cost} at {clocks.now}: rules {here}, script {there}"
        waits = [said.wait for said in here.said]
        if waits and min(waits) >= 0 and max(waits) > 0:
            now = clocks.now
            for then, passes in ((now + max(waits), True), (now + max(waits) - 1_000, False)):
                await clocks.put(then)
                if (await clocks.there.ask(demands, cost, charge=False)).passes != passes:
                    return f"{cost} at {now}: {max(waits)} is not the wait"
            clocks.now = now
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(limits=limits, calls=calls)
async def test_what_the_script_says_is_what_the_rules_say(redis: Redis, limits: Any, calls: Any) -> None:
    assert await differs(redis, HIT, limits, calls) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    calls=st.lists(st.tuples(st.integers(-2 * WINDOW, 2 * WINDOW), st.integers(1, 3)), max_size=25),
    is_exact=st.booleans(),
)
async def test_where_the_servers_clock_is_set_back_it_stands_still_until_it_has_caught_up(
    redis: Redis, calls: Any, is_exact: bool
) -> None:
    tag = f"t{next(_names)}"
    clocks = Set(redis, tag, HIT)
    most, unit = (4, 1) if is_exact else (40_000, 10_000)
    admitted: list[Admitted] = []
    latest = 0
    for step, cost in calls:
        await clocks.put(clocks.now + step)
        answer = await clocks.there.ask([Demand(f"{{{tag}}}:k", most, WINDOW)], cost * unit, charge=True)
        if answer.passes:
            latest = max(latest, clocks.now)
            admitted.append(Admitted(latest, cost * unit))
    assert most_in_any_window(admitted, WINDOW) <= most


@pytest.mark.parametrize("fault", [ONE_MORE, DENIED_COUNT_TOO, ONE_COUNTS_THOUGH_ANOTHER_DENIES, NOTHING_LEAVES])
async def test_a_fault_in_the_script_is_seen(redis: Redis, fault: str) -> None:
    assert fault != HIT
    calls = [(0, 1, True), (0, 2, True), (1, 1, True), (1, 1, True), (WINDOW, 1, True), (1, 1, True), (1, 1, False)]
    assert await differs(redis, HIT, [("a", 3), ("b", 7)], calls) is None
    assert await differs(redis, fault, [("a", 3), ("b", 7)], calls) is not None


@pytest.mark.parametrize("users", [1, 5])
async def test_scripts_that_were_flushed_are_sent_again(redis: Redis, users: int) -> None:
    limits = RedisLimits(redis)
    demands = [Demand(f"{{flushed{number}}}:k", 10, WINDOW) for number in range(users)]

    async def flush() -> None:
        for _ in range(10):
            for server in await redis.primaries():
                await server.ask(lambda client: client.script_flush())
            await asyncio.sleep(0.001)

    async def hit(demand: Demand) -> bool:
        await asyncio.sleep(0.001)
        return (await limits.ask([demand], 1, charge=True)).passes

    outcomes = await asyncio.gather(flush(), *(hit(demand) for _ in range(30) for demand in demands))
    assert sum(map(bool, outcomes[1:])) == 10 * users


async def size(redis: Redis, name: str) -> int:
    """Bytes."""
    return await redis.ask(lambda client: client.memory_usage(name, samples=0), name) or 0


async def test_what_is_kept_ends_by_itself_and_a_call_takes_ten_bytes(redis: Redis) -> None:
    limits = RedisLimits(redis)
    exact, counted = Demand("{size}:log", 1_000, 2 * SECOND), Demand("{size}:sub", 1_000_000, 2 * SECOND)
    for _ in range(1_000):
        await limits.ask([exact, counted], 1, charge=True)
    assert await size(redis, exact.name) < 12_000
    assert await size(redis, counted.name) < 3_000
    await asyncio.sleep(2.5)
    for one in (exact, counted):
        assert not await redis.ask(lambda client, n=one.name: client.exists(n), one.name)  # type: ignore[misc]
