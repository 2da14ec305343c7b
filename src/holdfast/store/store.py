"""`Store`: one database, and the units of work in it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Row, Select, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import Pool
from sqlalchemy.util import greenlet_spawn

from holdfast.errors import ConfigurationError, StoreError, Unavailable
from holdfast.logs import get_logger
from holdfast.model.encrypted import set_ring
from holdfast.secrets import SecretKeys
from holdfast.settings import Settings, hide_password
from holdfast.store import current, libsql, postgres, row_security, slow_queries, sqlite
from holdfast.store.cancellation import to_the_end
from holdfast.store.failures import Translated, is_connection_loss, is_of_the_driver, is_retryable
from holdfast.store.hooks import Hooks
from holdfast.store.namesakes import Names, confined_by_name, declared
from holdfast.store.open_units import OpenUnits
from holdfast.store.read_replicas import POSITION, ReadReplicas, position_number
from holdfast.store.replica import Replica
from holdfast.store.scope import ScopedSession, Tenant, checked_tenant
from holdfast.store.tls import require_tls
from holdfast.store.unit import Unit
from holdfast.store.urls import dialect_of, file_of, is_remote, parse_url

T = TypeVar("T")
Isolation = Literal["repeatable read", "serializable"]
_ROLLBACK = 5.0  # seconds; a connection that does not answer is dropped, and then the server rolls back

log = get_logger("holdfast.store")


class Store:
    """The engines of one database; connections are made when first needed.

    Args:
        models: whose tables it keeps; unless given, those of every model that was declared.

    Attributes:
        url: the engine's URL (may hold a password: log `place` instead).
        place: the URL fit for people, without password.
        dialect: "sqlite" or "postgresql"; libSQL is SQLite.
        file: where a SQLite database lies; None when it lies in no file of this machine.
        is_remote: whether it is a libSQL database over HTTP.
        in_memory: whether it is a SQLite database in memory, which has one connection.
        engine, read_engine: on SQLite one writing connection and a pool of readers; on PostgreSQL the same engine.
        replica: the local copy of a libSQL database; None unless one is kept.
        read_replicas: the streaming replicas of a PostgreSQL database; None unless some are named.
        row_security: whether PostgreSQL's policies confine units too.
        secrets: what signs page cursors.
        hooks: where higher floors join every writing unit.
    """

    def __init__(self, settings: Settings, *, models: Iterable[type[Any]] | None = None) -> None:
        self.settings = settings
        self._names = None if models is None else confined_by_name(models)
        if settings.require_tls:
            require_tls(settings)
        self.url = parse_url(settings.database_url)
        self.place = hide_password(settings.database_url)
        self.dialect = dialect_of(self.url)
        self.file = file_of(self.url)
        self.is_remote = is_remote(self.url)
        self.in_memory = self.dialect == "sqlite" and self.file is None and not self.is_remote
        self.secrets = SecretKeys.configured(settings.secret_key, production=settings.environment == "production")
        self.hooks = Hooks()
        if self.is_remote:
            self.engine, self.read_engine = libsql.create_engines(self.url, settings)
            self._reading_session: type[ScopedSession] = ScopedSession
        elif self.dialect == "sqlite":
            self.engine, self.read_engine = sqlite.create_engines(self.url, settings)
            self._reading_session = ScopedSession
        else:
            self.engine = self.read_engine = postgres.create_engine(self.url, settings)
            self._reading_session = postgres.ReadingSession
        self.row_security = self._row_security()
        self.replica = self._replica()
        self.read_replicas = self._read_replicas()
        copies = [self.replica.engine] if self.replica else self.read_replicas.engines if self.read_replicas else []
        for engine in {self.engine, self.read_engine, *copies}:
            slow_queries.watch(engine, settings.slow_query)
            set_ring(engine.dialect, settings.encryption_keys)
        self._translated = Translated(self.place)
        self._leaving: asyncio.Task[None] | None = None
        self._units = OpenUnits(self.place)

    def confined_names(self) -> Names:
        """The models that are not everybody's, by the names of their tables."""
        return confined_by_name(declared()) if self._names is None else self._names

    def _row_security(self) -> bool:
        if self.settings.row_security and self.dialect != "postgresql":
            raise ConfigurationError(
                f"HOLDFAST_ROW_SECURITY is on, but {self.place} is no PostgreSQL; there a unit is confined by its"
                " statements, and a file for each tenant keeps them apart (TenantFiles)"
            )
        return self.settings.row_security

    def _replica(self) -> Replica | None:
        file = self.settings.database_replica_file
        if file is None:
            return None
        if not self.is_remote:
            raise ConfigurationError(
                f"HOLDFAST_DATABASE_REPLICA_FILE is {file}, but {self.place} is no libSQL database over HTTP;"
                " remove the one, or let the other name such a database"
            )
        return Replica(self.url, Path(file), self.settings)

    def _read_replicas(self) -> ReadReplicas | None:
        urls = self.settings.database_replica_urls
        if urls is None:
            return None
        if self.dialect != "postgresql":
            raise ConfigurationError(
                f"HOLDFAST_DATABASE_REPLICA_URLS is set, but {self.place} is no PostgreSQL; remove the one, or let the"
                " other name such a database"
            )
        return ReadReplicas(urls, self.settings)

    async def start(self) -> None:
        """Connect, or fail fast: retries with jittered backoff up to `start_timeout` seconds.

        Raises:
            Unavailable: the database cannot be reached, with the reason and what to check.
            ConfigurationError: row security is on, and this login could not work with it.
        """
        await self._reach()
        if self.dialect == "postgresql":
            async with self.connect() as connection:
                row_security.check_login(await row_security.login(connection), self.place, wanted=self.row_security)

    async def _reach(self) -> None:
        limit = self.settings.start_timeout or self.settings.connect_timeout
        deadline = time.monotonic() + limit
        last: Unavailable | None = None
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.ping()
                return
            except TimeoutError:
                raise last or Unavailable(
                    f"{self.place} did not answer within {limit:g} s; is it overloaded?"
                ) from None
            except Unavailable as error:
                last = error
            pause = _backoff(attempt)
            if not is_connection_loss(last) or not self.settings.start_timeout or time.monotonic() + pause > deadline:
                raise last
            attempt += 1
            log.info("database_unreachable", place=self.place, attempt=attempt, retry_in=round(pause, 3))
            await asyncio.sleep(pause)

    async def ping(self) -> float:
        """Ask the database for a trivial answer; returns the seconds it took.

        Raises:
            Unavailable: it cannot be reached. StoreError: the file is no database.
        """
        began = time.perf_counter()
        async with self.connect() as connection:
            # On SQLite a plain SELECT 1 never opens the file.
            question = "SELECT count(*) FROM sqlite_master" if self.dialect == "sqlite" else "SELECT 1"
            await connection.execute(text(question))
        return time.perf_counter() - began

    @asynccontextmanager
    async def unit(
        self,
        *,
        actor: str | None = None,
        tenant: Tenant = None,
        request_id: str | None = None,
        isolation: Isolation | None = None,
        confined: bool = True,
    ) -> AsyncIterator[Unit]:
        """One transaction: committed when the block ends, rolled back when it raises or is cancelled.

        A cancellation that comes during COMMIT waits for its outcome, and for `after_commit`.

        Args:
            actor, request_id: who acts, in which request; the journal carries them.
            tenant: whose rows of tenanted models are read and written; `ALL` for those of every tenant.
            isolation: stricter than the database's own; SQLite is serializable anyway. Use it with `run`.
            confined: whether row security, where it is on, confines the unit too. Holdfast's own units are not, which
                write tables that are no tenant's.

        Raises:
            Conflict, InvalidValue, Unavailable, StoreError: as the database says, at the call or at commit.
        """
        with self._units.one(alone=self.dialect == "sqlite"):
            whose = checked_tenant(tenant)
            session = AsyncSession(
                self.engine, sync_session_class=ScopedSession, expire_on_commit=False, close_resets_only=False
            )
            unit = Unit(self, session, actor=actor, tenant=whose, request_id=request_id)
            if confined and self.row_security:
                row_security.confine(session.sync_session)
            options = {"isolation_level": isolation.upper()} if isolation and self.dialect != "sqlite" else None
            current.opened(unit)
            try:
                with self._translated:
                    await session.connection(execution_options=options)
                for hook in self.hooks.after_begin:
                    await hook(unit)
                unit.begins(is_snapshot=isolation is not None)
                yield unit
                with self._translated:
                    await session.flush()
                for hook in self.hooks.before_commit:
                    await hook(unit)
                try:
                    await to_the_end(self._commit(unit))
                finally:
                    current.committed()
            except BaseException as error:
                await to_the_end(self._abandon(session))
                if isinstance(error, Exception) and is_of_the_driver(error):
                    self._translated.raise_for(error)
                raise
            finally:
                current.closed(unit)

    @asynccontextmanager
    async def read(
        self,
        *,
        tenant: Tenant = None,
        replica: bool = False,
        at_least: str | None = None,
        confined: bool = True,
        actor: str | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[Unit]:
        """A unit that only reads; on SQLite it neither waits for the writer nor blocks it.

        Args:
            tenant: whose rows it sees.
            replica: that what was committed elsewhere in the last moments may be missing: read from a replica, if
                there is one that answers, and what is read is not for the cache to keep. From libSQL's what this
                process has committed is there; from PostgreSQL's what was committed before `at_least`. There, raw SQL
                is refused.
            at_least: a position that `position` gave, after which nothing must be missing. Where no replica gets there
                within `replica_wait` seconds, the primary is read.
            confined: as in `unit`.
            actor, request_id: who reads, in which request: for the audit, where it has reads on record.

        Raises:
            StoreError: something was written, or a row was changed in Python, which would be lost.
            Unavailable: the database cannot be reached, or the replica cannot catch up with what this process wrote.
            InvalidValue: `at_least` is no position.
        """
        alone = self.dialect == "sqlite" and self.engine is self.read_engine
        async with AsyncExitStack() as held:
            held.enter_context(self._units.one(alone=alone))
            whose = checked_tenant(tenant)
            source: AsyncEngine | AsyncConnection = self.read_engine
            session_class = self._reading_session
            failed: Callable[[], None] | None = None
            if at_least:
                position_number(at_least)
            replica = replica and not current.keeping.get()
            # What another process has written it may lack, and it has no positions to tell by.
            if replica and self.replica is not None and not at_least:
                await self.replica.ready()
                source = self.replica.engine
            if replica and self.read_replicas is not None:
                found = await held.enter_async_context(self.read_replicas.reading(at_least or None))
                if found is not None:
                    (source, failed), session_class = found, postgres.ReplicaSession
            session = AsyncSession(
                source,
                sync_session_class=session_class,
                expire_on_commit=False,
                autoflush=False,
                close_resets_only=False,
            )
            unit = Unit(self, session, actor=actor, tenant=whose, request_id=request_id, read_only=True)
            if confined and self.row_security:
                row_security.confine(session.sync_session)
            unit.begins(is_snapshot=self.dialect == "sqlite" or source is not self.read_engine)
            current.opened(unit)
            try:
                yield unit
                known = session.sync_session
                if known.dirty or known.new or known.deleted:
                    unit.must_write("a row was changed")
                await session.close()
            except BaseException as error:
                await to_the_end(self._abandon(session))
                if failed is not None and is_connection_loss(error):
                    failed()
                if isinstance(error, Exception) and is_of_the_driver(error):
                    unit.translated().raise_for(error)
                raise
            finally:
                current.closed(unit)

    async def position(self) -> str:
        """A position behind everything that is committed now, for `read(replica=True, at_least=…)` anywhere.

        It is text that may be kept or sent along, with a session or a redirect; "" where the database has no replicas
        that could be behind it. On PostgreSQL it costs one statement.

        Raises:
            Unavailable: the primary cannot be reached.
        """
        if self.dialect != "postgresql":
            return ""
        async with self.connect() as connection:
            return str((await connection.execute(text(POSITION))).scalar_one())

    async def run(self, work: Callable[[Unit], Awaitable[T]], *, attempts: int = 8, **context: Any) -> T:
        """Run `work` in a unit, again from the start when it loses against a concurrent transaction.

        `work` may run several times: keep its effects in the unit, or in `unit.after_commit`. `context` is what
        `unit` takes.

        Raises:
            StoreError: it still lost after `attempts` tries. Whatever `work` itself raises comes through.
        """
        for attempt in range(attempts):
            try:
                async with self.unit(**context) as unit:
                    return await work(unit)
            except (StoreError, exc.SQLAlchemyError) as error:
                if not is_retryable(error) or attempt == attempts - 1:
                    raise
                await asyncio.sleep(_backoff(attempt, base=0.005, ceiling=0.5))
        raise StoreError(f"attempts must be at least 1, not {attempts}")

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Any]:
        """A driver connection outside the pools, for LISTEN, COPY or a data_version watch; closed at the end.

        Yields an `asyncpg.Connection` or an `aiosqlite.Connection` (or what has its face) in autocommit.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with self._translated:
            connection = await self._connect_raw()
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def connect(self, *, write: bool = False) -> AsyncIterator[AsyncConnection]:
        """A pooled connection without a unit's session and context, for Holdfast's own tables; `write` commits.

        Raises:
            Unavailable, StoreError: as the database says.
        """
        alone = self.dialect == "sqlite" and (write or self.engine is self.read_engine)
        with self._units.one(alone=alone), self._translated:
            async with self.engine.begin() if write else self.read_engine.connect() as connection:
                yield connection
        if write and self.replica is not None:
            self.replica.wrote()

    async def select(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """The rows of one SELECT across all tenants, outside any unit: for Holdfast's own look-ups.

        On PostgreSQL that is one round trip, where a unit takes three, with its BEGIN and ROLLBACK. A pooler wants the
        transaction: it may change the server's connection between the statement and its parameters.

        Args:
            statement: the same one each time: of another SQLAlchemy matches the columns with those it has compiled.

        Raises:
            Unavailable, StoreError: as the database says.
        """
        async with self.connect() as connection:
            if self.dialect == "postgresql" and self.settings.pooler == "none":
                await connection.execution_options(isolation_level="AUTOCOMMIT")
            rows: Sequence[Row[Any]] = (await connection.execute(statement, parameters)).all()
            return rows

    async def close(self, *, timeout: float = 10.0) -> None:
        """Refuse new units, let open ones finish for up to `timeout` seconds, then drop the connections.

        The connection of a unit that is left open is dropped when the unit ends.
        """
        self._units.refuse()
        pools = [engine.sync_engine.pool for engine in {self.engine, self.read_engine}]
        try:
            async with asyncio.timeout(timeout):
                await self._units.idle.wait()
        except TimeoutError:
            log.warning("units_left_open", place=self.place, units=self._units.count, waited=timeout)
            self._leaving = asyncio.create_task(self._drop_when_idle(pools))
        for engine in {self.engine, self.read_engine}:
            await engine.dispose()
        if self.replica is not None:
            await self.replica.close()
        if self.read_replicas is not None:
            await self.read_replicas.close()

    async def _drop_when_idle(self, pools: list[Pool]) -> None:
        await self._units.idle.wait()
        for pool in pools:
            await greenlet_spawn(pool.dispose)

    def engines(self) -> dict[str, AsyncEngine]:
        """The engines by role, for pool statistics."""
        if self.engine is self.read_engine:
            return {"write": self.engine}
        return {"write": self.engine, "read": self.read_engine}

    async def _connect_raw(self) -> Any:
        if self.dialect == "postgresql":
            return await postgres.connect(self.url, self.settings)
        if self.is_remote:
            return libsql.connect(self.url, self.settings)
        if self.file is None:
            raise StoreError("a database in memory has one connection only; name a file")
        return await sqlite.connect(str(self.file))

    async def _commit(self, unit: Unit) -> None:
        with self._translated:
            await unit.session.commit()
        if self.replica is not None:
            self.replica.wrote()
        await unit.session.close()  # so that a callback may open a unit of its own
        for callback in unit.after_commit_callbacks():
            try:
                outcome = callback()
                if outcome is not None:
                    await outcome
            except Exception:
                log.exception("after_commit_failed", callback=getattr(callback, "__qualname__", repr(callback)))
        for hook in self.hooks.after_commit:
            try:
                await hook(unit)
            except Exception:
                log.exception("after_commit_failed", callback=getattr(hook, "__qualname__", repr(hook)))

    async def _abandon(self, session: AsyncSession) -> None:
        try:
            async with asyncio.timeout(_ROLLBACK):
                await session.rollback()
            await session.close()
        except (exc.SQLAlchemyError, OSError) as error:
            # The connection is lost: the server rolls back by itself, and the first error is the one to show.
            log.info("rollback_failed", place=self.place, reason=type(error).__name__)
            await session.invalidate()


def _backoff(attempt: int, *, base: float = 0.1, ceiling: float = 2.0) -> float:
    """Seconds to wait before try `attempt + 1`: exponential, with full jitter so that waiters spread out."""
    return random.uniform(0.5, 1.0) * min(ceiling, base * 2.0**attempt)
