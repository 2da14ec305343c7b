"""A unit of work is committed whole or not at all, and tells who waits for it."""

import asyncio
from typing import Any

import pytest

from holdfast.errors import Conflict, InvalidValue, StoreError, Unavailable
from holdfast.store import Store, Unit
from tests.logs import capture_logs
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


async def names(store: Store) -> list[str]:
    async with store.read() as unit:
        return [maker.name for maker in await unit[Maker].list(unit[Maker].query().order_by("name"))]


async def test_what_a_unit_wrote_is_there_after_it(store: Store) -> None:
    async with store.unit() as unit:
        unit.add(Maker(name="added"))
        await unit[Maker].add(Maker(name="flushed"))
        await unit[Maker].add_many([{"name": "many"}])
        await unit.execute("INSERT INTO makers (name) VALUES (:name)", {"name": "raw"})
    assert await names(store) == ["added", "flushed", "many", "raw"]


async def test_a_unit_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            await unit[Maker].add_many([{"name": "gone too"}])
            raise ZeroDivisionError
    assert await names(store) == []


async def test_a_unit_sees_what_it_has_added_itself(store: Store) -> None:
    async with store.unit() as unit:
        unit.add(Maker(name="seen"))
        assert await unit[Maker].count() == 1
        unit.add(maker := Maker(name="with parts"))
        await unit[Part].add_many([{"title": "p"}])
        await unit.flush()
        maker.name = "renamed"
        await unit[Part].upsert_many([{"title": "q", "maker_id": maker.id}])
        assert (await unit[Maker].get(maker.id)).name == "renamed"
    assert await names(store) == ["renamed", "seen"]


async def test_a_reader_does_not_see_a_unit_before_it_commits(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="hidden"))
        assert await names(store) == []
    assert await names(store) == ["hidden"]


async def test_who_acts_is_known_in_the_unit_and_to_the_hooks(store: Store) -> None:
    met: list[tuple[str, Any]] = []

    def hook(moment: str) -> Any:
        async def note(unit: Unit) -> None:
            met.append((moment, (unit.actor, unit.tenant, unit.request_id)))

        return note

    store.hooks.after_begin.append(hook("begin"))
    store.hooks.before_commit.append(hook("before"))
    store.hooks.after_commit.append(hook("after"))
    who = ("ada", "acme", "r-1")
    async with store.unit(actor="ada", tenant="acme", request_id="r-1") as unit:
        assert (unit.actor, unit.tenant, unit.request_id) == who
        assert met == [("begin", who)]
    assert met == [("begin", who), ("before", who), ("after", who)]
    with pytest.raises(ZeroDivisionError):
        async with store.unit():
            raise ZeroDivisionError
    assert [moment for moment, _ in met] == ["begin", "before", "after", "begin"]
    async with store.read() as unit:
        await unit[Maker].list()
    assert len(met) == 4


async def test_a_hook_that_fails_before_commit_rolls_the_unit_back(store: Store) -> None:
    async def refuse(unit: Unit) -> None:
        raise InvalidValue("not today")

    store.hooks.before_commit.append(refuse)
    with pytest.raises(InvalidValue, match="not today"):
        async with store.unit() as unit:
            unit.add(Maker(name="refused"))
    store.hooks.before_commit.clear()
    store.hooks.after_begin.append(refuse)
    with pytest.raises(InvalidValue, match="not today"):
        async with store.unit():
            raise AssertionError("the block is not entered")
    store.hooks.after_begin.clear()
    async with store.unit() as unit:
        unit.add(Maker(name="accepted"))
    assert await names(store) == ["accepted"]


async def test_callbacks_run_after_commit_in_order_and_may_open_units(store: Store) -> None:
    told: list[Any] = []

    async def first() -> None:
        told.append(await names(store))

    async def second() -> None:
        async with store.unit() as unit:
            unit.add(Maker(name="by a callback"))

    async with store.unit() as unit:
        unit.after_commit(first)
        unit.after_commit(second)
        unit.add(Maker(name="by the unit"))
        assert told == []
    assert told == [["by the unit"]]
    assert await names(store) == ["by a callback", "by the unit"]


async def test_callbacks_never_run_when_the_unit_is_rolled_back(store: Store) -> None:
    told: list[str] = []

    async def tell() -> None:
        told.append("told")

    with pytest.raises(ZeroDivisionError):
        async with store.unit() as unit:
            unit.after_commit(tell)
            raise ZeroDivisionError
    with pytest.raises(Conflict):
        async with store.unit() as unit:
            unit.after_commit(tell)
            unit.add(Maker(name="twice"), Maker(name="twice"))  # fails at commit
    assert told == []


async def test_a_callback_that_fails_is_logged_and_the_others_run(store: Store) -> None:
    told: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def tell() -> None:
        told.append("told")

    async def hook(unit: Unit) -> None:
        raise LookupError

    store.hooks.after_commit.append(hook)
    with capture_logs() as logs:
        async with store.unit() as unit:
            unit.after_commit(fail)
            unit.after_commit(tell)
            unit.after_commit(lambda: told.append("without await"))
            unit.add(Maker(name="kept"))
    assert told == ["told", "without await"]
    with pytest.raises(StoreError, match="this unit has ended"):
        unit.add(Maker(name="late"))
    assert await names(store) == ["kept"]
    assert [entry["event"] for entry in logs] == ["after_commit_failed"] * 2
    assert "fail" in logs[0]["callback"]
    assert "hook" in logs[1]["callback"]


async def test_a_savepoint_that_raises_undoes_itself_and_not_the_unit(store: Store) -> None:
    told: list[str] = []

    async def tell_undone() -> None:
        told.append("undone")

    async def tell_kept() -> None:
        told.append("kept")

    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="before"))
        unit.after_commit(tell_kept)
        with pytest.raises(Conflict):
            async with unit.savepoint():
                unit.after_commit(tell_undone)
                await unit[Maker].add(Maker(name="inside"))
                await unit[Maker].add_many([{"name": "before"}])
        with pytest.raises(ZeroDivisionError):
            async with unit.savepoint():
                unit.add(Maker(name="inside"))
                raise ZeroDivisionError
        async with unit.savepoint():
            await unit[Maker].add(Maker(name="nested"))
            with pytest.raises(ZeroDivisionError):
                async with unit.savepoint():
                    await unit[Maker].add(Maker(name="nested deeper"))
                    raise ZeroDivisionError
        await unit[Maker].add(Maker(name="later"))
    assert await names(store) == ["before", "later", "nested"]
    assert told == ["kept"]


async def test_a_savepoint_whose_flush_fails_undoes_itself(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="first"))
        with pytest.raises(Conflict):
            async with unit.savepoint():
                unit.add(Maker(name="first"))
        await unit[Maker].add(Maker(name="second"))
    assert await names(store) == ["first", "second"]


async def test_a_failed_statement_that_is_passed_over_never_passes_for_a_commit(store: Store) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and no error."""
    told: list[str] = []

    async def tell() -> None:
        told.append("told")

    async def careless() -> None:
        async with store.unit() as unit:
            unit.after_commit(tell)
            await unit[Maker].add_many([{"name": "first"}])
            with pytest.raises(Conflict):
                await unit[Maker].add_many([{"name": "first"}])

    if store.dialect == "postgresql":
        with pytest.raises(StoreError, match="can only be rolled back; put what may fail into"):
            await careless()
        assert (await names(store), told) == ([], [])
    else:  # SQLite undoes the statement alone
        await careless()
        assert (await names(store), told) == (["first"], ["told"])


async def test_a_failed_flush_that_is_passed_over_never_passes_for_a_commit(store: Store) -> None:
    with pytest.raises(StoreError, match="can only be rolled back"):
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="first"))
            with pytest.raises(Conflict):
                await unit[Maker].add(Maker(name="first"))
            with pytest.raises(StoreError, match="can only be rolled back"):
                await unit[Maker].count()
    assert await names(store) == []


@pytest.mark.parametrize("error", [FileNotFoundError("mine"), TimeoutError("mine"), ConnectionError("mine"), OSError()])
async def test_errors_of_the_block_itself_come_through_as_they_are(store: Store, error: Exception) -> None:
    for opening in (store.unit, store.read):
        with pytest.raises(type(error)) as raised:
            async with opening():
                raise error
        assert raised.value is error
    with pytest.raises(type(error)) as raised:
        async with store.unit() as unit, unit.savepoint():
            raise error
    assert raised.value is error
    with pytest.raises(type(error)) as raised:
        await store.run(lambda unit: fail_with(error))
    assert raised.value is error


async def fail_with(error: Exception) -> None:
    raise error


async def test_a_unit_that_has_ended_says_so(store: Store) -> None:
    async with store.unit() as unit:
        maker = await unit[Maker].add(Maker(name="m"))
    with pytest.raises(StoreError, match="this unit has ended"):
        await unit.execute("SELECT 1")
    with pytest.raises(StoreError, match="this unit has ended"):
        await unit[Maker].list()
    async with store.read() as reading:
        pass
    with pytest.raises(StoreError, match="this unit has ended"):
        await reading[Maker].get(maker.id)
    assert store.engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_rows_stay_readable_after_their_unit(store: Store) -> None:
    async with store.unit() as unit:
        maker = await unit[Maker].add(Maker(name="m"))
    assert maker.name == "m"
    assert maker.created_at <= maker.updated_at


async def test_a_second_unit_inside_the_first_is_refused_where_it_would_wait_for_ever(
    sqlite_url: str, store: Store
) -> None:
    async with store.unit() as outer:
        outer.add(Maker(name="outer"))
        if store.dialect == "sqlite":
            with pytest.raises(StoreError, match="would wait for the first for ever"):
                async with store.unit():
                    raise AssertionError("the block is not entered")
        else:
            async with store.unit() as inner:
                inner.add(Maker(name="inner"))
        async with store.read() as reading:
            await reading[Maker].list()
    assert "outer" in await names(store)


async def test_units_of_other_tasks_wait_their_turn(store: Store) -> None:
    async def write(number: int) -> None:
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name=f"{number:02}"))
            await asyncio.sleep(0)

    async with store.unit() as unit:
        tasks = [asyncio.create_task(write(number)) for number in range(20)]
        await asyncio.sleep(0.02)
        await unit[Maker].add(Maker(name="first"))
    await asyncio.gather(*tasks)
    assert await names(store) == [*(f"{number:02}" for number in range(20)), "first"]


async def test_a_database_in_memory_takes_units_and_refuses_a_second_connection() -> None:
    async with opened("sqlite://", Base.metadata) as store:
        async with store.unit() as unit:
            unit.add(Maker(name="m"))
        assert await names(store) == ["m"]
        async with store.read():
            with pytest.raises(StoreError, match="for ever"):
                await names(store)
        with pytest.raises(StoreError, match="one connection only"):
            async with store.raw():
                raise AssertionError("the block is not entered")


@pytest.mark.parametrize("verb", ["add", "add_many", "upsert_many", "update", "execute", "attribute"])
async def test_a_reading_unit_refuses_to_write(store: Store, verb: str) -> None:
    async with store.unit() as unit:
        maker = await unit[Maker].add(Maker(name="m"))
    with pytest.raises(StoreError, match=r"read-only unit; open it with hold\.unit"):
        async with store.read() as unit:
            if verb == "add":
                unit.add(Maker(name="n"))
            elif verb == "add_many":
                await unit[Maker].add_many([{"name": "n"}])
            elif verb == "upsert_many":
                await unit[Maker].upsert_many([{"name": "n"}])
            elif verb == "update":
                await unit[Maker].update(maker.id, name="n")
            elif verb == "execute":
                await unit.execute("UPDATE makers SET name = 'n'")
            else:
                (await unit[Maker].get(maker.id)).name = "n"
    assert await names(store) == ["m"]
    async with store.unit() as unit:  # the connection writes again in a unit that may
        await unit.execute("UPDATE makers SET name = 'n'")
    assert await names(store) == ["n"]


async def test_closing_waits_for_open_units_and_refuses_new_ones(store: Store) -> None:
    entered, proceed = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with store.unit() as unit:
            entered.set()
            await proceed.wait()
            await unit[Maker].add(Maker(name="finished"))

    working = asyncio.create_task(work())
    await entered.wait()
    closing = asyncio.create_task(store.close(timeout=5))
    await asyncio.sleep(0.05)
    assert not closing.done()
    for opening in (store.unit, store.read):
        with pytest.raises(Unavailable, match="is being closed; no new unit begins"):
            async with opening():
                raise AssertionError("the block is not entered")
    proceed.set()
    await asyncio.gather(working, closing)
    again = Store(store.settings)
    assert await names(again) == ["finished"]
    await again.close()


async def test_closing_waits_for_callbacks_too(store: Store) -> None:
    told: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.1)
        told.append("told")

    async def work() -> None:
        async with store.unit() as unit:
            unit.after_commit(slow)
            entered.set()

    entered = asyncio.Event()
    working = asyncio.create_task(work())
    await entered.wait()
    await store.close(timeout=5)
    assert told == ["told"]
    await working


async def test_closing_gives_up_on_a_unit_that_does_not_end(store: Store) -> None:
    async def hang() -> None:
        async with store.unit():
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    hanging = asyncio.create_task(hang())
    await entered.wait()
    with capture_logs() as logs:
        await store.close(timeout=0.05)
    assert [(entry["event"], entry["units"]) for entry in logs] == [("units_left_open", 1)]
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


async def test_ping_tells_how_long_the_database_took(store: Store) -> None:
    assert 0 < await store.ping() < 30


async def test_an_engine_has_one_role_or_two(store: Store) -> None:
    assert list(store.engines()) == (["write", "read"] if store.dialect == "sqlite" else ["write"])


async def test_an_event_needs_a_journal_that_takes_it_and_a_unit_that_writes(store: Store) -> None:
    async with store.unit() as unit:
        with pytest.raises(StoreError, match="nothing keeps a journal"):
            await unit.emit("told")
    async with store.read() as unit:
        with pytest.raises(StoreError, match="read-only"):
            await unit.emit("told")
