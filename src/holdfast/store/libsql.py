"""libSQL over HTTP (sqld, Turso): a connection with aiosqlite's face, so that all that speaks to SQLite speaks to it.

A transaction is a stream on the server, named by a baton that each answer renews. BEGIN waits for the first statement
and travels with it; what ends the transaction ends the stream too. A request that is cut off ends its statement, its
stream and its transaction on the server.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import ssl
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import URL, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite, SQLiteExecutionContext_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from holdfast.errors import MissingExtra
from holdfast.settings import Settings
from holdfast.store import hrana
from holdfast.store.urls import LIBSQL, web_address

ANSWER = 120.0  # seconds to wait for an answer, unless statements have a limit of their own
_GRACE = 0.1  # seconds that a cancellation waits for the answer to what was sent
_STEPS = 5_000  # statements in one request
_LOST = hrana.Problem("the connection of this transaction was lost", "STREAM_EXPIRED")
_ENDS = ("TRANSACTION_TIMEOUT", "STREAM_EXPIRED")
_FOREIGN_KEYS = re.compile(r"PRAGMA foreign_keys=(ON|OFF)")
_READING = ("SELECT", "VALUES", "EXPLAIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "END")


def create_engines(url: URL, settings: Settings) -> tuple[AsyncEngine, AsyncEngine]:
    """The writing and the reading engine of one database.

    Raises:
        MissingExtra: httpcore is not installed.
    """
    writer = _engine(url, settings, connections=1, begin="BEGIN IMMEDIATE", read_only=False)
    return writer, _engine(url, settings, connections=settings.pool_size, begin="BEGIN", read_only=True)


def _engine(url: URL, settings: Settings, *, connections: int, begin: str, read_only: bool) -> AsyncEngine:
    _check_installed()

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
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def connect(url: URL, settings: Settings, *, read_only: bool = False) -> Connection:
    """A connection in autocommit. The server is not asked before the first statement."""
    _check_installed()
    return Connection(url, settings, read_only=read_only)


def _check_installed() -> None:
    try:
        import httpcore  # noqa: F401
    except ImportError:
        raise MissingExtra("libSQL over HTTP needs httpcore: pip install 'holdfast[libsql]'") from None


class Connection:
    """One client of one database; it has at most one stream open, and is used by one task at a time.

    What aiosqlite's connection can do and HTTP cannot (functions in Python, backup, load_extension) is not there.

    Attributes:
        in_transaction: whether BEGIN was said, and neither COMMIT nor ROLLBACK since.
    """

    isolation_level = None  # transactions are begun by whoever wants one

    def __init__(self, url: URL, settings: Settings, *, read_only: bool) -> None:
        import httpcore

        secure = url.query.get("tls") != "0"
        self._url = web_address(url)
        self._headers = [(b"Content-Type", b"application/json"), *_headers(url, settings.database_auth_token)]
        answer = settings.statement_timeout or ANSWER
        patience = settings.connect_timeout
        self._limit = settings.statement_timeout
        self._timeouts = {"timeout": {"connect": patience, "read": answer, "write": answer, "pool": patience}}
        self._pool = httpcore.AsyncConnectionPool(ssl_context=_trusted() if secure else None, max_connections=1)
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
        if self.in_transaction:
            await self.run([("ROLLBACK", ())])

    async def interrupt(self) -> None:
        """End what runs: the server gives a statement up when nobody waits for its answer."""
        self._forget()
        await self._pool.aclose()

    async def close(self) -> None:
        """Give the stream back, which rolls back what is open. Safe to call twice."""
        try:
            if self._baton is not None:
                await self._send([], close=True)
        except sqlite3.Error:
            pass  # the server gives a stream up that nobody uses
        finally:
            self._forget()
            await self._pool.aclose()

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
        import httpcore

        before = await self._prepared(sql)
        body = hrana.cursor([*before, (sql, parameters)], self._baton)
        self.streaming = by
        try:
            async with self._pool.stream(
                "POST", f"{self._url}/v3/cursor", headers=self._headers, content=body, extensions=self._timeouts
            ) as answer:
                if answer.status != 200:
                    raise _raised(_refusal(answer.status, bytes(await answer.aread())))
                yield self._entries(answer.aiter_stream(), len(before))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            self._lose(_LOST)
            raise _raised(ConnectionError(str(error) or type(error).__name__)) from None
        except asyncio.CancelledError:
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
        if not hrana.is_reading(await self._post(hrana.description(sql))):
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
        request = asyncio.ensure_future(self._post(body))
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            await asyncio.wait({request}, timeout=_GRACE)
            if not request.done():
                request.cancel()
            elif not request.cancelled() and request.exception() is None:
                self._baton = hrana.read_reply(request.result()).baton
                if self._baton is not None:
                    await self._post(hrana.pipeline([], self._baton, close=True))
            raise

    async def _post(self, body: bytes) -> bytes:
        import httpcore

        problem: Exception
        try:
            answer = await self._pool.request(
                "POST", f"{self._url}/v3/pipeline", headers=self._headers, content=body, extensions=self._timeouts
            )
        except httpcore.ReadTimeout:
            if self._limit:
                name = "LIBSQL_TOO_SLOW"
                raise hrana.named(sqlite3.OperationalError(f"no answer in {self._limit:g} s"), name) from None
            problem = TimeoutError(f"no answer in {ANSWER:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            problem = ConnectionError(str(error) or type(error).__name__)
        else:
            if answer.status == 200:
                return bytes(answer.content)
            problem = _refusal(answer.status, bytes(answer.content))
        raise _raised(problem)

    def _lose(self, why: hrana.Problem) -> None:
        """The stream is gone, and with it the transaction: refuse what comes after, until it is rolled back."""
        was_open = self.in_transaction
        self._forget()
        if was_open:
            self.in_transaction, self._ended = True, why

    def _forget(self) -> None:
        self._baton = self._begin = self._ended = None
        self.in_transaction = False


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


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads some hundred certificates, so once


def _headers(url: URL, token: str | None) -> list[tuple[bytes, bytes]]:
    headers = []
    namespace = url.query.get("namespace")
    if namespace:
        # The server takes the first label of the host for the namespace, and an address has none.
        host = str(url.host)
        is_address = ":" in host or host.replace(".", "").isdigit()
        headers.append((b"Host", f"{namespace}.{'localhost' if is_address else host}".encode()))
    if token:
        headers.append((b"Authorization", f"Bearer {token}".encode()))
    return headers


def _raised(problem: Exception) -> sqlite3.Error:
    """What is raised for `problem`: a lost connection is an error of SQLite's that was caused by it."""
    if isinstance(problem, sqlite3.Error):
        return problem
    lost = sqlite3.OperationalError(str(problem))
    lost.__cause__ = problem
    return lost


def _refusal(status: int, body: bytes) -> Exception:
    """What an answer other than 200 means: a `sqlite3.Error`, or a ConnectionError when a later try may do."""
    text = body.decode(errors="replace").strip()[:300]
    if status in (401, 403):
        return hrana.named(sqlite3.OperationalError(f"HTTP {status}"), "LIBSQL_AUTH")
    if status == 404:
        return hrana.named(sqlite3.OperationalError(text or "HTTP 404"), "LIBSQL_NO_DATABASE")
    if "STREAM_EXPIRED" in text or "baton" in text:
        return hrana.error(hrana.Problem("the transaction was idle for too long", "STREAM_EXPIRED"))
    if status == 413:
        return hrana.named(sqlite3.DataError("the request is larger than the server takes"), "LIBSQL_TOO_LARGE")
    if status < 500 and status not in (408, 429):
        return sqlite3.OperationalError(f"HTTP {status}: {text}")
    return ConnectionError(f"HTTP {status}: {text}")
