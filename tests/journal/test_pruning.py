"""The journal is kept short, behind everyone who still needs it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from holdfast.journal import Journal, Position, followers
from holdfast.store import Store
from tests.backends import settings_for
from tests.journal.conftest import Note, Taken, make_tables, until


async def add(store: Store, count: int = 1) -> None:
    async with store.unit() as unit:
        unit.add(*(Note(n=n) for n in range(count)))


async def rows(store: Store) -> int:
    async with store.read() as unit:
        return int((await unit.execute("SELECT count(*) FROM holdfast_journal")).scalar_one())


async def prune_all(log: Journal) -> None:
    """As many times as it takes for everything that may go to go."""
    for _ in range(4):
        await log.prune(keep=0)


async def test_what_every_follower_has_had_is_removed(
    store: Store, log: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "IDLE_CHECKPOINT", 0.1)
    taken = Taken()
    await log.subscribe("f", taken, start="now")
    for _ in range(5):
        await add(store, 3)
        await log.wait_until(await log.make_tick(), "f")
        await asyncio.sleep(0.15)  # a checkpoint over nothing is kept now and then only
        await prune_all(log)
    assert await rows(store) <= 6
    await add(store, 2)
    await log.wait_until(await log.make_tick(), "f")
    assert len(taken.rows) == 17


async def test_what_a_stopped_follower_has_not_had_is_kept(store: Store, log: Journal) -> None:
    taken = Taken()
    await log.subscribe("f", taken, start="now")
    await log.unsubscribe("f")
    for _ in range(4):
        await add(store, 3)
        await log.make_tick()
        await prune_all(log)
    await log.subscribe("f", taken)
    await log.wait_until(await log.make_tick(), "f")
    assert [c.op for c in taken.changes] == ["insert"] * 12


async def test_what_is_younger_than_it_is_kept_for_stays(store: Store, log: Journal) -> None:
    start = await log.make_tick()
    await add(store, 3)
    upto = await log.make_tick()
    for _ in range(4):
        await log.prune(keep=3_600)
    found = [change async for page in log.read(start, upto) for change in page.changes]
    assert len(found) == 3


async def test_who_comes_too_late_rebuilds(store: Store, log: Journal) -> None:
    start = await log.make_tick()
    for _ in range(4):
        await add(store, 2)
        await log.make_tick()
        await prune_all(log)
    [page] = [page async for page in log.read(start, await log.make_tick())]
    assert page.lost
    assert page.position == await log.make_tick()


async def test_a_follower_that_lives_in_its_process_rebuilds_when_it_was_overtaken(store: Store, log: Journal) -> None:
    taken, gate = Taken(), asyncio.Event()
    gate.set()

    async def slow(batch: Any) -> None:
        await taken(batch)
        await gate.wait()

    await log.subscribe("l", slow, durable=False)
    await until(lambda: taken.changes)
    gate.clear()
    await add(store)
    await until(lambda: taken.rows)
    for _ in range(4):
        await add(store, 2)
        await log.make_tick()
        await prune_all(log)
    gate.set()
    await until(lambda: [c.op for c in taken.changes].count("reset") == 2)


async def test_the_journal_of_sqlite_keeps_its_last_row_and_its_numbers(sqlite_url: str) -> None:
    store = Store(settings_for(sqlite_url))
    await make_tables(store)
    log = Journal(store)
    await log.make_tick()
    await add(store, 12_000)
    last = await log.make_tick()
    assert await log.prune(keep=0) == 11_999
    assert await rows(store) == 1
    assert await log.make_tick() == last
    await log.close()
    log = Journal(store)
    assert await log.make_tick() == last
    await log.close()
    await store.close()


async def test_an_open_writer_keeps_its_slot_and_delays_nobody(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url))
    await make_tables(store)
    log = Journal(store)
    start = await log.make_tick()
    async with store.raw() as writer:
        begun = writer.transaction()
        await begun.start()
        key = await writer.fetchval("INSERT INTO notes (n) VALUES (1) RETURNING id")
        for _ in range(4):
            await add(store)
            await log.make_tick()
            async with asyncio.timeout(3):
                await prune_all(log)
                await add(store)
        await begun.commit()
    upto = await log.make_tick()
    position = Position(upto.epoch, upto.tick - 1)
    found = {c.key async for page in log.read(position, upto) for c in page.changes}
    assert str(key) in found
    assert start.tick < upto.tick
    await log.close()
    await store.close()


async def test_an_old_snapshot_that_writes_into_an_emptied_slot_is_still_read(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url))
    await make_tables(store)
    log = Journal(store)
    async with store.raw() as old:
        begun = old.transaction(isolation="repeatable_read")
        await begun.start()
        await old.fetchval("SELECT slot FROM holdfast_slot")  # its snapshot will not see another
        for _ in range(3):
            await add(store)
            await log.make_tick()
            await prune_all(log)
        async with store.read() as unit:
            assert (await unit.execute("SELECT slot FROM holdfast_slot")).scalar() != 0
        before = await log.make_tick()
        key = await old.fetchval("INSERT INTO notes (n) VALUES (1) RETURNING id")
        await prune_all(log)
        await begun.commit()
        upto = await log.make_tick()
        found = [c.key async for page in log.read(before, upto) for c in page.changes]
        assert found == [str(key)]
    await log.close()
    await store.close()


async def test_pruning_gives_way_to_whoever_uses_a_slot(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url))
    await make_tables(store)
    log = Journal(store)
    await add(store)
    await log.make_tick()
    await log.prune(keep=0)
    await add(store)
    await log.make_tick()
    async with store.raw() as reader:
        begun = reader.transaction()
        await begun.start()
        await reader.fetch("SELECT count(*) FROM holdfast_journal")
        async with asyncio.timeout(5):
            assert await log.prune(keep=0) == 0
        await begun.rollback()
    assert await log.prune(keep=0) == 1
    await log.close()
    await store.close()


async def test_pruning_while_everybody_writes_and_reads_loses_nothing(store: Store, log: Journal) -> None:
    taken, done = Taken(), asyncio.Event()
    await log.subscribe("f", taken, start="now")

    async def write(number: int) -> None:
        for n in range(25):
            await add(store, 2)
            if n % 5 == number:
                await asyncio.sleep(0.02)

    async def prune() -> None:
        while not done.is_set():
            await log.prune(keep=0)
            await asyncio.sleep(0.02)

    pruning = asyncio.create_task(prune())
    await asyncio.gather(*(write(number) for number in range(4)))
    done.set()
    await pruning
    await log.wait_until(await log.make_tick(), "f", timeout=60)
    assert [c.op for c in taken.changes] == ["insert"] * 200
    assert len({c.key for c in taken.changes}) == 200


async def test_a_failure_to_prune_is_told_and_tried_again(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url))
    await make_tables(store)
    log = Journal(store, keep=0)
    await log.start()
    async with store.engine.begin() as connection:
        await connection.execute(text("DROP TABLE holdfast_slot CASCADE"))
    await asyncio.sleep(1.5)
    assert log._maintenance._task is not None
    assert not log._maintenance._task.done()
    await log.close()
    await store.close()
