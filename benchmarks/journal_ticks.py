"""How many ticks a second can be made on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg

from benchmarks.harness import Report, Subject
from benchmarks.journal_capture import make_writer
from benchmarks.journal_databases import PostgresTemplate, opened
from benchmarks.journal_models import ENTRIES, table_of
from holdfast import Holdfast

CALLERS = 4
_TABLE = table_of(ENTRIES.keyed)

Ticks = Callable[[Holdfast, str, int], Awaitable[float]]


async def tick_cases(report: Report, template: PostgresTemplate, case: str, count: int, *, rounds: int) -> None:
    """Ticks made by `Journal.make_tick`: with nothing to find, with a change before each, with writers at work."""

    with template.copy() as url:
        async with opened(url) as hold:
            await _with_writer(url)
            await hold.journal.make_tick()

            def subject(measure: Ticks, count: int) -> Subject:
                return lambda: measure(hold, url, count)

            await report.measure(
                case,
                "ticks/s",
                {
                    "SELECT 1, which is the round trip": subject(_round_trips, count),
                    "nothing new": subject(_nothing_new, count),
                    "a change before each": subject(_a_change_before_each, max(2, count // 4)),
                    "writers at work": subject(_writers_at_work, max(2, count // 4)),
                    f"nothing new, {CALLERS} callers, one process": subject(_callers_of_one, count),
                    f"nothing new, {CALLERS} callers, a connection each": subject(_callers_apart, count),
                },
                rounds=rounds,
            )


async def _with_writer(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await make_writer(connection, _TABLE)
    finally:
        await connection.close()


async def _round_trips(hold: Holdfast, url: str, count: int) -> float:
    """What the machine, the driver and the server give before a tick does anything."""
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.prepare("SELECT 1")
        began = time.perf_counter()
        for _ in range(count):
            await statement.fetch()
        return count / (time.perf_counter() - began)
    finally:
        await connection.close()


async def _nothing_new(hold: Holdfast, url: str, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await hold.journal.make_tick()
    return count / (time.perf_counter() - began)


async def _a_change_before_each(hold: Holdfast, url: str, count: int) -> float:
    """A captured row is committed before every tick, by another connection; only the ticks are timed."""
    connection = await asyncpg.connect(url)
    try:
        last = await hold.journal.make_tick()
        spent = 0.0
        for _ in range(count):
            await connection.execute(f"CALL write_{_TABLE.name}(1, false)")
            began = time.perf_counter()
            tick = await hold.journal.make_tick()
            spent += time.perf_counter() - began
            if tick <= last:
                raise AssertionError(f"a change was committed, and {tick} is no later tick than {last}")
            last = tick
        return count / spent
    finally:
        await connection.close()


async def _writers_at_work(hold: Holdfast, url: str, count: int) -> float:
    """Two connections commit captured rows one by one, all the time."""
    writing = [await asyncpg.connect(url) for _ in range(2)]
    try:
        tasks = [asyncio.create_task(one.execute(f"CALL write_{_TABLE.name}(100000000, false)")) for one in writing]
        first = last = await hold.journal.make_tick()
        async with asyncio.timeout(30):
            while last <= first:  # until they are at work
                last = await hold.journal.make_tick()
        first, made = last, 0
        began = time.perf_counter()
        async with asyncio.timeout(30):
            while made < count or last <= first:  # a few ticks may pass before the writers commit again
                last = await hold.journal.make_tick()
                made += 1
        took = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return made / took
    finally:
        # A procedure that commits runs on in the server when its client has gone, and would burden every later figure.
        async with hold.store.raw() as connection:
            for one in writing:
                await connection.execute("SELECT pg_terminate_backend($1, 10000)", one.get_server_pid())
        for one in writing:
            one.terminate()


async def _callers_of_one(hold: Holdfast, url: str, count: int) -> float:
    return await _together([hold] * CALLERS, count)


async def _callers_apart(hold: Holdfast, url: str, count: int) -> float:
    others = [await Holdfast.open(migrate=False, settings=hold.settings) for _ in range(CALLERS - 1)]
    try:
        for other in others:
            await other.journal.make_tick()
        return await _together([hold, *others], count)
    finally:
        for other in others:
            await other.close()


async def _together(holds: list[Holdfast], count: int) -> float:
    each = max(1, count // len(holds))
    began = time.perf_counter()
    await asyncio.gather(*(_many(hold, each) for hold in holds))
    return each * len(holds) / (time.perf_counter() - began)


async def _many(hold: Holdfast, count: int) -> None:
    for _ in range(count):
        await hold.journal.make_tick()
