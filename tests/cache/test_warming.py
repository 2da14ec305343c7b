"""What is loaded before somebody asks: declared sets, at the start and again before they end, in order and in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from holdfast import Holdfast, cached, warms
from holdfast.cache import warming
from holdfast.cache.warming import Progress
from holdfast.cache.warming_turns import WarmingTurns
from holdfast.errors import ConfigurationError, InvalidValue


@pytest.fixture(autouse=True)
def sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set but those of the test."""
    monkeypatch.setattr(warming, "_sets", {})


class Prices:
    """A cached function that notes its loads."""

    def __init__(self, **options: Any) -> None:
        self.loads: list[str] = []
        self.broken: set[str] = set()
        self.under_way = self.most = 0

        @cached(key="price:{symbol}", tags=("prices",), **{"ttl": "60s", "max_staleness": "30s", **options})
        async def price(symbol: str) -> float:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.loads.append(symbol)
            await asyncio.sleep(0.005)
            self.under_way -= 1
            if symbol in self.broken:
                raise OSError("no such price")
            return float(len(self.loads))

        self.price = price


async def test_what_is_declared_is_there_before_somebody_asks(hold: Holdfast) -> None:
    prices = Prices()

    @warms(prices.price)
    async def quoted() -> list[Any]:
        return ["BTC", ("ETH",), {"symbol": "SOL"}]

    [done] = await hold.cache.warmer.run()
    assert (done.keys, done.loaded, done.kept, done.failed, done.error) == (3, 3, 0, 0, None)
    assert (done.template, done.name.endswith("quoted")) == ("price:{symbol}", True)
    for symbol in ("BTC", "ETH", "SOL"):
        await prices.price(symbol)
    assert sorted(prices.loads) == ["BTC", "ETH", "SOL"]
    assert hold.cache.report().total.hits == 3
    assert hold.cache.report().total.misses == 0
    [again] = await hold.cache.warmer.run()
    assert (again.loaded, again.kept) == (0, 3)
    assert hold.cache.warmer.last == {again.name: again}


async def test_a_value_that_was_changed_is_loaded_anew_and_one_that_would_end_too_soon(hold: Holdfast) -> None:
    prices = Prices(ttl="60s")

    @warms(prices.price, every="40s")
    async def quoted() -> list[str]:
        return ["BTC"]

    await hold.cache.warmer.run()
    assert [done.kept for done in await hold.cache.warmer.run()] == [1]
    await hold.cache.invalidate("prices")
    assert [done.loaded for done in await hold.cache.warmer.run()] == [1]

    brief = Prices(ttl="60s")

    @warms(brief.price, every="59s")  # with what a pass may be late it lasts longer than the value
    async def closely() -> list[str]:
        return ["BTC"]

    for _ in range(2):
        done = {one.name.rpartition(".")[2]: one.loaded for one in await hold.cache.warmer.run()}
    assert done["closely"] == 1


async def test_what_another_node_has_warmed_is_taken_from_redis(hold: Holdfast, other: Holdfast) -> None:
    prices = Prices()

    @warms(prices.price)
    async def quoted() -> list[str]:
        return ["BTC", "ETH"]

    await hold.cache.warmer.run()
    await asyncio.sleep(0.2)  # until it is in Redis, if there is one
    await other.cache.warmer.run()
    assert len(prices.loads) == (2 if hold.settings.redis_url else 4)
    assert [other.cache.peek(f"price:{symbol}") for symbol in ("BTC", "ETH")] != [None, None]


async def test_a_key_that_fails_and_a_set_that_fails_are_told_and_the_others_are_warmed(hold: Holdfast) -> None:
    prices = Prices()
    prices.broken = {"ETH"}

    @warms(prices.price, priority=1)
    async def quoted() -> list[Any]:
        return ["BTC", "ETH", "SOL"]

    @warms(prices.price)
    async def mistaken() -> list[Any]:
        return [("too", "many")]

    @warms(prices.price)
    async def nothing() -> list[str]:
        raise RuntimeError("who knows")

    first, wrong, second = await hold.cache.warmer.run()
    assert (first.loaded, first.failed) == (2, 1)
    assert first.error is not None
    assert "'ETH': no such price" in first.error
    assert (wrong.failed, "2 were given" in str(wrong.error)) == (1, True)
    assert (second.keys, second.error) == (0, "who knows")


async def test_the_most_important_set_goes_first_and_then_what_is_read_most(hold: Holdfast) -> None:
    functions: dict[str, Any] = {}
    for name in "abc":

        @cached(key=f"{name}:{{n}}")
        async def value(n: int, name: str = name) -> int:
            return n

        functions[name] = value
    for name, priority in (("a", 0), ("b", 0), ("c", 5)):

        async def calls() -> list[int]:
            return [1]

        calls.__qualname__ = name
        warms(functions[name], priority=priority)(calls)
    for _ in range(3):
        await functions["b"](7)
    done = await hold.cache.warmer.run()
    assert [one.template for one in done] == ["c:{n}", "b:{n}", "a:{n}"]


async def test_warming_keeps_to_its_rates_and_says_how_far_it_is(hold: Holdfast) -> None:
    prices = Prices()

    @warms(prices.price)
    async def quoted() -> list[str]:
        return [f"S{number}" for number in range(20)]

    said: list[Progress] = []
    began = time.perf_counter()
    [done] = await hold.cache.warmer.run(per_second=100, at_once=3, progress=said.append)
    assert time.perf_counter() - began >= 0.19
    assert done.loaded == 20
    assert 1 <= prices.most <= 3
    assert [one.done for one in said] == list(range(21))
    assert {one.keys for one in said} == {20}


async def test_a_set_is_warmed_at_the_start_and_again_before_its_values_end(hold: Holdfast) -> None:
    prices = Prices(ttl="600ms")

    @warms(prices.price, every="200ms")
    async def quoted() -> list[str]:
        return ["BTC"]

    hold.cache.warmer.start()
    async with asyncio.timeout(30):
        while not prices.loads:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)
        while len(prices.loads) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    [done] = hold.cache.warmer.last.values()
    assert done.error is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"every": "60s"}, "are kept for 60 s"), ({"every": "soon"}, "every='soon'"), ({"every": 0}, "every=0")],
)
async def test_an_interval_that_makes_no_sense_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        warms(Prices().price, **arguments)


async def test_what_is_not_cached_or_not_async_cannot_be_warmed(hold: Holdfast) -> None:
    async def plain() -> list[int]:
        return []

    with pytest.raises(ConfigurationError, match="takes a function under @cached"):
        warms(plain)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="must be async"):
        warms(Prices().price)(list)  # type: ignore[type-var,arg-type,return-value]
    with pytest.raises(InvalidValue, match="there is no set 'x'"):
        await hold.cache.warmer.run(["x"])
    with pytest.raises(InvalidValue, match="must be more than 0"):
        await hold.cache.warmer.run(per_second=0)


async def test_a_value_is_loaded_anew_when_it_is_asked_for_and_not_within_a_unit_that_has_written(
    hold: Holdfast,
) -> None:
    prices = Prices()
    assert await prices.price("BTC") == 1.0
    assert await prices.price.refresh("BTC") is True
    assert await prices.price("BTC") == 2.0
    async with hold.unit() as unit:
        await unit.execute("UPDATE loans SET title = title")
        assert await prices.price.refresh("BTC") is False
    assert prices.loads == ["BTC", "BTC"]


async def test_a_set_that_hangs_or_is_large_keeps_no_other_from_being_warmed(hold: Holdfast) -> None:
    passes, never = 0, asyncio.Event()

    @cached(key="slow:{number}", ttl="60s", lease="0.1s")
    async def slow(number: int) -> int:
        await never.wait()
        return number

    @cached(key="quick:{number}", ttl="60s")
    async def quick(number: int) -> int:
        return number

    @cached(key="broken:{number}", ttl="60s")
    async def broken(number: int) -> int:
        raise asyncio.CancelledError

    @warms(slow, priority=1)
    async def hanging() -> list[Any]:
        return list(range(20))

    @warms(broken)
    async def failing() -> list[Any]:
        raise asyncio.CancelledError

    @warms(quick, every="0.1s", priority=10)
    async def important() -> list[Any]:
        nonlocal passes
        passes += 1
        return [passes]

    hold.cache.warmer.start(per_second=1_000, at_once=2)
    async with asyncio.timeout(20):
        while passes < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    last = hold.cache.warmer.last
    assert last[next(name for name in last if name.endswith("failing"))].error == "CancelledError"
    assert not any(name.endswith("hanging") for name in last)


async def test_the_more_important_goes_first() -> None:
    turns = WarmingTurns(per_second=1_000_000, at_once=1)
    first, order = await turns.take(0, 0, patience=60), []

    async def wait(priority: int, reads: int) -> None:
        turn = await turns.take(priority, reads, patience=60)
        order.append((priority, reads))
        turn.end()
        turn.end()  # once is enough

    waiting = [asyncio.create_task(wait(*who)) for who in ((1, 5), (2, 0), (1, 9), (0, 99))]
    left = asyncio.create_task(wait(9, 9))
    await asyncio.sleep(0.01)
    left.cancel()
    first.end()
    await asyncio.gather(*waiting)
    assert order == [(2, 0), (1, 9), (1, 5), (0, 99)]


async def test_turns_begin_no_faster_than_they_may() -> None:
    turns, began = WarmingTurns(per_second=100, at_once=50), time.perf_counter()
    for _ in range(11):
        (await turns.take(0, 0, patience=60)).end()
    assert time.perf_counter() - began >= 0.1
