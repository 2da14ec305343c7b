"""The rows of a statement on libSQL over HTTP: all of them, or as they are fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from holdfast.store import hrana

if TYPE_CHECKING:
    from holdfast.store.libsql_connection import Connection

_STEPS = 5_000  # statements in one request


class Cursor:
    """The rows of a statement: all of them, or as they are fetched when the connection was told to stream."""

    def __init__(self, connection: Connection) -> None:
        self._of = connection
        self._rows: deque[Any] = deque()
        self._open: AsyncExitStack | None = None
        self._coming: AsyncIterator[Any] | None = None
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    def __await__(self) -> Generator[None, None, Cursor]:
        yield from ()
        return self  # SQLAlchemy 2.0 awaits a cursor

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Cursor:
        of, values = self._of, tuple(parameters)
        stream, of.stream_next = of.stream_next and of.in_transaction, False
        if stream:
            await self._stream(sql, values)
            return self
        [result] = await of.run([(sql, values)])
        self._rows = deque(hrana.rows(result))
        self.description = _described(result.cols)
        is_write = sql.lstrip()[:8].upper().startswith(("INSERT", "UPDATE", "DELETE", "REPLACE"))
        self.rowcount = result.affected_row_count if is_write else -1
        self.lastrowid = int(result.last_insert_rowid) if result.last_insert_rowid else None
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Cursor:
        statements = [(sql, tuple(values)) for values in parameters]
        written = 0
        for start in range(0, len(statements), _STEPS):
            results = await self._of.run(statements[start : start + _STEPS])
            written += sum(result.affected_row_count for result in results)
        self.rowcount = written
        return self

    async def fetchone(self) -> Any:
        return next(iter(await self.fetchmany(1)), None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        size = size or self.arraysize
        while len(self._rows) < size and self._coming is not None:
            await self._take_one()
        return [self._rows.popleft() for _ in range(min(size, len(self._rows)))]

    async def fetchall(self) -> list[Any]:
        await self.take_all()
        found = list(self._rows)
        self._rows.clear()
        return found

    async def take_all(self) -> None:
        """Keep the rows that are still to come, so that the connection is free."""
        while self._coming is not None:
            await self._take_one()

    async def close(self) -> None:
        """Let go of rows that are still to come."""
        stack, self._open, self._coming = self._open, None, None
        if stack is not None:
            await stack.aclose()

    async def _stream(self, sql: str, values: Sequence[Any]) -> None:
        async with AsyncExitStack() as stack:
            if self._of.streaming is not None:
                await self._of.streaming.take_all()
            self._coming = await stack.enter_async_context(self._of.rows_of(sql, values, self))
            self.description = _described((await anext(self._coming)).cols)
            self._open = stack.pop_all()

    async def _take_one(self) -> None:
        assert self._coming is not None
        try:
            entry = await anext(self._coming)
        except StopAsyncIteration:
            await self.close()
        except BaseException as error:
            stack, self._open, self._coming = self._open, None, None
            if stack is not None and not await stack.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            self._rows.append(hrana.row(entry.row))


def _described(columns: Iterable[hrana.Column]) -> tuple[tuple[Any, ...], ...] | None:
    return tuple((column.name, *[None] * 6) for column in columns) or None
