"""What the cache serves, and what it refuses: commits, races, nodes, lives of the database."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from devservers import PostgresServer
from holdfast import Holdfast, Model, Policy, Warm
from holdfast.cache.clock import boottime
from holdfast.errors import ModelError
from tests.backends import settings_for
from tests.cache.loans import Base, Loan, Loans, lend
from tests.replicas import lagging


async def test_what_was_loaded_is_served_until_what_it_depends_on_changes(hold: Holdfast, loans: Loans) -> None:
    await lend(hold, "ada", "Dune")
    for _ in range(3):
        assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]
    assert loans.count == 1
    await lend(hold, "bob", "Emma")
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]
    assert loans.count == 1
    await lend(hold, "ada", "Ulysses")
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune", "Ulysses"]
    assert loans.count == 2


async def test_a_row_that_leaves_a_tag_touches_it_too(hold: Holdfast, loans: Loans) -> None:
    await lend(hold, "ada", "Dune")
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]
    async with hold.unit() as unit:
        [loan] = await unit[Loan].list()
        await unit[Loan].update(loan.id, reader="bob")
    assert await hold.cache.get_or_load("loans:ada", loans) == []
    assert await hold.cache.get_or_load("loans:bob", loans) == ["Dune"]


async def test_raw_sql_and_other_nodes_end_values_within_the_bound(
    hold: Holdfast, other: Holdfast, loans: Loans
) -> None:
    assert await hold.cache.get_or_load("loans:ada", loans) == []
    await lend(other, "ada", "Dune")
    committed = boottime()
    while await hold.cache.get_or_load("loans:ada", loans) == []:
        assert boottime() - committed <= 1.0
        await asyncio.sleep(0.002)
    assert loans.count == 2
    async with other.unit() as unit:
        await unit.execute("UPDATE loans SET title = 'Persuasion'")
    committed = boottime()
    while await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]:
        assert boottime() - committed <= 1.0
        await asyncio.sleep(0.002)
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Persuasion"]


async def test_a_fill_that_lost_the_race_is_not_served(hold: Holdfast, other: Holdfast, loans: Loans) -> None:
    async def change() -> None:
        loans.after = None
        await lend(other, "ada", "Dune")

    loans.after = change  # between reading and filling
    assert await hold.cache.get_or_load("loans:ada", loans) == []
    await hold.cache.renew()
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]


async def test_who_joins_a_load_that_began_before_his_commit_gets_what_he_wrote(hold: Holdfast, loans: Loans) -> None:
    has_read, may_end = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        has_read.set()
        await may_end.wait()

    loans.after = wait
    first = asyncio.create_task(hold.cache.get_or_load("loans:ada", loans))
    await has_read.wait()
    await lend(hold, "ada", "Dune")
    second = asyncio.create_task(hold.cache.get_or_load("loans:ada", loans))
    await asyncio.sleep(0.05)
    may_end.set()
    assert await first == []
    assert await second == ["Dune"]
    assert loans.count == 2


async def test_a_unit_that_has_written_sees_its_own_writes_and_shares_them_with_nobody(
    hold: Holdfast, loans: Loans
) -> None:
    assert await hold.cache.get_or_load("loans:ada", loans) == []

    async def titles(load: Any) -> list[str]:
        return [row.title for row in await unit[Loan].list()]

    async with hold.unit() as unit:
        assert await hold.cache.get_or_load("loans:ada", loans) == []
        assert loans.count == 1  # it has written nothing yet
        await unit[Loan].add(Loan(reader="ada", title="Dune"))
        assert await hold.cache.get("loans:ada") is None
        assert hold.cache.peek("loans:ada") is None
        assert await hold.cache.get_or_load("loans:ada", titles) == ["Dune"]
        seen = await asyncio.create_task(_elsewhere(hold, loans))
        raise_ = pytest.raises(ZeroDivisionError)
    assert seen == []
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]
    with raise_:
        async with hold.unit() as unit:
            await unit.execute("UPDATE loans SET title = 'Emma'")
            assert await hold.cache.get_or_load("loans:ada", titles) == ["Emma"]
            raise ZeroDivisionError
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]


async def _elsewhere(hold: Holdfast, loans: Loans) -> Any:
    """What a request sees that was begun apart from this one."""
    import contextvars

    loop = asyncio.get_running_loop()
    return await loop.create_task(hold.cache.get("loans:ada"), context=contextvars.Context())


async def test_what_is_read_in_a_snapshot_is_not_kept_as_what_is(hold: Holdfast, other: Holdfast, loans: Loans) -> None:
    isolation: Any = {} if hold.store.dialect == "sqlite" else {"isolation": "repeatable read"}
    async with hold.read() if hold.store.dialect == "sqlite" else hold.unit(**isolation) as unit:
        assert await unit[Loan].count() == 0

        async def titles(load: Any) -> list[str]:
            return [row.title for row in await unit[Loan].list()]

        await lend(other, "ada", "Dune")
        await hold.cache.renew()
        assert await hold.cache.get_or_load("loans:ada", titles) == []
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]


async def test_a_node_that_cannot_renew_serves_nothing_past_the_bound(
    hold: Holdfast, other: Holdfast, loans: Loans, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await hold.cache.get_or_load("loans:ada", loans, max_staleness=0.3) == []

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(hold.cache._renewal, "_renew", hangs)
    monkeypatch.setattr(hold.cache._renewal._now, "_load", hangs)
    await lend(other, "ada", "Dune")
    await asyncio.sleep(0.35)
    assert hold.cache.peek("loans:ada") is None
    assert await hold.cache.get_or_load("loans:ada", loans, max_staleness=0.3) == ["Dune"]
    assert loans.count == 2


async def test_truncate_ends_everything_and_so_does_another_life_of_the_database(hold: Holdfast, loans: Loans) -> None:
    await lend(hold, "ada", "Dune")
    assert await hold.cache.get_or_load("loans:ada", loans) == ["Dune"]
    if hold.store.dialect == "postgresql":
        async with hold.unit() as unit:
            await unit.execute("TRUNCATE loans")
        assert await hold.cache.get_or_load("loans:ada", loans) == []
    before = loans.count
    async with hold.unit() as unit:
        await unit.execute("UPDATE holdfast_epoch SET identity = 'somewhere else'")
    async with asyncio.timeout(10):
        while loans.count == before:
            await hold.cache.get_or_load("loans:ada", loans)
            await asyncio.sleep(0.05)


async def test_values_end_by_key_by_tag_and_altogether_on_every_node(hold: Holdfast, other: Holdfast) -> None:
    async def load(load: Any) -> str:
        load.tags("colour:red")
        return "loaded"

    async def kept() -> list[bool]:
        return [await node.cache.get(key) is not None for node in (hold, other) for key in ("a", "b")]

    async def fill() -> None:
        for node in (hold, other):
            for key in ("a", "b"):
                await node.cache.get_or_load(key, load)
        assert await kept() == [True] * 4

    await fill()
    await other.cache.delete("a")
    await hold.cache.renew()
    assert await kept() == [False, True, False, True]
    await fill()
    await hold.cache.invalidate("colour:blue")
    await other.cache.renew()
    assert await kept() == [True] * 4
    await hold.cache.invalidate("colour:red")
    await other.cache.renew()
    assert await kept() == [False] * 4
    await fill()
    await hold.cache.clear()
    await other.cache.renew()
    assert await kept() == [False] * 4


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ("user:{reader}", "takes several templates"),
        (("user:{reader",), "is no template of a tag"),
        (("user:{reader.id}",), "is no template of a tag"),
        (("user:{nobody}",), "names the column 'nobody'"),
    ],
)
def test_a_tag_that_is_no_template_of_columns_is_refused_when_the_class_is_made(tags: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        type(
            "Mistaken",
            (Model,),
            {
                "__module__": __name__,
                "__tablename__": "mistaken",
                "__annotations__": {"reader": Mapped[str]},
                "metadata": MetaData(),
                "__policy__": Policy(Warm(tags=tags)),
            },
        )


async def test_what_was_ended_by_hand_is_kept_again_though_nothing_else_is_committed(
    hold: Holdfast, loans: Loans, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit = hold.store.hooks.emit

    async def heard_at_once(unit: Any, topic: str, **given: Any) -> None:
        assert emit is not None
        await emit(unit, topic, **given)
        unit.after_commit(hold.cache.renew)  # before whoever ended it goes on

    await hold.cache.get_or_load("loans:ada", loans)
    monkeypatch.setattr(hold.store.hooks, "emit", heard_at_once)
    for end in (lambda: hold.cache.invalidate("reader:ada"), lambda: hold.cache.delete("loans:ada"), hold.cache.clear):
        await end()
        assert hold.cache.peek("loans:ada") is None
        await hold.cache.renew()
        await hold.cache.get_or_load("loans:ada", loans)
        assert hold.cache.peek("loans:ada") == []
    assert loans.count == 4


async def test_what_is_cleared_in_a_unit_is_cleared_with_it(hold: Holdfast, other: Holdfast, loans: Loans) -> None:
    assert await hold.cache.get_or_load("loans:ada", loans) == []
    for is_committed in (False, True):
        before = loans.count
        with contextlib.suppress(ZeroDivisionError):
            async with hold.unit() as unit:
                await hold.cache.invalidate("reader:ada")  # whether it has written before, or has not
                await unit[Loan].add(Loan(reader="bob", title="Emma"))
                await hold.cache.delete("loans:ada")
                if not is_committed:
                    raise ZeroDivisionError
        assert await hold.cache.get_or_load("loans:ada", loans) == []
        assert loans.count == before + is_committed
        assert await hold.cache.get_or_load("loans:ada", loans) == []
        assert loans.count == before + is_committed
    async with hold.read():
        await hold.cache.clear()  # a unit that only reads has no part in it
    assert hold.cache.peek("loans:ada") is None


async def test_what_a_unit_has_not_committed_is_kept_for_nobody(hold: Holdfast, loans: Loans) -> None:
    async with hold.unit() as unit:

        async def through_the_unit(load: Any) -> list[str]:
            load.tags("reader:ada")
            await unit[Loan].add(Loan(reader="ada", title="Dune"))
            return ["Dune"]

        with contextlib.suppress(ZeroDivisionError):
            async with unit.savepoint():
                assert await hold.cache.get_or_load("loans:ada", through_the_unit, ttl="2h") == ["Dune"]
                await hold.cache.set("set", "within")
                raise ZeroDivisionError
        assert await hold.cache.get_or_load("loans:ada", loans, ttl="2h") == []
    assert await hold.cache.get("set") is None
    assert await hold.cache.get_or_load("loans:ada", loans, ttl="2h") == []


async def test_what_is_kept_is_read_from_no_replica(postgres_url: str, replica_server: PostgresServer) -> None:
    settings = settings_for(
        postgres_url, database_replica_urls=replica_server.database_url(postgres_url.rpartition("/")[2])
    )
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:

        async def titles(load: Any) -> list[str]:
            load.tags("reader:ada")
            async with hold.read(replica=True) as unit:
                return [row.title for row in await unit[Loan].list()]

        async def many(load: Any) -> dict[str, list[str]]:
            return {key: await titles(load[key]) for key in load.keys}

        async with lagging(replica_server):
            await lend(hold, "ada", "Dune")
            async with hold.read(replica=True) as unit:
                assert unit.is_snapshot  # from the replica, which lags
            assert await hold.cache.get_or_load("loans:ada", titles) == ["Dune"]
            assert await hold.cache.get_or_load_many(["a", "b"], many) == {"a": ["Dune"], "b": ["Dune"]}
