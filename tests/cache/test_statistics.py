"""What is counted of the cache: by template, tier, tag, endpoint and time; each read once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Holdfast, Load, cached
from holdfast.cache.counts import NAMES, OTHERS, Counts, Series
from holdfast.cache.statistics import template_of
from holdfast.errors import ConfigurationError
from tests.cache.loans import Loans, lend

WORDS = ("hits", "shared", "misses", "changed", "expired", "evicted", "bypassed", "stale", "loads", "failures")


def counted(hold: Holdfast, template: str) -> dict[str, int]:
    """What happened to the values of a template, without what did not."""
    counts = hold.cache.statistics.templates.total()[template]
    return {word: getattr(counts, word) for word in WORDS if getattr(counts, word)}


async def test_each_read_is_counted_once(hold: Holdfast, loans: Loans) -> None:
    await lend(hold, "ada", "Dune")
    for _ in range(4):
        await hold.cache.get_or_load("titles:ada", loans)
    assert await hold.cache.get("titles:ada") == ["Dune"]
    assert counted(hold, "titles:*") == {"hits": 4, "misses": 1, "loads": 1}
    await lend(hold, "ada", "Emma")
    await hold.cache.get_or_load("titles:ada", loans)
    assert await hold.cache.get("titles:bob") is None
    assert counted(hold, "titles:*") == {"hits": 4, "misses": 3, "changed": 1, "loads": 2}
    [kind] = hold.cache.statistics.kinds()
    assert (kind.template, kind.tier, kind.tags) == ("titles:*", "hot", {"reader:*"})
    totals = hold.cache.statistics.templates.total()["titles:*"]
    assert totals.load_seconds > 0
    assert totals.bytes_a_value == 6  # ["Dune"] as msgpack


async def test_what_another_node_loaded_is_a_shared_read(hold: Holdfast, other: Holdfast, loans: Loans) -> None:
    await hold.cache.get_or_load("titles:ada", loans)
    await asyncio.sleep(0.1)  # until it is in Redis, if there is one
    await other.cache.get_or_load("titles:ada", loans)
    await other.cache.get_or_load("titles:ada", loans)
    first = {"shared": 1} if hold.settings.redis_url else {"misses": 1, "loads": 1}
    assert counted(other, "titles:*") == {"hits": 1, **first}


async def test_a_value_that_ended_by_itself_is_told_from_one_that_was_changed(hold: Holdfast) -> None:
    async def one(load: Load) -> int:
        return 1

    for _ in range(2):
        await hold.cache.get_or_load("short:1", one, ttl=0.05)
        await asyncio.sleep(0.1)
    assert counted(hold, "short:*") == {"misses": 2, "loads": 2, "expired": 1}


async def test_what_gave_way_is_counted(hold: Holdfast) -> None:
    async def heavy(load: Load) -> str:
        load.weight(hold.settings.cache_capacity // 2)
        return "x"

    for number in range(20):
        await hold.cache.get_or_load(f"heavy:{number}", heavy)
    size = hold.cache.size()
    assert (size.entries, size.weight, size.capacity) == (2, 100_000, 100_000)
    assert counted(hold, "heavy:*")["evicted"] == 18


async def test_failures_and_older_values_are_counted(hold: Holdfast) -> None:
    class Broken(Exception):
        pass

    async def load_once(load: Load) -> int:
        if load.older is None and not loaded:
            loaded.append(1)
            return 1
        raise Broken

    loaded: list[int] = []
    await hold.cache.get_or_load("k:1", load_once, ttl=0.05, fail_safe="1m")
    await asyncio.sleep(0.1)
    for _ in range(2):  # the second one finds that it is not to be tried again yet
        assert (await hold.cache.lookup("k:1", load_once, ttl=0.05, fail_safe="1m")).stale
    with pytest.raises(Broken):
        await hold.cache.get_or_load("k:2", load_once)
    counts = counted(hold, "k:*")
    assert {word: counts[word] for word in ("loads", "failures", "stale", "misses")} == {
        "loads": 1,
        "failures": 2,
        "stale": 2,
        "misses": 4,
    }


async def test_a_unit_that_has_written_leaves_the_cache_alone(hold: Holdfast, loans: Loans) -> None:
    async with hold.unit() as unit:
        await unit.execute("UPDATE loans SET title = title")
        await hold.cache.get_or_load("titles:ada", loans)
    assert counted(hold, "titles:*") == {"bypassed": 1}


async def test_many_reads_are_counted_one_by_one(hold: Holdfast) -> None:
    async def squares(load: Any) -> dict[str, int]:
        return dict.fromkeys(load.keys, 1)

    keys = [f"square:{number}" for number in range(5)]
    await hold.cache.get_or_load_many(keys[:3], squares)
    await hold.cache.get_or_load_many(keys, squares)
    assert len(await hold.cache.get_many(keys)) == 5
    assert counted(hold, "square:*") == {"misses": 5, "loads": 5, "hits": 8}


async def test_a_function_is_counted_by_its_template_and_a_namespace_by_its_name(hold: Holdfast) -> None:
    @cached(key="order:{order_id}:{state}", ttl="1h")
    async def orders(order_id: int, state: str) -> list[int]:
        return [order_id]

    for _ in range(3):
        await orders(1, "open")
    assert counted(hold, "order:{order_id}:{state}") == {"hits": 2, "misses": 1, "loads": 1}
    space = hold.cache.namespace("space", ttl="10m")
    await space.set("a:b:c", 1)
    assert await space.get("a:b:c") == 1
    assert await space.get("a:b:d") is None
    assert counted(hold, "space:*") == {"hits": 1, "misses": 1}
    report = hold.cache.report()
    assert {tier.name: tier.reads for tier in report.tiers} == {"cold": 3, "warm": 2}


async def test_reads_are_counted_by_kind_of_tag_with_what_changed(hold: Holdfast, loans: Loans) -> None:
    await hold.cache.get_or_load("titles:ada", loans)
    await hold.cache.get_or_load("titles:ada", loans)
    await lend(hold, "ada", "Dune", "Emma")
    await hold.cache.renew()
    [found] = [tag for tag in hold.cache.report().tags if tag.name == "reader:*"]
    assert (found.hits, found.misses, found.changes) == (1, 1, 2)


async def test_reads_are_counted_by_endpoint(hold: Holdfast, loans: Loans) -> None:
    await hold.cache.get_or_load("titles:ada", loans)

    async def answer(name: str, reads: int) -> None:
        with hold.cache.counted_as(name):
            for _ in range(reads):
                await asyncio.sleep(0)
                await hold.cache.get_or_load("titles:ada", loans)

    await asyncio.gather(answer("GET /a", 3), answer("GET /b", 5))
    found = hold.cache.statistics.endpoints.total()
    assert {name: counts.hits for name, counts in found.items()} == {"GET /a": 3, "GET /b": 5}
    assert counted(hold, "titles:*")["hits"] == 8


async def test_a_name_that_is_none_is_refused(hold: Holdfast) -> None:
    with pytest.raises(ConfigurationError, match="counted_as=''"):
        await hold.cache.set("k", 1, counted_as="")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 50))))
def test_the_slices_of_an_hour_and_of_two_days_are_all_that_happened(steps: list[tuple[str, int, float]]) -> None:
    now = [1_000_000.0]
    series = Series(lambda: now[0])
    for name, hits, seconds in steps:
        series.of(name).hits += hits
        now[0] += seconds
        series.turn()
    total = {name: counts.hits for name, counts in series.total().items()}
    for slices in (series.minutes(), series.hours()):
        starts = [one.at for one in slices]
        assert starts == sorted(set(starts))
        found: dict[str, int] = {}
        for one in slices:
            for name, counts in one.counts.items():
                found[name] = found.get(name, 0) + counts.hits
        if now[0] < 1_000_000.0 + 3_000:
            assert found == total


def test_a_slice_has_what_happened_in_it_alone() -> None:
    now = [600.0]
    series = Series(lambda: now[0])
    series.of("a").hits += 1
    now[0] = 661.0
    series.turn()
    series.of("b").misses += 2
    now[0] = 60 * 60.0
    first, *_, last = series.minutes()
    assert (first.at, first.counts) == (600, {"a": Counts(hits=1)})
    assert (last.at, last.counts) == (60 * 60, {})
    assert sum(one.counts.get("b", Counts()).misses for one in series.minutes()) == 2
    for _ in range(80):
        now[0] += 60
        series.turn()
    assert len(series.minutes()) == 60
    now[0] += 3_600
    assert len(series.minutes()) == 1


def test_what_comes_after_the_first_thousand_names_is_counted_together() -> None:
    series = Series()
    for number in range(NAMES + 50):
        series.of(f"name {number}").hits += 1
    total = series.total()
    assert len(total) == NAMES + 1
    assert total[OTHERS].hits == 50


def test_a_key_without_a_template_is_counted_without_its_last_part() -> None:
    assert [template_of(key) for key in ("a", "a:1", "a:b:2")] == ["a", "a:*", "a:b:*"]


def test_rates_of_nothing_are_none() -> None:
    nothing = Counts()
    assert (nothing.hit_rate, nothing.seconds_a_load, nothing.bytes_a_value) == (None, None, None)
    counts = Counts(hits=3, shared=1, misses=4, loads=3, failures=1, load_seconds=2.0)
    assert (counts.reads, counts.hit_rate, counts.seconds_a_load) == (8, 0.5, 0.5)
