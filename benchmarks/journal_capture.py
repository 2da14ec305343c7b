"""What capture costs whoever writes: bulk loads, updates and single-row commits, beside the same without triggers."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]
from sqlalchemy import Table, create_engine, insert, text

from benchmarks.harness import Report, Subject
from benchmarks.journal_databases import PostgresTemplate, SqliteTemplate
from benchmarks.journal_models import Kind, rows_of, table_of
from holdfast.journal.wakeups import CHANNEL, DEBOUNCE, NOTIFY

CLIENTS = 4  # that commit single rows at the same time
SMALL = 1_000  # rows of a small COPY


def few(report: Report) -> int:
    """How often a figure is taken that is held to no limit."""
    return min(3, report.options.rounds)


class ServerTime:
    """The processor time that one backend took, which neighbours on the machine change less than the clock's."""

    def __init__(self, connection: Any) -> None:
        self._process = psutil.Process(connection.get_server_pid())
        self._began = self._used()

    def seconds(self) -> float:
        """Since it was made."""
        return self._used() - self._began

    def _used(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


async def binary_rows(url: str, kind: Kind, *parts: list[tuple[Any, ...]]) -> list[bytes]:
    """Each part as binary COPY takes it, so that the client only sends."""
    table = table_of(kind.uncaptured)
    made = []
    connection = await asyncpg.connect(url)
    try:
        for rows in parts:
            await connection.copy_records_to_table(table.name, records=rows, columns=kind.columns)
            out = io.BytesIO()
            await connection.copy_from_table(table.name, columns=kind.columns, output=out, format="binary")
            await connection.execute(f"TRUNCATE {table.name}")
            made.append(out.getvalue())
    finally:
        await connection.close()
    return made


async def copy_case(report: Report, template: PostgresTemplate, kind: Kind, count: int) -> str:
    """COPY `count` rows in one statement; returns the case. The processor's share is a case beside it."""
    case = f"COPY, {kind.name}"
    used: dict[str, list[float]] = {}
    with template.copy() as url:
        [data] = await binary_rows(url, kind, rows_of(kind, count))

        def subject(name: str, table: Table) -> Subject:
            async def copy() -> float:
                async with _emptied(url, table) as connection:
                    spent = ServerTime(connection)
                    began = time.perf_counter()
                    await _copy(connection, table, kind, data)
                    took = time.perf_counter() - began
                    used.setdefault(name, []).append(spent.seconds() / count * 1e6)
                    return count / took

            return copy

        await report.measure(case, "rows/s", {name: subject(name, table) for name, table in kind.subjects().items()})
    for name, figures in used.items():
        report.record(f"server's processor, {case}", name, "µs/row", figures[1:])
    return case


async def small_copies_case(report: Report, template: PostgresTemplate, kind: Kind, copies: int) -> None:
    """One COPY of `SMALL` rows after the other, each a transaction."""
    with template.copy() as url:
        first, *others = await binary_rows(url, kind, *(rows_of(kind, SMALL) for _ in range(copies + 1)))

        def subject(table: Table) -> Subject:
            async def copy() -> float:
                async with _emptied(url, table) as connection:
                    await _copy(connection, table, kind, first)
                    began = time.perf_counter()
                    for part in others:
                        await _copy(connection, table, kind, part)
                    return copies * SMALL / (time.perf_counter() - began)

            return copy

        subjects = {name: subject(table) for name, table in kind.subjects().items()}
        case = f"COPY of {SMALL:,} at a time, {kind.name}"
        await report.measure(case, "rows/s", subjects, rounds=few(report))


async def change_case(
    report: Report, template: PostgresTemplate, kind: Kind, count: int, verb: str, statement: str
) -> None:
    """One statement that changes `count` rows; `{}` in it is the table."""
    with template.copy() as url:
        [data] = await binary_rows(url, kind, rows_of(kind, count))

        def subject(table: Table) -> Subject:
            async def change() -> float:
                async with _emptied(url, table) as connection:
                    await _copy(connection, table, kind, data)
                    await connection.execute(f"ANALYZE {table.name}")
                    await connection.execute("CHECKPOINT")
                    began = time.perf_counter()
                    await connection.execute(statement.format(table.name))
                    return count / (time.perf_counter() - began)

            return change

        subjects = {name: subject(table) for name, table in kind.subjects().items()}
        await report.measure(f"{verb}, {kind.name}", "rows/s", subjects, rounds=few(report))


@asynccontextmanager
async def _emptied(url: str, table: Table) -> AsyncIterator[Any]:
    """A new connection, with `table` empty and a checkpoint just made, so that none is due soon."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"TRUNCATE {table.name}")
        await connection.execute("CHECKPOINT")
        yield connection
    finally:
        await connection.close()


async def _copy(connection: Any, table: Table, kind: Kind, data: bytes) -> None:
    source = io.BytesIO(data)
    await connection.copy_to_table(table.name, columns=kind.columns, source=source, format="binary")


async def bulk_insert_case(report: Report, template: SqliteTemplate, kind: Kind, count: int) -> str:
    """`executemany` of `count` rows in one transaction; returns the case."""
    case = f"bulk insert into SQLite, {kind.name}"
    with template.copy() as file:
        rows = stored_rows(file, kind, rows_of(kind, count))

    def subject(table: Table) -> Subject:
        def load() -> float:
            with template.copy() as file, closing(sqlite_writer(file)) as connection:
                statement = insert_statement(table, kind)
                began = time.perf_counter()
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(statement, rows)
                connection.execute("COMMIT")
                return count / (time.perf_counter() - began)

        return load

    await report.measure(case, "rows/s", {name: subject(table) for name, table in kind.subjects().items()})
    return case


def stored_rows(file: Path, kind: Kind, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`rows` as SQLite keeps them: written through the models' types, read back without."""
    table = table_of(kind.uncaptured)
    engine = create_engine(f"sqlite:///{file}")
    try:
        with engine.begin() as connection:
            connection.execute(insert(table), [dict(zip(kind.columns, row, strict=True)) for row in rows])
        with engine.connect() as connection:
            columns = ", ".join(kind.columns)
            return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table.name}"))]  # noqa: S608
    finally:
        engine.dispose()


def insert_statement(table: Table, kind: Kind) -> str:
    """INSERT of one row with placeholders."""
    columns, marks = ", ".join(kind.columns), ", ".join("?" * len(kind.columns))
    return f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608  names of ours


def sqlite_writer(file: Path) -> sqlite3.Connection:
    """A connection of the standard library's with the settings that the store writes with."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
        "PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;"
    )
    return connection


# The loop runs in the server, so that what is compared is the server's work and no client's.
_WRITE = """
    CREATE PROCEDURE write_{0}(many integer, tell boolean) LANGUAGE plpgsql AS $$
    BEGIN
        FOR number IN 1 .. many LOOP
            INSERT INTO {0} (id, account_id, kind, amount, quantity, settled, note, created_at)
            VALUES (gen_random_uuid(), number, 'paid', number, 1, true, 'one by one', clock_timestamp());
            IF tell THEN
                PERFORM pg_notify('{1}', '');
            END IF;
            COMMIT;
        END LOOP;
    END $$
"""


async def make_writer(connection: Any, table: Table) -> None:
    """The procedure `write_TABLE(many, tell)`: that many single-row commits of entries, each with a NOTIFY if told."""
    await connection.execute(_WRITE.format(table.name, CHANNEL))


async def commits_case(report: Report, template: PostgresTemplate, kind: Kind, count: int) -> None:
    """Single-row commits of `CLIENTS` connections: captured or not, and told to followers or not."""
    each = max(1, count // CLIENTS)
    tables = kind.subjects()
    with template.copy() as url:
        async with _connections(url, CLIENTS + 2) as (listening, telling, *writing):
            await listening.add_listener(CHANNEL, lambda *_: None)
            for table in tables.values():
                await make_writer(telling, table)

            def subject(table: Table, *, every: bool = False, debounced: bool = False) -> Subject:
                async def commit() -> float:
                    teller = asyncio.create_task(_tell(telling)) if debounced else None
                    began = time.perf_counter()
                    call = f"CALL write_{table.name}($1, $2)"
                    await asyncio.gather(*(one.execute(call, each, every) for one in writing))
                    took = time.perf_counter() - began
                    if teller is not None:
                        teller.cancel()
                        await asyncio.gather(teller, return_exceptions=True)
                    return each * CLIENTS / took

                return commit

            subjects = {name: subject(table) for name, table in tables.items()}
            subjects["keys, NOTIFY debounced"] = subject(tables["keys"], debounced=True)
            subjects["keys, NOTIFY in each"] = subject(tables["keys"], every=True)
            case = f"single-row commits of {CLIENTS} connections"
            await report.measure(case, "commits/s", subjects, rounds=few(report))


async def _tell(connection: Any) -> None:
    """What a process that commits all the time does for its followers."""
    while True:
        await connection.execute(NOTIFY)
        await asyncio.sleep(DEBOUNCE)


@asynccontextmanager
async def _connections(url: str, count: int) -> AsyncIterator[list[Any]]:
    made = [await asyncpg.connect(url) for _ in range(count)]
    try:
        yield made
    finally:
        await asyncio.gather(*(one.close() for one in made))
