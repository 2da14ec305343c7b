"""On PostgreSQL, everything comes once and in order, whatever stays open, is rolled back or is huge."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.errors import JournalError
from holdfast.journal import Change, Journal, Page, Position, feed_postgres
from holdfast.journal.epoch import Epochs
from holdfast.journal.feed_postgres import PostgresFeed
from holdfast.settings import Settings
from holdfast.store import Store
from tests.backends import settings_for
from tests.journal.conftest import Reader, make_tables


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = Store(settings_for(postgres_url))
    await make_tables(store)
    yield store
    await store.close()


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[Any]:
    async with store.raw() as connection:
        yield connection


@pytest.fixture
async def other(store: Store) -> AsyncIterator[Any]:
    async with store.raw() as connection:
        yield connection


ADD = "INSERT INTO notes (n) VALUES ($1) RETURNING id"


async def test_an_open_transaction_delays_no_other(writer: Any, other: Any, reader: Reader) -> None:
    begun = writer.transaction()
    await begun.start()
    late = await writer.fetchval(ADD, 1)
    soon = await other.fetchval(ADD, 2)
    assert [c.key for c in await reader.changes()] == [str(soon)]
    assert await reader.changes() == []
    await begun.commit()
    assert [c.key for c in await reader.changes()] == [str(late)]


async def test_a_row_changed_by_a_transaction_that_waited_comes_after(writer: Any, other: Any, reader: Reader) -> None:
    """The one that waits has the lower transaction id and numbers of both sides: neither may decide the order."""
    id = await writer.fetchval(ADD, 0)
    await reader.skip()
    early = other.transaction()
    await early.start()
    await other.fetchval(ADD, 99)  # takes its id and a number before the other's
    async with writer.transaction():
        await writer.execute("UPDATE notes SET n = 1 WHERE id = $1", id)
        waiting = asyncio.create_task(other.execute("UPDATE notes SET n = 2 WHERE id = $1", id))
        await asyncio.sleep(0.1)
    await waiting
    first = await reader.changes()
    await early.commit()
    second = await reader.changes()
    assert [c.seq for c in first] < [c.seq for c in second if c.key == str(id)]
    assert [c.key for c in first] == [str(id)]
    assert str(id) in [c.key for c in second]


async def test_what_is_rolled_back_never_comes(writer: Any, other: Any, reader: Reader) -> None:
    begun = writer.transaction()
    await begun.start()
    await writer.fetchval(ADD, 1)
    kept = await other.fetchval(ADD, 2)
    assert [c.key for c in await reader.changes()] == [str(kept)]
    await begun.rollback()
    assert await reader.changes() == []


async def test_a_prepared_transaction_comes_when_it_is_committed(writer: Any, other: Any, reader: Reader) -> None:
    await writer.execute("BEGIN")
    id = await writer.fetchval(ADD, 1)
    await writer.execute("PREPARE TRANSACTION 'held'")
    await other.fetchval(ADD, 2)
    assert len(await reader.changes()) == 1
    await other.execute("COMMIT PREPARED 'held'")
    assert [c.key for c in await reader.changes()] == [str(id)]


async def test_savepoints_do_not_hide_a_change(writer: Any, reader: Reader) -> None:
    async with writer.transaction():
        ids = []
        for n in range(100):
            async with writer.transaction():
                ids.append(str(await writer.fetchval(ADD, n)))
    assert [c.key for c in await reader.changes()] == ids


async def test_no_tick_is_made_when_nothing_happened(writer: Any, log: Journal) -> None:
    await writer.fetchval(ADD, 1)
    first = await log.make_tick()
    await writer.execute("SELECT pg_current_xact_id()")
    assert await log.make_tick() == first
    begun = writer.transaction()
    await begun.start()
    await writer.fetchval(ADD, 2)
    assert await log.make_tick() == first
    await begun.commit()
    assert (await log.make_tick()).tick == first.tick + 1


async def test_ticks_made_at_the_same_time_are_nested(store: Store, log: Journal) -> None:
    async def write(number: int) -> None:
        async with store.raw() as connection:
            for n in range(30):
                await connection.fetchval(ADD, number * 100 + n)
                await connection.execute("SELECT holdfast_make_tick()")

    start = await log.make_tick()
    await asyncio.gather(*(write(number) for number in range(6)))
    found: list[Change] = []
    async for page in log.read(start, await log.make_tick()):
        found += page.changes
    assert len(found) == len({c.key for c in found}) == 180
    assert [c.tick for c in found] == sorted(c.tick for c in found)


async def test_a_tick_covers_what_was_committed_before_it_was_asked_for(store: Store, log: Journal) -> None:
    async def write(number: int) -> None:
        async with store.raw() as connection:
            for n in range(20):
                id = await connection.fetchval(ADD, n)
                upto = await log.make_tick()
                start = Position(upto.epoch, 1)
                keys = {c.key async for page in log.read(start, upto) for c in page.changes}
                assert str(id) in keys

    await log.make_tick()
    await asyncio.gather(*(write(number) for number in range(4)))


async def pages(log: Journal, start: Position, limit: int) -> list[Page]:
    found, upto = [], await log.make_tick()
    while True:
        page = await log._feed.page(start, upto, None, limit)
        found.append(page)
        start = page.position
        if not page.more:
            return found


@pytest.mark.parametrize("window", [1, 3, 100_000])
async def test_a_huge_batch_comes_in_pages_that_can_be_resumed_anywhere(
    store: Store, log: Journal, writer: Any, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_postgres, "WINDOW", window)
    start = await log.make_tick()
    async with store.raw() as other:
        long = other.transaction()
        await long.start()
        for n in range(40):
            await writer.fetchval(ADD, n)
            await other.fetchval(ADD, 1_000 + n)
        await writer.execute("INSERT INTO notes (n) SELECT * FROM generate_series(1, 1000)")
        await long.commit()
    await log.make_tick()
    await writer.fetchval(ADD, 5)
    expected = [c.seq for page in await pages(log, start, 10_000) for c in page.changes]
    assert len(expected) == 1_081
    for limit in (1, 7, 50):
        found = await pages(log, start, limit)
        assert [c.seq for page in found for c in page.changes] == expected
    whole = [c for page in await pages(log, start, 10_000) for c in page.changes]
    for i in (0, 39, 81, 100, 700, 1_079):
        behind = log._feed.position_of(whole[i], start.epoch)
        assert [c.seq for page in await pages(log, behind, 3) for c in page.changes] == expected[i + 1 :]


async def test_another_reader_of_the_same_batch_is_not_disturbed(store: Store, log: Journal, writer: Any) -> None:
    start = await log.make_tick()
    await writer.execute("INSERT INTO notes (n) SELECT * FROM generate_series(1, 5000)")
    upto = await log.make_tick()
    a = b = start
    read: dict[str, list[int]] = {"a": [], "b": []}
    while a.tick < upto.tick or b.tick < upto.tick:
        page = await log._feed.page(a, upto, None, 3)
        read["a"] += [c.seq for c in page.changes]
        a = page.position
        page = await log._feed.page(b, upto, None, 7)
        read["b"] += [c.seq for c in page.changes]
        b = page.position
    assert len(read["a"]) == 5_000
    assert read["a"] == read["b"]


async def test_a_position_of_pruned_changes_is_lost(log: Journal, writer: Any) -> None:
    start = await log.make_tick()
    await writer.fetchval(ADD, 1)
    upto = await log.make_tick()
    await writer.execute("DELETE FROM holdfast_ticks WHERE id < $1", upto.tick)
    [page] = [page async for page in log.read(start, upto)]
    assert page.lost
    [page] = [page async for page in log.read(Position(upto.epoch - 1, upto.tick), upto)]
    assert page.lost


async def plan(connection: Any, statement: str) -> str:
    """The plans of what runs inside the journal's functions."""
    notes: list[str] = []
    connection.add_log_listener(lambda _, message: notes.append(message.message))
    await connection.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
        " SET auto_explain.log_format = json; SET client_min_messages = log"
    )
    await connection.execute(statement)
    await connection.execute("SET client_min_messages = notice")
    await asyncio.sleep(0)
    return "\n".join(notes)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT holdfast_make_tick()",
        "SELECT holdfast_page(1, 1000, NULL, 100)",
        "SELECT holdfast_order(2, 0, 1000)",
        "SELECT holdfast_rows(2, '{1,2}', '{1024,2048}', NULL)",
        "SELECT holdfast_lag(1, 1000)",
    ],
)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_the_journal_is_read_by_its_index_alone(
    store: Store, log: Journal, writer: Any, statement: str, analyzed: bool
) -> None:
    await log.make_tick()
    for _ in range(30):
        await writer.fetchval(ADD, 1)
        await log.make_tick()
    await writer.execute("INSERT INTO notes (n) SELECT * FROM generate_series(1, 20000)")
    if analyzed:
        await writer.execute("ANALYZE")
    plans = await plan(writer, statement)
    assert "holdfast_journal_0_xid" in plans
    for text in plans.split("\n{")[1:]:
        body = json.loads("{" + text.partition("\n}")[0] + "\n}")
        walk(body["Plan"])


def walk(node: dict[str, Any]) -> None:
    if node.get("Relation Name", "").startswith("holdfast_journal"):
        assert "Seq Scan" not in node["Node Type"], node
    for child in node.get("Plans", []):
        walk(child)


async def test_a_load_that_is_still_open_costs_a_reader_nothing(
    store: Store, log: Journal, writer: Any, other: Any
) -> None:
    start = await log.make_tick()
    begun = writer.transaction()
    await begun.start()
    await writer.execute("DO 'BEGIN FOR i IN 1..20000 LOOP INSERT INTO notes (n) VALUES (i); END LOOP; END'")
    await other.fetchval(ADD, 1)
    upto = await log.make_tick()
    for statement in (f"SELECT holdfast_page({start.tick}, {upto.tick}, NULL, 100)", "SELECT holdfast_make_tick()"):
        await other.execute(statement)  # plans and catalogs are read once
        [(explained,)] = await other.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        assert json.loads(explained)[0]["Plan"]["Shared Hit Blocks"] < 50
    await begun.rollback()


def test_a_feed_can_be_made_without_a_database() -> None:
    store = Store(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    assert PostgresFeed(store, Epochs(store)) is not None


async def test_a_database_without_a_journal_says_so(database_url: str) -> None:
    store = Store(settings_for(database_url))
    log = Journal(store)
    with pytest.raises(JournalError, match="migrate up"):
        await log.make_tick()
    await log.close()
    await store.close()
