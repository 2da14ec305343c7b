"""SQLite engines: WAL, one writer and many readers, in any number of processes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
import weakref
from typing import Any

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util.concurrency import in_greenlet

from holdfast.settings import Settings
from holdfast.store.failures import is_retryable
from holdfast.store.whole_numbers import be_strict

BUSY_TIMEOUT = 30.0  # seconds a writer waits for another process' transaction

# No mmap_size: where a file is mapped and another program truncates it (a copy over it), a read kills the process.
_PRAGMAS = """
    -- With WAL, NORMAL loses no consistency: after a power cut the last commits may be missing, never half there.
    PRAGMA synchronous=NORMAL;
    PRAGMA foreign_keys=ON;
    PRAGMA cache_size=-65536;
    PRAGMA temp_store=MEMORY;
    -- What a long reader made the log grow to is given back.
    PRAGMA journal_size_limit=67108864;
"""


def create_engines(url: URL, settings: Settings) -> tuple[AsyncEngine, AsyncEngine]:
    """The writing and the reading engine of one file. In memory they are one and the same."""
    in_memory = url.database in (None, "", ":memory:")
    writer = _engine(url, settings, connections=1, begin="BEGIN IMMEDIATE")
    if in_memory:
        return writer, writer
    return writer, reading_engine(url, settings)


def reading_engine(url: URL, settings: Settings) -> AsyncEngine:
    """The engine that reads one file."""
    return _engine(url, settings, connections=settings.pool_size, begin="BEGIN", pragmas="PRAGMA query_only=ON;")


def _engine(url: URL, settings: Settings, *, connections: int, begin: str, pragmas: str = "") -> AsyncEngine:
    async def connect_one(file: str, **arguments: Any) -> Any:
        connection = await connect(file, factory=_Connection, **arguments)
        try:
            await _use_wal(connection)
            await connection.executescript(_PRAGMAS + pragmas)
        except BaseException:
            await connection.close()
            raise
        return connection

    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout,
        hide_parameters=True,
        connect_args={"async_creator_fn": connect_one},
    )
    event.listen(engine.sync_engine, "invalidate", _interrupt)
    be_strict(engine.sync_engine)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


class _Connection(sqlite3.Connection):
    """One that lets go of the file when it is closed: SQLite itself waits for the last cursor to be forgotten.

    As long as a statement is open that was interrupted, every other one is interrupted too, ROLLBACK included.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        made = super().cursor(*arguments, **named)
        self._cursors.add(made)
        return made

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)  # sqlite3's own makes its cursor unseen

    def close(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()
        if self.in_transaction:
            with contextlib.suppress(sqlite3.OperationalError):  # interrupted this very moment: closing undoes it too
                self.rollback()
        super().close()


def _interrupt(dbapi_connection: Any, record: Any, exception: BaseException | None) -> None:
    """End the statement that runs in a connection's thread and that nobody waits for any more."""
    if in_greenlet():
        dbapi_connection.run_async(lambda connection: connection.interrupt())


async def connect(file: str, **arguments: Any) -> Any:
    """A connection of aiosqlite's own, in autocommit, whose thread does not keep the process from ending."""
    # The driver's own transaction handling begins too late and never IMMEDIATE, so we say BEGIN ourselves.
    connection = aiosqlite.connect(file, **{**arguments, "isolation_level": None, "timeout": BUSY_TIMEOUT})
    # Before 0.22 the connection itself was the thread.
    thread: Any = getattr(connection, "_thread", connection)
    thread.daemon = True
    try:
        return await connection
    except BaseException:
        # The thread tells the event loop that it has ended, so the loop must not end first.
        for _ in range(1_000):
            if not thread.is_alive():
                break
            await asyncio.sleep(0.001)
        raise


async def _use_wal(connection: Any) -> None:
    """Switch the file to WAL. SQLite does not wait when another process is switching it too, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            await connection.execute_fetchall("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_retryable(error) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.01)
