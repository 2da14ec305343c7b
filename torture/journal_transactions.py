"""One transaction of a writer, by whichever way it reaches the database, and the note of what it committed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import msgspec

from holdfast.errors import StoreError
from holdfast.store import Store, Unit

BUSY = 60.0  # seconds a driver waits for SQLite's one writer


class Write(msgspec.Struct, frozen=True, array_like=True):
    """What a writer did to a row: the version it wrote, or that of the row it deleted."""

    table: str
    key: str
    op: str
    version: int


class Committed(msgspec.Struct, frozen=True):
    """A writer's note of a transaction.

    Attributes:
        outcome: its row in `outcomes`.
        actor: who acted; None where a driver said nothing.
        at: nanoseconds of the monotonic clock when the commit had returned; 0 when it did not return.
        sure: whether it was committed; otherwise only `outcomes` knows.
        truncated: how many TRUNCATEs it holds.
    """

    outcome: str
    actor: str | None
    at: int
    sure: bool
    writes: list[Write]
    truncated: int = 0


class TakenBack(Exception):
    """What a writer raises to roll back."""


class Transaction:
    """What was written so far, and a way to write more."""

    def __init__(self, execute: Callable[[str], Awaitable[list[Any]]]) -> None:
        self.sql = execute
        self.writes: list[Write] = []
        self.truncated = 0

    def wrote(self, table: str, key: object, op: str, version: int) -> None:
        """Note a write that happened if this commits."""
        self.writes.append(Write(table, str(key), op, version))

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """What is written inside is undone by a savepoint."""
        before, truncated = len(self.writes), self.truncated
        await self.sql("SAVEPOINT undone")
        yield
        await self.sql("ROLLBACK TO SAVEPOINT undone")
        await self.sql("RELEASE SAVEPOINT undone")
        del self.writes[before:]
        self.truncated = truncated


class UnitTransaction(Transaction):
    """One in a unit of the store, which has its own savepoints."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(self._execute)
        self._unit = unit

    async def _execute(self, sql: str) -> list[Any]:
        result = await self._unit.execute(sql)
        return list(result.all()) if result.returns_rows else []  # type: ignore[attr-defined]

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        before, truncated = len(self.writes), self.truncated
        with suppress(TakenBack):
            async with self._unit.savepoint():
                yield
                raise TakenBack
        del self.writes[before:]
        self.truncated = truncated


Work = Callable[[Transaction], Awaitable[None]]


class Transactor:
    """Runs transactions for one writer and notes what was committed, in a file of its own.

    Attributes:
        lost: how many transactions the database ended by itself (deadlocks, a lock that was not free).
    """

    def __init__(self, number: int, store: Store, notes: Path) -> None:
        self.number, self.store = number, store
        self.lost = 0
        self.count = 0
        self._notes = open(notes, "ab", buffering=0)  # noqa: SIM115  for as long as the writer works
        self._raw: Any = None

    async def unit(self, work: Work, actor: str | None) -> None:
        """In a unit of the store."""
        transaction: Transaction | None = None
        outcome = self._outcome()
        try:
            async with self.store.unit(actor=actor) as unit:
                transaction = UnitTransaction(unit)
                await work(transaction)
                await transaction.sql(_outcome_sql(outcome))
        except TakenBack:
            return
        except StoreError:
            self._unsure(outcome, actor, transaction)
            return
        self._sure(outcome, actor, transaction)

    async def raw(self, work: Work, *, prepared: Callable[[], Awaitable[None]] | None = None) -> None:
        """Through a driver's connection, which says nothing about who acts.

        With `prepared` the transaction is prepared, waits for it, and is then committed.
        """
        execute = await self._execute()
        transaction, outcome = Transaction(execute), self._outcome()
        try:
            await execute("BEGIN" if self.store.dialect == "postgresql" else "BEGIN IMMEDIATE")
            await work(transaction)
            await execute(_outcome_sql(outcome))
            if prepared is None:
                await execute("COMMIT")
            else:
                await execute(f"PREPARE TRANSACTION '{outcome}'")
                await prepared()
                await execute(f"COMMIT PREPARED '{outcome}'")
        except TakenBack:
            await execute("ROLLBACK")
            return
        except (asyncpg.PostgresError, sqlite3.OperationalError):
            # Not known to have failed for every reason there is: the table is asked at the end.
            self._unsure(outcome, None, transaction)
            with suppress(asyncpg.PostgresError, sqlite3.OperationalError):
                await execute("ROLLBACK")
            return
        self._sure(outcome, None, transaction)

    async def copy(self, table: str, columns: list[str], rows: list[tuple[Any, ...]], writes: list[Write]) -> None:
        """By COPY, on PostgreSQL."""
        await self._execute()
        transaction, outcome = Transaction(self._execute_postgres), self._outcome()
        transaction.writes = writes
        async with self._raw.transaction():
            await self._raw.copy_records_to_table(table, columns=columns, records=rows)
            await self._raw.execute(_outcome_sql(outcome))
        self._sure(outcome, None, transaction)

    async def close(self) -> None:
        """Close what is open."""
        self._notes.close()
        if self._raw is not None:
            await self._raw.close()

    def _outcome(self) -> str:
        self.count += 1
        return f"{self.number}-{os.getpid()}-{self.count}"

    def _sure(self, outcome: str, actor: str | None, transaction: Transaction | None) -> None:
        assert transaction is not None
        self._note(Committed(outcome, actor, time.monotonic_ns(), True, transaction.writes, transaction.truncated))

    def _unsure(self, outcome: str, actor: str | None, transaction: Transaction | None) -> None:
        self.lost += 1
        if transaction is not None:
            self._note(Committed(outcome, actor, 0, False, transaction.writes, transaction.truncated))

    def _note(self, committed: Committed) -> None:
        self._notes.write(msgspec.json.encode(committed) + b"\n")

    async def _execute(self) -> Callable[[str], Awaitable[list[Any]]]:
        postgres = self.store.dialect == "postgresql"
        if self._raw is None and postgres:
            url = self.store.url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._raw = await asyncpg.connect(url)
        elif self._raw is None:
            assert self.store.file is not None
            self._raw = await aiosqlite.connect(self.store.file, isolation_level=None, timeout=BUSY)
        return self._execute_postgres if postgres else self._execute_sqlite

    async def _execute_postgres(self, sql: str) -> list[Any]:
        return [tuple(row) for row in await self._raw.fetch(sql)]

    async def _execute_sqlite(self, sql: str) -> list[Any]:
        return list(await self._raw.execute_fetchall(sql))


def _outcome_sql(outcome: str) -> str:
    return f"INSERT INTO outcomes (id) VALUES ('{outcome}')"  # noqa: S608  made of numbers
