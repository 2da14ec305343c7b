"""How fast a follower takes changes that are already there."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, closing

import asyncpg

from benchmarks.harness import Report, Subject
from benchmarks.journal_capture import (
    insert_statement,
    make_writer,
    sqlite_writer,
    stored_rows,
)
from benchmarks.journal_databases import PostgresTemplate, SqliteTemplate, opened
from benchmarks.journal_models import ENTRIES, rows_of, table_of
from holdfast import Holdfast
from holdfast.journal import Batch
from holdfast.store import Unit

_TABLE = table_of(ENTRIES.factual)
_AMOUNT = ENTRIES.columns.index("amount")


async def drain_cases(
    report: Report, postgres: PostgresTemplate, sqlite: SqliteTemplate, *, bulk: int, single: int
) -> list[str]:
    """Both kinds of durable followers take `bulk` changes, and `single` made one by one; returns the cases."""
    rounds = report.options.rounds + 1
    async with AsyncExitStack() as stack:
        rows = rows_of(ENTRIES, bulk)
        total = sum(row[_AMOUNT] for row in rows)

        url = stack.enter_context(postgres.copy())
        hold = await stack.enter_async_context(opened(url))
        drains = await _followers_before(hold, rounds)
        await _copied(hold, url, rows)
        cases = [await _case(report, "PostgreSQL, rows of bulk writes", hold, drains, bulk, total)]

        url = stack.enter_context(postgres.copy())
        hold = await stack.enter_async_context(opened(url))
        drains = await _followers_before(hold, rounds)
        await _written_one_by_one(hold, url, single)
        total_single = single * (single + 1) // 2
        cases.append(await _case(report, "PostgreSQL, rows of single commits", hold, drains, single, total_single))

        with sqlite.copy() as scratch:
            stored = stored_rows(scratch, ENTRIES, rows)
        file = stack.enter_context(sqlite.copy())
        hold = await stack.enter_async_context(opened(f"sqlite:///{file}"))
        drains = await _followers_before(hold, rounds)
        with closing(sqlite_writer(file)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert_statement(_TABLE, ENTRIES), stored)
            connection.execute("COMMIT")
        cases.append(await _case(report, "SQLite", hold, drains, bulk, total))
    return cases


async def _case(report: Report, name: str, hold: Holdfast, drains: dict[str, list[str]], count: int, total: int) -> str:
    case = f"delivery, {name}"
    used: dict[str, list[float]] = {}

    def subject(way: str) -> Subject:
        async def drain() -> float:
            began = time.process_time()
            took = await _drained(hold, drains[way].pop(), way, count, total)
            used.setdefault(way, []).append((time.process_time() - began) / count * 1e6)
            return count / took

        return drain

    await report.measure(case, "changes/s", {way: subject(way) for way in drains})
    for way, figures in used.items():
        report.record(f"follower's processor, {case}", way, "µs/change", figures[1:])
    return case


async def _followers_before(hold: Holdfast, rounds: int) -> dict[str, list[str]]:
    """Names of durable followers that stand where nothing was written yet, one for each time that all is drained."""
    names = {way: [f"{way} {number}" for number in range(rounds)] for way in ("durable", "transactional")}

    async def refuse(batch: Batch, unit: Unit | None = None) -> None:
        raise AssertionError("nothing was written yet")

    for way, followers in names.items():
        for name in followers:
            await hold.journal.subscribe(name, refuse, transactional=way == "transactional", start="now")
            await hold.journal.unsubscribe(name)
    return names


async def _drained(hold: Holdfast, name: str, way: str, count: int, total: int) -> float:
    """The seconds from subscribing until the handler had them all."""
    seen = amount = last = 0
    done = asyncio.Event()

    async def handle(batch: Batch, unit: Unit | None = None) -> None:
        nonlocal seen, amount, last
        for change in batch.changes:
            if change.op != "insert" or change.key is None or change.new is None or change.seq <= last:
                raise AssertionError(f"{change} is not what was written, or not in order")
            last = change.seq
            amount += change.new["amount"]
        seen += len(batch.changes)
        if seen >= count:
            done.set()

    began = time.perf_counter()
    await hold.journal.subscribe(name, handle, transactional=way == "transactional", start="now")
    async with asyncio.timeout(600):
        await done.wait()
    took = time.perf_counter() - began
    await hold.journal.unsubscribe(name)
    if (seen, amount) != (count, total):
        raise AssertionError(f"{count:,} changes of {total:,} were written, {seen:,} of {amount:,} delivered")
    return took


async def _copied(hold: Holdfast, url: str, rows: list[tuple[object, ...]]) -> None:
    """In ten transactions, with a tick after each, as another follower would have made."""
    each = -(-len(rows) // 10)
    connection = await asyncpg.connect(url)
    try:
        for start in range(0, len(rows), each):
            await connection.copy_records_to_table(
                _TABLE.name, records=rows[start : start + each], columns=ENTRIES.columns
            )
            await hold.journal.make_tick()
    finally:
        await connection.close()


async def _written_one_by_one(hold: Holdfast, url: str, count: int) -> None:
    """With a tick every few milliseconds, so that there are many small batches."""
    connection = await asyncpg.connect(url)
    try:
        await make_writer(connection, _TABLE)
        await connection.execute("SET synchronous_commit = off")
        writing = asyncio.create_task(connection.execute(f"CALL write_{_TABLE.name}($1, false)", count))
        while not (await asyncio.wait([writing], timeout=0.005))[0]:
            await hold.journal.make_tick()
        writing.result()
    finally:
        await connection.close()
