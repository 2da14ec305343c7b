"""A backfill on PostgreSQL beside writers: how many rows a second, and how long anybody waited for a lock.

The table is captured, as a model is unless it says otherwise. While a subject runs, two writers update random rows
of it, one row a transaction. Their UPDATE is timed inside the server, its wait for locks included: what a client waits
besides is the machine's doing. Peers: the one statement that a migration usually has, and row by row through the ORM.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import MetaData, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from benchmarks.harness import Options, Report, quantile
from devservers import start_postgres
from holdfast import Holdfast, Model, Policy, Settings, Timestamps
from holdfast.migrate import backfill
from holdfast.model import NAMING

ROWS_PER_SECOND = 30_000
LOCKED = 50.0  # milliseconds

ROWS = 200_000
FEW = 4_000  # for what takes them one by one
WRITERS = 2
METADATA = MetaData(naming_convention=NAMING)
TIMED = """
    CREATE FUNCTION timed_update(given uuid) RETURNS float8 LANGUAGE plpgsql AS $$
    DECLARE
        began timestamptz := clock_timestamp();
    BEGIN
        UPDATE benchmark_articles SET seen = seen + 1 WHERE id = given;
        RETURN extract(epoch FROM clock_timestamp() - began);
    END
    $$
"""


class Titled(Timestamps, Model):
    """What is to get titles."""

    __abstract__ = True
    metadata = METADATA


class Article(Titled):
    __tablename__ = "benchmark_articles"
    __policy__ = Policy()

    name: Mapped[str]
    text: Mapped[str]
    title: Mapped[str | None]
    seen: Mapped[int]


class Writers:
    """Others who update random rows meanwhile."""

    def __init__(self, url: str, keys: list[Any]) -> None:
        self._url = url
        self._keys = keys
        self._end = False
        self._tasks: list[asyncio.Task[None]] = []
        self.waits: list[float] = []

    async def __aenter__(self) -> Writers:
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._end = True
        await asyncio.gather(*self._tasks)

    async def _write(self, seed: int) -> None:
        connection = await asyncpg.connect(self._url)
        chosen = random.Random(seed)
        while not self._end:
            took = await connection.fetchval("SELECT timed_update($1)", chosen.choice(self._keys))
            self.waits.append(took * 1e3)
            await asyncio.sleep(0.005)
        await connection.close()


async def run(options: Options) -> Report:
    """Measure on PostgreSQL, and hold the figures to the limits."""
    report = Report("backfill", options)
    with start_postgres() as server, server.database() as url:
        settings = Settings.from_environment({}, database_url=url, slow_query=0)
        async with await Holdfast.open(settings=settings, metadata=METADATA, migrate=True) as hold:
            async with hold.unit() as unit:
                await unit[Article].add_many(
                    [{"name": f"row {n}", "text": "to hold fast " * 10, "seen": 0} for n in range(options.scaled(ROWS))]
                )
                keys = [row[0] for row in await unit.execute(select(Article.id))]
                await unit.execute(TIMED)
            await _measure(report, hold, url, keys)
    return report


async def _measure(report: Report, hold: Holdfast, url: str, keys: list[Any]) -> None:
    few = keys[: report.options.scaled(FEW)]
    held: list[float] = []

    async def transformed() -> int:
        done = await backfill(
            hold.store,
            name="titles",
            source=Article,
            columns=("name",),
            transform=lambda row: {"title": row.name.upper()},
            again=True,
        )
        held.append(done.slowest * 1e3)
        return done.written

    async def set_() -> int:
        values = {"title": func.upper(Article.name)}
        done = await backfill(hold.store, name="titles, SQL", source=Article, set_=values, again=True)
        held.append(done.slowest * 1e3)
        return done.written

    async def at_once() -> int:
        async with hold.store.engine.begin() as connection:
            done = await connection.execute(text("UPDATE benchmark_articles SET title = upper(name)"))
        return done.rowcount

    async def one_by_one() -> int:
        for key in few:
            async with AsyncSession(hold.store.engine) as session, session.begin():
                row = await session.get_one(Article, key)
                row.title = row.name.upper() + "."
        return len(few)

    subjects: dict[str, Callable[[], Awaitable[int]]] = {
        "holdfast, transform in Python": transformed,
        "holdfast, set_ in SQL": set_,
        "one UPDATE": at_once,
        "ORM, row by row": one_by_one,
    }
    waits: dict[str, list[list[float]]] = {name: [] for name in subjects}

    def subject(name: str) -> Callable[[], Awaitable[float]]:
        async def figure() -> float:
            await _cleared(hold)
            async with Writers(url, keys) as writers:
                began = time.perf_counter()
                count = await subjects[name]()
                seconds = time.perf_counter() - began
            waits[name].append(writers.waits)
            return count / seconds

        return figure

    await report.measure("rows filled beside writers", "rows/s", {name: subject(name) for name in subjects})
    for name in subjects:
        kept = waits[name][1:]
        report.record("slowest write of others meanwhile", name, "ms", [max(one) for one in kept])
        report.record("p99 of the writes of others meanwhile", name, "ms", [quantile(one, 0.99) for one in kept])
    report.record("longest that a transaction held locks", "holdfast", "ms", held)
    for name in list(subjects)[:2]:
        rate = report.median("rows filled beside writers", name)
        report.target(f"{name}, rows/s", rate, at_least=ROWS_PER_SECOND)
        slowest = max(max(one) for one in waits[name][1:])
        report.target(f"{name}, slowest write of others, ms", slowest, at_most=LOCKED)
    report.target("longest that a transaction held locks, ms", max(held), at_most=LOCKED)


async def _cleared(hold: Holdfast) -> None:
    """Every subject begins with a table that is as new, and a journal that is empty."""
    async with hold.store.engine.begin() as connection:
        await connection.execute(text("UPDATE benchmark_articles SET title = NULL WHERE title IS NOT NULL"))
    async with hold.store.raw() as connection:
        await connection.execute("VACUUM ANALYZE benchmark_articles")
        await connection.execute("CHECKPOINT")
