"""A unit that is cancelled is rolled back and frees its connection; a COMMIT that has begun is settled first."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from holdfast.errors import StoreError
from holdfast.store import Store, Unit
from holdfast.store.cancellation import to_the_end
from tests.store.shop import Maker

SLOW = {  # a statement that takes a while, by the time of the database
    "postgresql": "SELECT pg_sleep(1)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000) SELECT max(i) FROM n",
}


async def names(store: Store) -> list[str]:
    async with store.read() as unit:
        return [maker.name for maker in await unit[Maker].list(unit[Maker].query().order_by("name"))]


async def cancelled_at(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work` until it sets its event, then cancel it, and wait for it to end."""
    reached = asyncio.Event()
    task = asyncio.ensure_future(work(reached))
    await reached.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def connections_out(store: Store) -> int:
    return sum(engine.sync_engine.pool.checkedout() for engine in store.engines().values())  # type: ignore[attr-defined]


async def test_a_unit_that_is_cancelled_while_its_block_waits_is_rolled_back(store: Store) -> None:
    async def work(reached: asyncio.Event) -> None:
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            reached.set()
            await asyncio.sleep(60)

    await cancelled_at(work)
    assert await names(store) == []
    assert connections_out(store) == 0


async def test_a_unit_that_is_cancelled_in_the_middle_of_a_statement_is_rolled_back(store: Store) -> None:
    async def work(reached: asyncio.Event) -> None:
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            reached.set()
            await unit.execute(SLOW[store.dialect])

    for _ in range(3):
        await cancelled_at(work)
    assert connections_out(store) == 0
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="kept"))
    assert await names(store) == ["kept"]


async def test_a_reading_unit_that_is_cancelled_gives_its_connection_back(store: Store) -> None:
    async def work(reached: asyncio.Event) -> None:
        async with store.read() as unit:
            reached.set()
            await unit.execute(SLOW[store.dialect])

    for _ in range(store.settings.pool_max + 2):
        await cancelled_at(work)
    assert connections_out(store) == 0
    assert await names(store) == []


async def test_a_time_limit_around_a_unit_ends_it(store: Store) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            await unit.execute(SLOW[store.dialect])
    assert await names(store) == []


async def test_a_task_that_waits_for_a_connection_can_be_cancelled(store: Store) -> None:
    held = [asyncio.Event() for _ in range(store.settings.pool_max)]
    proceed = asyncio.Event()

    async def hold(entered: asyncio.Event) -> None:
        async with store.unit():
            entered.set()
            await proceed.wait()

    async def wait(reached: asyncio.Event) -> None:
        reached.set()
        async with store.unit():
            raise AssertionError("there is no connection to be had")

    holders = [asyncio.create_task(hold(entered)) for entered in held]
    await held[0].wait()
    await asyncio.sleep(0.1)
    await cancelled_at(wait)
    proceed.set()
    await asyncio.gather(*holders)
    assert connections_out(store) == 0


async def test_a_commit_that_has_begun_is_settled_and_its_callbacks_run_before_the_cancellation(store: Store) -> None:
    told: list[str] = []

    async def work(reached: asyncio.Event) -> None:
        async def tell() -> None:
            await asyncio.sleep(0.2)
            told.append("told")

        async def slow_commit(unit: Unit) -> None:
            commit = unit.session.commit

            async def late() -> None:
                reached.set()
                await asyncio.sleep(0.2)
                await commit()

            unit.session.commit = late  # type: ignore[method-assign]

        store.hooks.before_commit.append(slow_commit)
        async with store.unit() as unit:
            unit.after_commit(tell)
            unit.add(Maker(name="kept"))

    await cancelled_at(work)
    assert told == ["told"]
    assert await names(store) == ["kept"]
    assert connections_out(store) == 0


async def test_a_second_cancellation_does_not_tear_a_commit_either() -> None:
    steps: list[str] = []

    async def commit() -> None:
        await asyncio.sleep(0.1)
        steps.append("committed")

    async def work() -> None:
        try:
            await to_the_end(commit())
        finally:
            steps.append("over")

    task = asyncio.create_task(work())
    await asyncio.sleep(0.02)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["committed", "over"]


async def test_work_that_does_not_end_holds_a_cancellation_up_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.store.cancellation.PATIENCE", 0.1)
    task = asyncio.create_task(to_the_end(asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_an_error_of_work_that_was_cancelled_meanwhile_gives_way_to_the_cancellation() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise StoreError("lost")

    with pytest.raises(StoreError):
        await to_the_end(fail())
    task = asyncio.create_task(to_the_end(fail()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_units_cancelled_at_any_moment_leave_whole_transactions_and_no_connection_behind(
    store: Store,
) -> None:
    """Each unit writes two rows: none may be there without the other."""
    committed: set[str] = set()

    async def write(number: int) -> None:
        async def note() -> None:
            committed.add(f"{number:03}")

        async with store.unit() as unit:
            unit.after_commit(note)
            await unit[Maker].add(Maker(name=f"{number:03} a"))
            await asyncio.sleep(0)
            await unit[Maker].add_many([{"name": f"{number:03} b"}])

    async def cut(number: int) -> None:
        task = asyncio.create_task(write(number))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for start in range(0, 120, 8):
        await asyncio.gather(*(cut(number) for number in range(start, start + 8)))
    found = await names(store)
    assert {name[:3] for name in found} == committed
    assert sorted(found) == sorted(f"{number} {row}" for number in committed for row in "ab")
    assert connections_out(store) == 0
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="after all"))
