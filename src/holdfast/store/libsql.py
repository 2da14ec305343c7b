"""libSQL over HTTP (sqld, Turso): engines whose connections speak to a server as others do to a file."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite, SQLiteExecutionContext_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from holdfast.settings import Settings
from holdfast.store.libsql_connection import Connection
from holdfast.store.libsql_http import check_installed
from holdfast.store.urls import LIBSQL
from holdfast.store.whole_numbers import be_strict


def create_engines(url: URL, settings: Settings) -> tuple[AsyncEngine, AsyncEngine]:
    """The writing and the reading engine of one database.

    Raises:
        MissingExtra: httpcore is not installed.
    """
    writer = _engine(url, settings, connections=1, begin="BEGIN IMMEDIATE", read_only=False)
    return writer, _engine(url, settings, connections=settings.pool_size, begin="BEGIN", read_only=True)


def _engine(url: URL, settings: Settings, *, connections: int, begin: str, read_only: bool) -> AsyncEngine:
    check_installed()

    async def connect_one(**_: Any) -> Connection:
        return connect(url, settings, read_only=read_only)

    engine = create_async_engine(
        url.set(query={}),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout,
        hide_parameters=True,
        connect_args={"async_creator_fn": connect_one},
    )
    be_strict(engine.sync_engine)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def connect(url: URL, settings: Settings, *, read_only: bool = False) -> Connection:
    """A connection in autocommit. The server is not asked before the first statement."""
    check_installed()
    return Connection(url, settings, read_only=read_only)


class _ExecutionContext(SQLiteExecutionContext_aiosqlite):
    def create_server_side_cursor(self) -> Any:
        self._dbapi_connection.driver_connection.stream_next = True  # type: ignore[union-attr]
        return super().create_server_side_cursor()


class Dialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's SQLite, whose connections are made by us and take no functions."""

    driver = "libsql"
    supports_statement_cache = True
    execution_ctx_cls = _ExecutionContext

    def create_connect_args(self, url: URL) -> Any:
        return [], {}

    def on_connect(self) -> Any:
        return None

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        return "SERIALIZABLE"

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return isinstance(e.__cause__, OSError) or super().is_disconnect(e, connection, cursor)


registry.register(LIBSQL.replace("+", "."), __name__, "Dialect")
