"""The store beside what it stands on and what it competes with: SQLAlchemy's own session and Core, advanced-alchemy.

All subjects use the store's own engines and the same captured tables. A `get` and a page are what a request does:
open, ask, close. `add_many` and Core's insert take the same dictionaries, which leave the key and the times to the
columns' defaults, and commit once; beside asyncpg's COPY, which is given the same, those are made by whoever writes.
advanced-alchemy pages by offset, in both of its ways of counting, and the quicker one is what we are held to; the page
is one from the middle, and the same rows for all: once in an order that an index has, once in one that has to be
sorted.
"""

from __future__ import annotations

import datetime as dt
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import Index, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.harness import Options, Report, Subject, microseconds_each
from devservers import start_postgres
from holdfast import Amount, Holdfast, Model, Policy, Query, Settings, Timestamps, Unit, Versioned
from holdfast.model import NAMING, uuid7

GET_OVER_ORM = 1.15
ADD_MANY_OVER_CORE = 1.2
COPY_OF_ASYNCPG = 0.9
PAGE_OVER_ADVANCED_ALCHEMY = 1.0

ROWS = 10_000  # in the table that is read
PAGE = 20
METADATA = MetaData(naming_convention=NAMING)


class Columns(Timestamps, Versioned):
    """What a row of either table has."""

    title: Mapped[str]
    text: Mapped[str]
    stars: Mapped[int]
    amount: Mapped[int] = mapped_column(Amount())
    active: Mapped[bool]
    seen_at: Mapped[dt.datetime | None]


class BenchmarkModel(Model):
    __abstract__ = True
    metadata = METADATA


class Read(Columns, BenchmarkModel):
    """The rows that are got and paged."""

    __tablename__ = "benchmark_read"
    __policy__ = Policy()
    __table_args__ = (Index("ix_benchmark_read_active_created_at_id", "active", "created_at", "id"),)


class Written(Columns, BenchmarkModel):
    """The rows that are written."""

    __tablename__ = "benchmark_written"
    __policy__ = Policy()


class Reads(SQLAlchemyAsyncRepository[Read]):
    """advanced-alchemy's repository of the same rows."""

    model_type = Read


async def run(options: Options) -> Report:
    """Measure on both databases, and hold the figures to the limits."""
    report = Report("store", options)
    with tempfile.TemporaryDirectory(prefix="holdfast-store-") as folder:
        await _measure(report, "SQLite", f"sqlite:///{folder}/holdfast.db")
    with start_postgres() as server, server.database() as url:
        await _measure(report, "PostgreSQL", url)
    return report


async def _measure(report: Report, name: str, url: str) -> None:
    settings = Settings.from_environment({}, database_url=url, slow_query=0)
    async with await Holdfast.open(settings=settings, metadata=METADATA, migrate=True) as hold:
        async with hold.unit() as unit:
            await unit[Read].add_many(_rows(ROWS))
            keys = [row.id for row in await unit[Read].list()]
        await _get(report, f"get, {name}", hold, keys)
        await _page(report, f"page and total, {name}", hold, "created_at")
        await _page(report, f"page and total without an index, {name}", hold, "title")
        await _add_many(report, f"add_many, {name}", hold)
        if hold.store.dialect == "postgresql":
            await _copy(report, f"add_many of many, {name}", hold)


async def _get(report: Report, case: str, hold: Holdfast, keys: list[Any]) -> None:
    asked = random.Random(7).choices(keys, k=report.options.scaled(300))

    async def ours() -> None:
        for key in asked:
            async with hold.read() as unit:
                await unit[Read].get(key)

    async def plain() -> None:
        for key in asked:
            async with AsyncSession(hold.store.read_engine) as session:
                assert await session.get(Read, key) is not None

    work = {"holdfast": ours, "async ORM": plain}
    await report.measure(case, "µs", {name: microseconds_each(get, len(asked)) for name, get in work.items()})
    report.target(f"{case} / async ORM", report.ratio(case, "holdfast", "async ORM"), at_most=GET_OVER_ORM)


async def _page(report: Report, case: str, hold: Holdfast, order: str) -> None:
    times = report.options.scaled(40)
    middle = ROWS // 4 // PAGE * PAGE  # of the half that is active
    query = Query(Read).where(active=True).order_by(order)
    async with hold.read() as unit:
        expected = [row.id for row in await unit[Read].list(query.offset(middle).limit(PAGE))]
        after = await _cursor(unit, query, middle)

    async def ours() -> None:
        for _ in range(times):
            async with hold.read() as unit:
                page = await unit[Read].page(query, limit=PAGE, after=after, total=True)
                assert ([row.id for row in page.items], page.total) == (expected, ROWS // 2)

    def theirs(window: bool) -> Callable[[], Awaitable[None]]:
        async def listed() -> None:
            for _ in range(times):
                async with AsyncSession(hold.store.read_engine) as session:
                    rows, total = await Reads(session=session).list_and_count(
                        Read.active.is_(True),
                        OrderBy(order),
                        LimitOffset(limit=PAGE, offset=middle),
                        count_with_window_function=window,
                    )
                    assert ([row.id for row in rows], total) == (expected, ROWS // 2)

        return listed

    work = {
        "holdfast": ours,
        "advanced-alchemy": theirs(True),
        "advanced-alchemy, counting apart": theirs(False),
    }
    await report.measure(case, "µs", {name: microseconds_each(page, times) for name, page in work.items()})
    for peer in list(work)[1:]:
        report.target(f"{case} / {peer}", report.ratio(case, "holdfast", peer), at_most=PAGE_OVER_ADVANCED_ALCHEMY)


async def _cursor(unit: Unit, query: Query[Read], rows: int) -> str | None:
    """The cursor behind the first `rows` rows."""
    cursor: str | None = None
    while rows:
        size = min(rows, 1_000)
        cursor = (await unit[Read].page(query, limit=size, after=cursor)).next
        rows -= size
    return cursor


async def _add_many(report: Report, case: str, hold: Holdfast) -> None:
    count = report.options.scaled(5_000)
    table: Table = Written.__table__  # type: ignore[assignment]

    async def ours(rows: list[dict[str, Any]]) -> None:
        async with hold.unit(actor="benchmark") as unit:
            assert await unit[Written].add_many(rows) == count

    async def core(rows: list[dict[str, Any]]) -> None:
        async with hold.store.engine.begin() as connection:
            await connection.execute(table.insert(), rows)

    def subject(write: Callable[[list[dict[str, Any]]], Awaitable[None]]) -> Subject:
        async def figure() -> float:
            rows = _rows(count)
            began = time.perf_counter()
            await write(rows)
            return (time.perf_counter() - began) / count * 1e6

        return figure

    await report.measure(case, "µs a row", {"holdfast": subject(ours), "Core insert": subject(core)})
    report.target(f"{case} / Core insert", report.ratio(case, "holdfast", "Core insert"), at_most=ADD_MANY_OVER_CORE)


async def _copy(report: Report, case: str, hold: Holdfast) -> None:
    """The same dictionaries into the same captured table, what they leave out made by both."""
    count = report.options.scaled(50_000)
    names = [column.name for column in Written.__table__.columns]

    async def ours(rows: list[dict[str, Any]]) -> None:
        async with hold.unit(actor="benchmark") as unit:
            assert await unit[Written].add_many(rows) == count

    async with hold.store.raw() as connection:

        async def plain(rows: list[dict[str, Any]]) -> None:
            now = dt.datetime.now(dt.UTC)
            made: dict[str, Callable[[], Any]] = {"id": uuid7, "version": lambda: 1}
            made |= {"created_at": lambda: now, "updated_at": lambda: now}
            records = [
                tuple(
                    Decimal(row[name]) if name == "amount" else row[name] if name in row else made[name]()
                    for name in names
                )
                for row in rows
            ]
            async with connection.transaction():
                await connection.copy_records_to_table("benchmark_written", records=records, columns=names)

        def subject(write: Callable[[list[dict[str, Any]]], Awaitable[None]]) -> Subject:
            async def figure() -> float:
                rows = _rows(count)
                began = time.perf_counter()
                await write(rows)
                return count / (time.perf_counter() - began)

            return figure

        await report.measure(case, "rows/s", {"holdfast": subject(ours), "asyncpg COPY": subject(plain)})
    report.target(f"{case} / asyncpg COPY", report.ratio(case, "holdfast", "asyncpg COPY"), at_least=COPY_OF_ASYNCPG)


def _rows(count: int) -> list[dict[str, Any]]:
    seen = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [
        {
            "title": f"row {number}",
            "text": "The part of a seaweed that keeps it on the rock. " * 2,
            "stars": number % 5,
            "amount": number * 10**18,
            "active": number % 2 == 0,
            "seen_at": seen + dt.timedelta(seconds=number) if number % 3 else None,
        }
        for number in range(count)
    ]
