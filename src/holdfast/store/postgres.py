"""The PostgreSQL engine: asyncpg, with nothing kept in the session, so that any pooler may stand between."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, TextClause, event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.sql import visitors

from holdfast.errors import MissingExtra, StoreError
from holdfast.settings import Settings
from holdfast.store.scope import ScopedSession
from holdfast.store.whole_numbers import be_strict


def create_engine(url: URL, settings: Settings, *, read_only: bool = False) -> AsyncEngine:
    """The engine for `url`; `read_only` for connections on which the server itself refuses writes.

    Raises:
        MissingExtra: asyncpg is not installed.
    """
    try:
        import asyncpg  # noqa: F401
    except ImportError:
        raise MissingExtra("PostgreSQL needs asyncpg: pip install 'holdfast[postgres]'") from None
    milliseconds = round(settings.statement_timeout * 1_000)
    server_settings: dict[str, str] = {}
    if read_only and settings.pooler == "none":  # a pooler takes no settings at connect; BEGIN READ ONLY remains
        server_settings["default_transaction_read_only"] = "on"
    arguments: dict[str, Any] = {}
    if settings.pooler == "transaction":
        # Prepared statements belong to a server connection, which the pooler changes under us. The one without a
        # name gives way to the next; any other would stay behind in a connection that we cannot find again.
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = lambda: ""
    elif milliseconds:
        server_settings["statement_timeout"] = str(milliseconds)

    async def connect_one(**_: Any) -> Any:
        return await connect(url, settings, server_settings=server_settings)

    engine = create_async_engine(
        url.set(query={}),
        pool_size=settings.pool_size,
        max_overflow=settings.pool_max - settings.pool_size,
        pool_timeout=settings.pool_timeout,
        hide_parameters=True,
        connect_args={**arguments, "async_creator_fn": connect_one},
    )
    be_strict(engine.sync_engine)
    event.listen(engine.sync_engine, "checkout", _replace_if_closed)
    event.listen(engine.sync_engine, "checkin", _let_write)
    if settings.pooler == "transaction" and milliseconds:
        # A pooler takes no settings at connect: this one ends with the transaction.
        event.listen(
            engine.sync_engine,
            "begin",
            lambda connection: connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}"),
        )
    return engine


async def connect(url: URL, settings: Settings, **arguments: Any) -> Any:
    """A connection of asyncpg's own, which reads the parameters of the URL as libpq does."""
    import asyncpg

    class Connection(asyncpg.Connection):  # type: ignore[misc]
        """One that notices when COMMIT rolls back, as it does, without an error, after a statement has failed."""

        async def execute(self, query: str, *values: Any, timeout: float | None = None) -> str:
            status: str = await super().execute(query, *values, timeout=timeout)
            if status == "ROLLBACK" and query.startswith("COMMIT"):
                raise asyncpg.InFailedSQLTransactionError("COMMIT rolled back, for a statement before it had failed")
            return status

    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    if settings.pooler == "transaction":
        arguments["statement_cache_size"] = 0
    return await asyncpg.connect(dsn, timeout=settings.connect_timeout, connection_class=Connection, **arguments)


class ReadingSession(ScopedSession):
    """A session whose transactions are READ ONLY, which the driver says with BEGIN."""


@event.listens_for(ReadingSession, "after_begin", insert=True)  # before anything is sent
def _refuse_writes(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.readonly = True


class ReplicaSession(ReadingSession):
    """A session on a replica, to which raw SQL does not go: nobody knows what it does."""

    is_on_replica = True


@event.listens_for(ReplicaSession, "do_orm_execute")
def _refuse_raw_sql(state: ORMExecuteState) -> None:
    for element in visitors.iterate(state.statement):  # type: ignore[arg-type]
        if isinstance(element, TextClause):
            raise StoreError("raw SQL does not go to a replica; open the unit without replica=True")


def _let_write(dbapi_connection: Any, record: Any) -> None:
    if dbapi_connection is not None:
        dbapi_connection.readonly = False


def _replace_if_closed(dbapi_connection: Any, record: Any, proxy: Any) -> None:
    # A server that went away has closed the socket, which the driver knows without asking: a ping before each
    # transaction would be three more round trips.
    if dbapi_connection.driver_connection.is_closed():
        raise exc.DisconnectionError("the server closed this connection")
