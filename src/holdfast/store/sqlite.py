"""SQLite engines: WAL, one writer and many readers, in any number of processes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from holdfast.settings import Settings

BUSY_TIMEOUT = 30.0  # seconds a writer waits for another process' transaction

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # With WAL, NORMAL loses no consistency: after a power cut the last commits may be missing, never half there.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-65536",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA mmap_size=268435456",
)


def create_engines(url: URL, settings: Settings) -> tuple[AsyncEngine, AsyncEngine]:
    """The writing and the reading engine of one file. In memory they are one and the same."""
    in_memory = url.database in (None, "", ":memory:")
    writer = _engine(url, settings, connections=1, begin="BEGIN IMMEDIATE")
    if in_memory:
        return writer, writer
    reader = _engine(url, settings, connections=max(1, settings.pool_size), begin="BEGIN")
    event.listen(reader.sync_engine, "connect", _refuse_writes)
    return writer, reader


def _engine(url: URL, settings: Settings, *, connections: int, begin: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout,
        hide_parameters=True,
        # The driver's own transaction handling begins too late and never IMMEDIATE, so we say BEGIN ourselves.
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
    )
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _configure(dbapi_connection: Any, record: Any) -> None:
    cursor = dbapi_connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _refuse_writes(dbapi_connection: Any, record: Any) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()
