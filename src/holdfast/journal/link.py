"""A driver connection of the journal's own that comes back after the database did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.store import Store
from holdfast.store.failures import translate


class Link:
    """One connection outside the pools, used by one task at a time; reconnects on the next use after a failure.

    Attributes:
        connections: how many times it connected; what was prepared on an earlier connection is gone.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.connections = 0
        self._lock = asyncio.Lock()
        self._stack: AsyncExitStack | None = None
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        self._must_ask_isolation = False  # the database's default isolation is another, so it must be asked for

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """The connection, for this task alone.

        Raises:
            Unavailable, StoreError: the database's own error, translated; the connection is dropped.
        """
        async with self._lock:
            try:
                if self.store.in_memory:
                    # A database in memory has one connection, and everybody takes turns.
                    async with self.store.engine.connect() as shared:
                        yield (await shared.get_raw_connection()).driver_connection
                    return
                if self._connection is not None and self._is_closed():
                    await self._drop()
                if self._connection is None:
                    await self._connect()
                yield self._connection
            except HoldfastError:
                raise
            except asyncio.CancelledError:
                # A statement may be half done on the wire.
                await self._drop()
                raise
            except Exception as error:
                await self._drop()
                meaning = translate(error, self.store.place)
                if meaning is None:
                    raise
                raise meaning from error

    async def fetch(self, connection: Any, sql: str, *arguments: Any) -> list[Any]:
        """Rows of a PostgreSQL statement, prepared once a connection unless a pooler forbids it."""
        if self._must_ask_isolation:
            async with connection.transaction(isolation="read_committed"):
                return await connection.fetch(sql, *arguments)  # type: ignore[no-any-return]
        if self.store.settings.pooler == "transaction":
            return await connection.fetch(sql, *arguments)  # type: ignore[no-any-return]
        statement = self._prepared.get(sql)
        if statement is None:
            statement = self._prepared[sql] = await connection.prepare(sql)
        return await statement.fetch(*arguments)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        async with self._lock:
            await self._drop()

    async def _connect(self) -> None:
        stack = AsyncExitStack()
        self._connection = await stack.enter_async_context(self.store.raw())
        self._stack = stack
        self._prepared.clear()
        self.connections += 1
        if self.store.dialect == "postgresql":
            default = await self._connection.fetchval("SELECT current_setting('default_transaction_isolation')")
            self._must_ask_isolation = default != "read committed"

    def _is_closed(self) -> bool:
        """Whether the server has ended the connection while nobody used it."""
        return self.store.dialect == "postgresql" and bool(self._connection.is_closed())

    async def _drop(self) -> None:
        stack, self._stack, self._connection = self._stack, None, None
        if stack is None:
            return
        try:
            async with asyncio.timeout(2):
                await stack.aclose()
        except Exception as error:  # noqa: BLE001  a connection that cannot even be closed is gone, which is what was wanted
            del error
