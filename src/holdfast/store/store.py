"""`Store`: one database, and the units of work in it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from holdfast.errors import StoreError, Unavailable
from holdfast.settings import Settings, hide_password
from holdfast.store import postgres, slow_queries, sqlite
from holdfast.store.failures import is_connection_loss, is_retryable, translate
from holdfast.store.hooks import Hooks
from holdfast.store.unit import Unit
from holdfast.store.urls import dialect_of, file_of, parse_url

T = TypeVar("T")
log = structlog.get_logger("holdfast.store")


class Store:
    """The engines of one database; connections are made when first needed.

    Attributes:
        url: the engine's URL (may hold a password: log `place` instead).
        place: the URL fit for people, without password.
        dialect: "sqlite" or "postgresql".
        engine, read_engine: on SQLite one writing connection and a pool of readers; on PostgreSQL the same engine.
        hooks: where higher floors join every writing unit.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = parse_url(settings.database_url)
        self.place = hide_password(settings.database_url)
        self.dialect = dialect_of(self.url)
        self.file = file_of(self.url)
        self.hooks = Hooks()
        if self.dialect == "sqlite":
            self.engine, self.read_engine = sqlite.create_engines(self.url, settings)
        else:
            self.engine = self.read_engine = postgres.create_engine(self.url, settings)
        for engine in {self.engine, self.read_engine}:
            slow_queries.watch(engine, settings.slow_query)
        self._open_units = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Connect, or fail fast: retries with jittered backoff up to `start_timeout` seconds.

        Raises:
            Unavailable: the database cannot be reached, with the reason and what to check.
        """
        deadline = time.monotonic() + self.settings.start_timeout
        for attempt in range(1_000):
            try:
                await self.ping()
                return
            except Unavailable as error:
                pause = _backoff(attempt)
                final = not is_connection_loss(error.__cause__ or error) or time.monotonic() + pause > deadline
                if final:
                    raise
                log.info("database_unreachable", place=self.place, attempt=attempt + 1, retry_in=round(pause, 3))
                await asyncio.sleep(pause)

    async def ping(self) -> float:
        """Ask the database for a trivial answer; returns the seconds it took.

        Raises:
            Unavailable: it cannot be reached. StoreError: the file is no database.
        """
        began = time.perf_counter()
        try:
            async with self.read_engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                if self.dialect == "sqlite":
                    # SELECT 1 never opens the file.
                    await connection.execute(text("SELECT count(*) FROM sqlite_master"))
        except Exception as error:
            raise self._meaning(error) from error
        return time.perf_counter() - began

    @asynccontextmanager
    async def unit(
        self, *, actor: str | None = None, tenant: str | None = None, request_id: str | None = None
    ) -> AsyncIterator[Unit]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Args:
            actor, tenant, request_id: who acts, for whom, in which request; the journal carries them.

        Raises:
            Conflict, InvalidValue, Unavailable, StoreError: as the database says, at the call or at commit.
        """
        async with self._counted():
            session = AsyncSession(self.engine, expire_on_commit=False, autoflush=False)
            unit = Unit(self, session, actor=actor, tenant=tenant, request_id=request_id)
            try:
                await session.connection()
                for hook in self.hooks.after_begin:
                    await hook(unit)
                yield unit
                await session.flush()
                for hook in self.hooks.before_commit:
                    await hook(unit)
                await session.commit()
            except BaseException as error:
                await self._roll_back(session)
                meaning = translate(error, self.place) or error
                if meaning is error:
                    raise
                raise meaning from error
            finally:
                await session.close()
        await self._settle(unit)

    @asynccontextmanager
    async def read(self, *, tenant: str | None = None) -> AsyncIterator[Unit]:
        """A unit that only reads; on SQLite it neither waits for the writer nor blocks it."""
        async with self._counted():
            session = AsyncSession(self.read_engine, expire_on_commit=False, autoflush=False)
            try:
                yield Unit(self, session, tenant=tenant, read_only=True)
            except Exception as error:
                meaning = translate(error, self.place) or error
                if meaning is error:
                    raise
                raise meaning from error
            finally:
                await session.close()

    async def run(self, work: Callable[[Unit], Awaitable[T]], *, attempts: int = 8, **context: str | None) -> T:
        """Run `work` in a unit, again from the start when it loses against a concurrent transaction.

        `work` may run several times: keep its effects in the unit, or in `unit.after_commit`.

        Raises:
            StoreError: it still lost after `attempts` tries. Whatever `work` itself raises comes through.
        """
        for attempt in range(attempts):
            try:
                async with self.unit(**context) as unit:
                    return await work(unit)
            except Exception as error:
                if not is_retryable(error) or attempt == attempts - 1:
                    raise
                await asyncio.sleep(_backoff(attempt, base=0.005, ceiling=0.5))
        raise StoreError(f"attempts must be at least 1, not {attempts}")

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Any]:
        """A driver connection outside the pools, for LISTEN, COPY or a data_version watch; closed at the end.

        Yields an `asyncpg.Connection` or an `aiosqlite.Connection` in autocommit.

        Raises:
            Unavailable: the database cannot be reached.
        """
        try:
            connection = await self._connect_raw()
        except Exception as error:
            raise self._meaning(error) from error
        try:
            yield connection
        finally:
            await connection.close()

    async def close(self, *, timeout: float = 10.0) -> None:
        """Refuse new units, let open ones finish for up to `timeout` seconds, then drop the connections."""
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            log.warning("units_left_open", place=self.place, units=self._open_units, waited=timeout)
        for engine in {self.engine, self.read_engine}:
            await engine.dispose()

    def engines(self) -> dict[str, AsyncEngine]:
        """The engines by role, for pool statistics."""
        return {"write": self.engine} if self.engine is self.read_engine else {"write": self.engine, "read": self.read_engine}

    async def _connect_raw(self) -> Any:
        if self.dialect == "sqlite":
            import aiosqlite

            connection = aiosqlite.connect(str(self.url.database), isolation_level=None, timeout=sqlite.BUSY_TIMEOUT)
            connection._thread.daemon = True  # a process that ends must not wait for a watcher's thread
            return await connection
        import asyncpg

        url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return await asyncpg.connect(url, timeout=self.settings.connect_timeout, statement_cache_size=0)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._closing:
            raise Unavailable(f"{self.place} is being closed; no new unit begins")
        self._open_units += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._open_units -= 1
            if not self._open_units:
                self._idle.set()

    async def _settle(self, unit: Unit) -> None:
        for callback in unit.after_commit_callbacks():
            try:
                await callback()
            except Exception:
                log.exception("after_commit_failed", callback=getattr(callback, "__qualname__", repr(callback)))
        for hook in self.hooks.after_commit:
            try:
                await hook(unit)
            except Exception:
                log.exception("after_commit_failed", callback=getattr(hook, "__qualname__", repr(hook)))

    async def _roll_back(self, session: AsyncSession) -> None:
        try:
            await session.rollback()
        except Exception as error:
            # The connection is lost: the server rolls back by itself, and the first error is the one to show.
            log.info("rollback_failed", place=self.place, reason=str(error).partition("\n")[0])

    def _meaning(self, error: BaseException) -> BaseException:
        return translate(error, self.place) or error


def _backoff(attempt: int, *, base: float = 0.1, ceiling: float = 2.0) -> float:
    """Seconds to wait before try `attempt + 1`: exponential, with full jitter so that waiters spread out."""
    return random.uniform(0.5, 1.0) * min(ceiling, base * 2**attempt)
