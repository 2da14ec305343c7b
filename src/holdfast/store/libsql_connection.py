"""A connection to libSQL over HTTP with aiosqlite's face, so that all that speaks to SQLite speaks to it.

A transaction is a stream on the server, named by a baton that each answer renews. BEGIN waits for the first statement
and travels with it; what ends the transaction ends the stream too. A request that is cut off ends its statement, its
stream and its transaction on the server.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import URL

from holdfast.settings import Settings
from holdfast.store import hrana
from holdfast.store.libsql_cursor import Cursor
from holdfast.store.libsql_http import Channel

_GRACE = 0.1  # seconds that a cancellation waits for the answer to what was sent
_LOST = hrana.Problem("the connection of this transaction was lost", "STREAM_EXPIRED")
_ENDS = ("TRANSACTION_TIMEOUT", "STREAM_EXPIRED")
_FOREIGN_KEYS = re.compile(r"PRAGMA foreign_keys=(ON|OFF)")
_READING = ("SELECT", "VALUES", "EXPLAIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "END")


class Connection:
    """One client of one database; it has at most one stream open, and is used by one task at a time.

    What aiosqlite's connection can do and HTTP cannot (functions in Python, backup, load_extension) is not there.

    Attributes:
        in_transaction: whether BEGIN was said, and neither COMMIT nor ROLLBACK since.
    """

    isolation_level = None  # transactions are begun by whoever wants one

    def __init__(self, url: URL, settings: Settings, *, read_only: bool) -> None:
        self._channel = Channel(url, settings)
        self._read_only = read_only
        self._baton: str | None = None
        self._foreign_keys = "ON"
        self._begin: str | None = None  # said, and not sent yet
        self._ended: hrana.Problem | None = None  # why the server ended the transaction that we are in
        self._known_to_read: set[str] = set()
        self.streaming: Cursor | None = None
        self.in_transaction = False
        self.stream_next = False  # the next statement's rows are fetched as they are asked for

    @property
    def _connection(self) -> Connection:
        return self  # SQLAlchemy asks whether there is one before it rolls back

    def cursor(self) -> Cursor:
        return Cursor(self)

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Cursor:
        """Run one statement; the cursor has its rows."""
        return await Cursor(self).execute(sql, parameters)

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Cursor:
        """Run one statement with each of `parameters`, in one request (of up to 5,000), until one fails."""
        return await Cursor(self).executemany(sql, parameters)

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """The rows of one statement."""
        return await (await self.execute(sql, parameters)).fetchall()

    async def commit(self) -> None:
        if self.in_transaction:
            await self.run([("COMMIT", ())])

    async def rollback(self) -> None:
        if not self.in_transaction:
            return
        try:
            await self.run([("ROLLBACK", ())])
        except sqlite3.Error as error:
            if isinstance(error.__cause__, OSError):
                raise
            self._forget()  # a server that refuses it has ended the transaction, or soon does: nobody goes on with it

    async def interrupt(self) -> None:
        """End what runs: the server gives a statement up when nobody waits for its answer."""
        self._forget()
        await self._channel.close()

    async def close(self) -> None:
        """Give the stream back, which rolls back what is open. Safe to call twice."""
        try:
            if self._baton is not None:
                await self._send([], close=True)
        except sqlite3.Error:
            pass  # the server gives a stream up that nobody uses
        finally:
            self._forget()
            await self._channel.close()

    def stop(self) -> None:
        """Forget the stream without a word to the server."""
        self._forget()

    async def run(self, statements: Sequence[hrana.Statement]) -> list[hrana.Result]:
        """Run `statements` until one fails; the result of each.

        Raises:
            sqlite3.Error: what the server says, with `sqlite_errorname`; from a ConnectionError when it is gone.
        """
        if self.streaming is not None:
            await self.streaming.take_all()  # the stream does one thing at a time
        first = statements[0][0].lstrip()[:9].upper()
        if first.startswith("BEGIN"):
            return self._begun(statements[0][0])
        if (told := _FOREIGN_KEYS.fullmatch(statements[0][0])) is not None and not self.in_transaction:
            self._foreign_keys = told[1]  # for the streams to come
            return [hrana.Result()]
        ends = first.startswith(("COMMIT", "END")) or statements[0][0].strip().upper() == "ROLLBACK"
        if ends and not first.startswith("ROLLBACK") and self._ended is not None:
            problem = self._ended
            self._forget()
            raise hrana.error(problem)
        if ends and (self._begin is not None or self._baton is None):
            self._forget()  # the server knows nothing of it
            return [hrana.Result()]
        before = await self._prepared(statements[0][0])
        results = await self._send([*before, *statements], close=ends or not self._opens(first), skip=len(before))
        if ends:
            self._forget()
        return results

    @asynccontextmanager
    async def rows_of(self, sql: str, parameters: Sequence[Any], by: Cursor) -> AsyncIterator[AsyncIterator[Any]]:
        """The entries of one statement in a transaction, as they come; leaving the block early ends it."""
        before = await self._prepared(sql)
        body = hrana.cursor([*before, (sql, parameters)], self._baton)
        self.streaming = by
        try:
            async with self._channel.stream(body) as chunks:
                yield self._entries(chunks, len(before))
        except (sqlite3.Error, asyncio.CancelledError) as error:
            if isinstance(error.__cause__, OSError) or not isinstance(error, sqlite3.Error):
                self._lose(_LOST)
            raise
        finally:
            self.streaming = None

    async def _entries(self, chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[Any]:
        rest, step = b"", -1
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                entry = hrana.read_entry(line)
                if entry.error is not None:
                    if entry.error.code in _ENDS:
                        self._lose(entry.error)
                    raise hrana.error(entry.error)
                if not entry.type:
                    self._baton, self._begin = entry.baton, None
                step += entry.type == "step_begin"
                if step == skip and entry.type in ("step_begin", "row"):
                    yield entry

    async def _prepared(self, sql: str) -> list[hrana.Statement]:
        """What must run before `sql`, the first statement of a request."""
        if self._ended is not None:
            raise hrana.error(self._ended)
        if self._read_only:
            await self._check_reads(sql)
        if self._baton is not None:
            return []
        begin: list[hrana.Statement] = [] if self._begin is None else [(self._begin, ())]
        return [(f"PRAGMA foreign_keys={self._foreign_keys}", ()), *begin]

    def _begun(self, sql: str) -> list[hrana.Result]:
        if self.in_transaction:
            raise hrana.error(hrana.Problem("cannot start a transaction within a transaction"))
        self._begin, self.in_transaction = sql, True
        return [hrana.Result()]

    def _opens(self, first: str) -> bool:
        """Whether the stream is to stay open after a statement that begins like this."""
        return self.in_transaction or first.startswith("SAVEPOINT")

    async def _check_reads(self, sql: str) -> None:
        """Refuse what writes: the server knows no read-only connections."""
        if sql.lstrip().upper().startswith(_READING) or sql in self._known_to_read:
            return
        if not hrana.is_reading(await self._channel.post(hrana.description(sql))):
            raise hrana.named(sqlite3.OperationalError("attempt to write a readonly database"), "SQLITE_READONLY")
        self._known_to_read.add(sql)

    async def _send(self, statements: Sequence[hrana.Statement], *, close: bool, skip: int = 0) -> list[hrana.Result]:
        body = hrana.pipeline(statements, self._baton, close=close, answers_from=skip)
        try:
            reply = hrana.read_reply(await self._settled(body))
        except msgspec.DecodeError as error:
            self._lose(_LOST)
            raise sqlite3.OperationalError(f"the answer is not a libSQL server's: {error}") from None
        except BaseException:
            self._lose(_LOST)
            raise
        self._baton, self._begin = reply.baton, None
        problem = next((outcome.error for outcome in reply.results if outcome.error is not None), None)
        answers = reply.results[0].response.result if statements and reply.results[0].response else None
        if answers is not None:
            problem = next((error for error in answers.step_errors if error is not None), problem)
        state = reply.results[-1].response
        if state is not None and state.is_autocommit is not None:
            if state.is_autocommit and self.in_transaction:
                self._lose(problem or hrana.Problem("the transaction has ended"))
            self.in_transaction = self.in_transaction or not state.is_autocommit
        if problem is not None:
            raise hrana.error(problem)
        return [result for result in answers.step_results[skip:] if result is not None] if answers else []

    async def _settled(self, body: bytes) -> bytes:
        """The answer to `body`. A cancellation takes back what was done: else a lock would stay for seconds.

        A request that is cut off ends its statement, but not the stream of one that was answered meanwhile.
        """
        request = asyncio.ensure_future(self._channel.post(body))
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            await asyncio.wait({request}, timeout=_GRACE)
            if not request.done():
                request.cancel()
            elif not request.cancelled() and request.exception() is None:
                self._baton = hrana.read_reply(request.result()).baton
                if self._baton is not None:
                    await self._channel.post(hrana.pipeline([], self._baton, close=True))
            raise

    def _lose(self, why: hrana.Problem) -> None:
        """The stream is gone, and with it the transaction: refuse what comes after, until it is rolled back."""
        was_open = self.in_transaction
        self._forget()
        if was_open:
            self.in_transaction, self._ended = True, why

    def _forget(self) -> None:
        self._baton = self._begin = self._ended = None
        self.in_transaction = False
