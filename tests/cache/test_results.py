"""The table of results: what outlives Redis and processes, and is trusted as little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast import Holdfast, Load
from holdfast.cache import LoadMany, Options
from holdfast.cache import results as results_module
from holdfast.errors import Unavailable
from tests.backends import settings_for
from tests.cache.loans import Base, Loan, Loans, lend
from tests.cache.members import reading


@asynccontextmanager
async def node(url: str, redis_url: str | None, *, migrate: bool = False) -> AsyncIterator[Holdfast]:
    settings = settings_for(url, redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata, migrate=migrate) as hold:
        await hold.cache.renew()
        yield hold


@pytest.fixture(params=("sqlite", "postgres", "postgres+redis", "sqld"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    redis_url = request.getfixturevalue("redis_url") if redis else None
    async with node(request.getfixturevalue(f"{database}_url"), redis_url, migrate=True) as hold:
        yield hold


@pytest.fixture
async def other(hold: Holdfast) -> AsyncIterator[Holdfast]:
    """Another node."""
    async with node(hold.settings.database_url, hold.settings.redis_url) as other:
        yield other


async def kept(hold: Holdfast) -> list[str]:
    """The keys in the table, once what was loaded is there."""
    await asyncio.gather(*hold.cache._loads._shares)
    async with hold.read() as unit:
        rows = await unit.execute("SELECT key FROM holdfast_results ORDER BY key")
        return [row[0].partition(":")[2] for row in rows]


async def forget_redis(hold: Holdfast) -> None:
    await asyncio.gather(*hold.cache._loads._shares)
    if hold.cache._redis is not None:
        await hold.cache._redis._server.client.flushdb()


async def never(load: Load) -> Any:
    raise AssertionError(f"{load.key} was loaded")


async def test_what_one_node_has_loaded_others_find_though_redis_has_forgotten(hold: Holdfast, other: Holdfast) -> None:
    await lend(hold, "ada", "Dune")
    for one in (hold, other):
        await one.cache.renew()
    assert await hold.cache.get_or_load("loans:ada", Loans(hold), ttl="2h") == ["Dune"]
    assert await kept(hold) == ["loans:ada"]
    await forget_redis(hold)
    found = await other.cache.lookup("loans:ada", never, ttl="2h")
    assert (found.value, found.stale, found.loaded) == (["Dune"], False, False)
    assert other.cache.peek("loans:ada") == ["Dune"]
    await asyncio.gather(*other.cache._loads._shares)
    if other.cache._redis is not None:
        assert (
            len(await other.cache._redis._server.client.keys("*:loans:ada")) == 1
        )  # and what it found is in Redis again


async def test_what_was_set_others_find_too_until_it_ends(hold: Holdfast, other: Holdfast) -> None:
    await hold.cache.set_many({"a": 1, "b": 2}, ttl="2h", tags=("t",))
    await hold.cache.set("c", 3, ttl="1h")
    await hold.cache.set("d", 4, ttl="2h", skip_l3=True)
    assert await kept(hold) == ["a", "b"]
    await forget_redis(hold)
    assert await other.cache.get_or_load("a", never, ttl="2h") == 1
    await hold.cache.invalidate("t")
    await other.cache.renew()

    async def again(load: Load) -> int:
        return 20

    assert await other.cache.get_or_load("b", again, ttl="2h") == 20


async def test_what_has_changed_since_is_not_served_and_is_replaced(hold: Holdfast, other: Holdfast) -> None:
    assert await hold.cache.get_or_load("loans:ada", Loans(hold), ttl="1d") == []
    assert await kept(hold) == ["loans:ada"]
    async with hold.read() as unit:
        [old] = (await unit.execute("SELECT data FROM holdfast_results")).scalars()
    await lend(other, "ada", "Dune")
    await forget_redis(hold)
    again = Loans(other)
    assert await other.cache.get_or_load("loans:ada", again, ttl="1d") == ["Dune"]
    assert again.count == 1
    assert await kept(other) == ["loans:ada"]
    async with hold.unit() as unit:  # and one that comes back, as out of a backup, is none either
        assert (await unit.execute("SELECT data FROM holdfast_results")).scalar() != old
        await unit.execute("UPDATE holdfast_results SET data = :old", {"old": old})
    await forget_redis(hold)
    await hold.cache.renew()
    assert await hold.cache.get_or_load("loans:ada", again, ttl="1d") == ["Dune"]
    assert again.count == 2


async def test_only_what_lasts_and_may_be_shared_and_is_not_too_large_is_kept(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def value(load: Load) -> Any:
        if load.key == "shorter":
            load.ttl("1h")
        if load.key == "longer":
            load.ttl("2h")
        return "x" * 3_000 if load.key == "large" else None if load.key == "none" else 1

    monkeypatch.setattr(results_module, "LARGEST", 500)
    monkeypatch.setattr("holdfast.cache.wire._COMPRESSED_FROM", 10_000)
    given: dict[str, dict[str, Any]] = {
        "kept": {"ttl": "2h"},
        "longer": {},
        "hour": {"ttl": "1h"},
        "shorter": {"ttl": "2h"},
        "skipped": {"ttl": "2h", "skip_l3": True},
        "mine": {"ttl": "2h", "skip_l2": True},
        "large": {"ttl": "2h"},
        "none": {"ttl": "2h", "negative_ttl": "2h"},
    }
    with reading(hold, "holdfast_results") as looked:
        for key, options in given.items():
            await hold.cache.get_or_load(key, value, **options)
        assert len(looked) == 4  # a value that is kept for an hour costs no look
    assert await kept(hold) == ["kept", "longer"]


async def test_several_keys_are_one_look(hold: Holdfast, other: Holdfast) -> None:
    async def lengths(load: LoadMany) -> dict[str, int]:
        asked.append(load.keys)
        return {key: len(key) for key in load.keys}

    asked: list[tuple[str, ...]] = []
    assert await hold.cache.get_or_load_many(["a", "bb"], lengths, ttl="2h") == {"a": 1, "bb": 2}
    assert await kept(hold) == ["a", "bb"]
    await forget_redis(hold)
    with reading(other, "holdfast_results") as looked:
        found = await other.cache.get_or_load_many(["a", "bb", "ccc"], lengths, ttl="2h")
        assert found == {"a": 1, "bb": 2, "ccc": 3}
        assert len(looked) == 1
    assert asked == [("a", "bb"), ("ccc",)]


async def test_what_is_kept_is_in_no_journal(hold: Holdfast) -> None:
    before = await hold.journal.make_tick()
    for number in range(3):
        await hold.cache.get_or_load(f"k{number}", Loans(hold), ttl="2h")
    assert len(await kept(hold)) == 3
    after = await hold.journal.make_tick()
    changes = [change async for page in hold.journal.read(before, after) for change in page.changes]
    assert changes == []


async def test_a_unit_that_has_written_or_sees_the_past_does_not_ask(hold: Holdfast) -> None:
    await hold.cache.get_or_load("k", Loans(hold), ttl="2h")
    await kept(hold)
    await forget_redis(hold)
    hold.cache._memory.clear()

    async def mine(load: Load) -> int:
        return await unit[Loan].count()

    with reading(hold, "holdfast_results") as looked:
        async with hold.unit() as unit:
            await unit[Loan].add(Loan(reader="ada", title="Dune"))
            assert await hold.cache.get_or_load("k", mine, ttl="2h") == 1
        async with hold.store.read() as unit:
            if unit.is_snapshot:
                assert await hold.cache.get_or_load("k", mine, ttl="2h") == 1
        assert looked == []


async def test_ended_rows_are_dropped(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "_PRUNED", 2)
    insert = "INSERT INTO holdfast_results (key, data, ends) VALUES (:key, :data, :ends)"
    async with hold.unit() as unit:
        for number in range(5):
            await unit.execute(insert, {"key": f"v:old{number}", "data": b"", "ends": number})
    await hold.cache.get_or_load("k", Loans(hold), ttl="2h")
    assert await kept(hold) == ["k"]


async def test_a_table_that_is_not_there_fails_nothing_and_is_left_alone(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        await unit.execute("DROP TABLE holdfast_results")
    loans = Loans(hold)
    with reading(hold, "holdfast_results") as looked:
        for number in range(3):
            assert await hold.cache.get_or_load(f"loans:{number}", loans, ttl="2h") == []
            await asyncio.gather(*hold.cache._loads._shares)
        assert len(looked) == 1
    assert loans.count == 3
    assert hold.cache.peek("loans:0") == []


async def test_a_value_that_is_loaded_ahead_of_its_end_is_loaded(hold: Holdfast) -> None:
    loans = Loans(hold)
    await hold.cache.get_or_load("loans:ada", loans, ttl="2h")
    assert await kept(hold) == ["loans:ada"]
    entry = hold.cache._memory.get("loans:ada")
    assert entry is not None
    asked = hold.cache.answers.ask("loans:ada", loans, Options.of(ttl="2h"), (), Any)
    hold.cache._loads.refresh(asked, entry)
    await asyncio.gather(*hold.cache._loads.flights._all)
    assert loans.count == 2


@pytest.mark.parametrize("level", ["redis", "results"])
async def test_who_has_committed_gets_nothing_older_though_the_journal_cannot_be_read(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """What others keep is fresh by what this node knows, and this task knows better."""
    await lend(hold, "ada", "Dune")
    loans = Loans(hold)
    assert await hold.cache.get_or_load("loans:ada", loans, ttl="2h") == ["Dune"]
    await kept(hold)
    if level == "results":
        await forget_redis(hold)
    hold.cache._memory.clear()
    await hold.cache.renew()

    async def away() -> Any:
        raise Unavailable("the journal cannot be read")

    monkeypatch.setattr(hold.journal, "make_tick", away)
    await lend(hold, "ada", "Emma")
    assert await hold.cache.get_or_load("loans:ada", loans, ttl="2h", max_staleness="1h") == ["Dune", "Emma"]
    assert loans.count == 2
