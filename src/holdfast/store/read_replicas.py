"""Streaming replicas of a PostgreSQL database: which of them may answer a read now, if any."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.logs import get_logger
from holdfast.settings import Settings, hide_password
from holdfast.store import postgres
from holdfast.store.failures import translate
from holdfast.store.urls import dialect_of, parse_url

T = TypeVar("T")

log = get_logger("holdfast.store")

POSITION = "SELECT pg_current_wal_insert_lsn()::text"
"""Behind everything that is committed; on the primary."""

REPLAYED = "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint"

_ANSWER = 1.0  # seconds a replica has to connect and to answer: the primary would have done so in less
_TRUSTED = 1.0  # seconds for which a replica that has answered is not asked again whether it is there
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LOOK = 0.01  # seconds between two looks at how far a replica is
_LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.IGNORECASE)


class NotAReplica(Exception):
    """The server is in no recovery: a primary, perhaps since a moment ago."""


class Breaker:
    """When to leave a replica alone: after a failure a second, twice as long after each further one."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Whether it may be tried."""
        return now >= self._until

    def failed(self, now: float) -> None:
        """It did not answer."""
        self._until = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.failures, 10))
        self.failures += 1

    def worked(self) -> bool:
        """It answered; returns whether it had failed before."""
        failed, self.failures, self._until = self.failures > 0, 0, 0.0
        return failed


def position_number(position: str) -> int:
    """A position as a number, in bytes of the log.

    Raises:
        InvalidValue: it is none that `position()` gave.
    """
    found = _LSN.fullmatch(position)
    if found is None:
        raise InvalidValue(f"{position[:40]!r} is no position of a database; give what hold.position() returned")
    return (int(found[1], 16) << 32) + int(found[2], 16)


class _Member:
    def __init__(self, url: str, settings: Settings) -> None:
        parsed = parse_url(url)
        if dialect_of(parsed) != "postgresql":
            raise ConfigurationError(f"HOLDFAST_DATABASE_REPLICA_URLS names {hide_password(url)}, no PostgreSQL")
        self.place = hide_password(url)
        self.engine: AsyncEngine = postgres.create_engine(parsed, settings, read_only=True)
        self.breaker = Breaker()
        self.replayed = 0
        self.seen = float("-inf")


class ReadReplicas:
    """The replicas that `settings.database_replica_urls` names; each URL is one server."""

    def __init__(self, urls: str, settings: Settings) -> None:
        self._members = [_Member(url.strip(), settings) for url in urls.split(",") if url.strip()]
        if not self._members:
            raise ConfigurationError("HOLDFAST_DATABASE_REPLICA_URLS names no replica; leave it out, or name one")
        self._wait = settings.replica_wait
        self._turns = itertools.count()

    @property
    def engines(self) -> list[AsyncEngine]:
        """One a replica, each with a pool of its own."""
        return [member.engine for member in self._members]

    @asynccontextmanager
    async def reading(self, at_least: str | None) -> AsyncIterator[tuple[AsyncConnection, Callable[[], None]] | None]:
        """A connection to a replica that has everything up to `at_least`, and what to call when it fails.

        None when there is none now: those that do not answer, and those that are behind for longer than
        `replica_wait`, are passed over.
        """
        wanted = 0 if at_least is None else position_number(at_least)
        deadline = time.monotonic() + self._wait
        start = next(self._turns)
        members = [self._members[(start + n) % len(self._members)] for n in range(len(self._members))]
        # The first that has it already, before any that must be waited for.
        for member in sorted(members, key=lambda member: member.replayed < wanted):
            connection = await self._connected(member, wanted, deadline)
            if connection is not None:
                try:
                    yield connection, lambda: self._failed(member, "a connection was lost")  # noqa: B023
                finally:
                    await connection.close()
                return
        yield None

    async def close(self) -> None:
        """Drop the connections."""
        for engine in self.engines:
            await engine.dispose()

    async def _connected(self, member: _Member, wanted: int, deadline: float) -> AsyncConnection | None:
        if not member.breaker.allows(time.monotonic()):
            return None
        connection: AsyncConnection | None = None
        try:
            connection = await _within(_ANSWER, lambda: member.engine.connect().start())
            while member.replayed < wanted or time.monotonic() - member.seen > _TRUSTED:
                member.replayed = await _within(_ANSWER, lambda: _replayed(connection))
                member.seen = time.monotonic()
                if member.replayed >= wanted:
                    break
                if time.monotonic() >= deadline:
                    await connection.close()
                    return None
                await asyncio.sleep(min(_LOOK, max(0.0, deadline - time.monotonic())))
        except Exception as error:  # noqa: BLE001  whatever it is, the primary answers
            self._failed(member, _reason(error, member.place))
            if connection is not None:
                await connection.invalidate()
                await connection.close()
            return None
        except BaseException:
            if connection is not None:
                await connection.invalidate()
                await connection.close()
            raise
        if member.breaker.worked():
            log.info("replica_back", place=member.place)
        return connection

    def _failed(self, member: _Member, reason: str) -> None:
        if not member.breaker.failures:
            log.warning("replica_away", place=member.place, reason=reason)
        member.breaker.failed(time.monotonic())
        member.replayed, member.seen = 0, float("-inf")  # another server may answer there next


def _reason(error: Exception, place: str) -> str:
    if isinstance(error, NotAReplica):
        return "it is no replica"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {_ANSWER:g} s"
    return str(translate(error, place) or type(error).__name__)


async def _replayed(connection: AsyncConnection | None) -> int:
    assert connection is not None
    recovering, replayed = (await connection.execute(text(REPLAYED))).one()
    await connection.rollback()
    if not recovering:
        raise NotAReplica
    return int(replayed)


async def _within(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(seconds):
        return await work()
