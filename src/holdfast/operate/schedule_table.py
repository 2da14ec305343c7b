"""The tables of schedules and of their runs, and the statements on them.

One instance runs a schedule at a time. As with the journal's followers, whoever takes a schedule gets a token that is
one higher than the last, and everything that is recorded of a run asks for its token: a holder that was paused past
the end of its lease can record nothing. All times are the database's own clock.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, PrimaryKeyConstraint, Table, false, text, true

from holdfast.errors import NotFound, StoreError
from holdfast.journal.clock import UNIX_NOW
from holdfast.model import Text
from holdfast.operate.rhythm import Rhythm
from holdfast.operate.schedules import Schedule
from holdfast.store import Store, Unit

KEPT = 100  # runs of a schedule in its history

State = Literal["running", "done", "failed", "cancelled", "abandoned", "skipped"]

metadata = MetaData()
Table(
    "holdfast_schedules",
    metadata,
    Column("name", Text(), primary_key=True),
    Column("rhythm", Text(), nullable=False),
    Column("enabled", Boolean(), nullable=False, server_default=true()),
    Column("next_at", BigInteger(), nullable=False),  # the first turn that was not taken
    Column("not_before", BigInteger(), nullable=False, server_default="0"),  # where it failed
    Column("failures", Integer(), nullable=False, server_default="0"),  # of this turn, one after the other
    Column("holder", Text()),
    Column("token", BigInteger(), nullable=False, server_default="0"),
    Column("until", BigInteger(), nullable=False, server_default="0"),
    Column("last_state", Text()),
    Column("last_began", BigInteger()),
    Column("last_ended", BigInteger()),
    Column("last_error", Text()),
)
Table(
    "holdfast_schedule_runs",
    metadata,
    Column("name", Text(), nullable=False),
    Column("token", BigInteger(), nullable=False),  # of the lease it ran under
    Column("planned", BigInteger(), nullable=False),
    Column("began", BigInteger(), nullable=False),
    Column("ended", BigInteger()),
    Column("state", Text(), nullable=False),
    Column("attempt", Integer(), nullable=False),
    Column("instance", Text(), nullable=False),
    Column("error", Text()),
    Column("by_hand", Boolean(), nullable=False, server_default=false()),
    PrimaryKeyConstraint("name", "token"),
)

REGISTER = """
    INSERT INTO holdfast_schedules (name, rhythm, next_at) VALUES (:name, :rhythm, :next_at)
    ON CONFLICT (name) DO UPDATE SET rhythm = excluded.rhythm, next_at = excluded.next_at, failures = 0, not_before = 0
    WHERE holdfast_schedules.rhythm <> excluded.rhythm
"""
DUE = """
    SELECT name FROM holdfast_schedules
    WHERE enabled AND next_at <= {now} AND not_before <= {now} AND until <= {now} ORDER BY next_at
"""
NEXT = """
    SELECT name, CASE WHEN not_before > next_at THEN not_before ELSE next_at END AS at, until, {now} AS now
    FROM holdfast_schedules WHERE enabled
"""
TAKE = """
    UPDATE holdfast_schedules SET holder = :holder, token = token + 1, until = {now} + :ttl
    WHERE name = :name AND enabled AND next_at <= {now} AND not_before <= {now} AND until <= {now}
    RETURNING token, next_at, failures, {now} AS now
"""
TAKE_BY_HAND = """
    UPDATE holdfast_schedules SET holder = :holder, token = token + 1, until = {now} + :ttl
    WHERE name = :name AND until <= {now} RETURNING token, next_at, failures, {now} AS now
"""
ABANDONED = """
    UPDATE holdfast_schedule_runs SET state = 'abandoned', ended = {now}, error = 'its instance said nothing any more'
    WHERE name = :name AND token < :token AND state = 'running'
"""
BEGAN = """
    INSERT INTO holdfast_schedule_runs (name, token, planned, began, state, attempt, instance, by_hand)
    VALUES (:name, :token, :planned, {now}, 'running', :attempt, :instance, :by_hand)
"""
RENEW = "UPDATE holdfast_schedules SET until = {now} + :ttl WHERE name = :name AND token = :token AND until > 0"
HELD = "SELECT 1 FROM holdfast_schedules WHERE name = :name AND token = :token AND until > 0"
ENDED = """
    UPDATE holdfast_schedules
    SET until = 0, holder = NULL, next_at = :next_at, failures = :failures, not_before = {now} + :wait,
        last_state = :state, last_error = :error, last_ended = {now},
        last_began = (SELECT began FROM holdfast_schedule_runs r WHERE r.name = :name AND r.token = :token)
    WHERE name = :name AND token = :token AND until > 0
"""
RECORD = """
    UPDATE holdfast_schedule_runs SET state = :state, error = :error, ended = {now}
    WHERE name = :name AND token = :token
"""
LOST = RECORD + " AND state = 'running'"
PRUNE = "DELETE FROM holdfast_schedule_runs WHERE name = :name AND token <= :oldest"
PAUSE = "UPDATE holdfast_schedules SET enabled = false WHERE name = :name"
RESUME = """
    UPDATE holdfast_schedules SET enabled = true, failures = 0, not_before = 0, next_at = :next_at
    WHERE name = :name AND NOT enabled
"""
FORGET = "DELETE FROM holdfast_schedules WHERE name = :name"
FORGET_RUNS = "DELETE FROM holdfast_schedule_runs WHERE name = :name"
LIST = """
    SELECT name, rhythm, enabled, next_at, not_before, failures, until, holder, last_state, last_began, last_ended,
           last_error, {now} AS now
    FROM holdfast_schedules ORDER BY name
"""
HISTORY = """
    SELECT name, planned, began, ended, state, attempt, instance, error, by_hand FROM holdfast_schedule_runs
    WHERE name = :name ORDER BY token DESC LIMIT :limit
"""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule that is this instance's until somebody else takes it."""

    name: str
    token: int
    due: int
    failures: int
    now: int


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True):
    """How a schedule fares; times are milliseconds since 1970."""

    name: str
    rhythm: str
    enabled: bool
    next_at: int
    failures: int
    run_by: str | None
    last_state: State | None
    last_began: int | None
    last_ended: int | None
    last_error: str | None
    late: int  # milliseconds since it should have been run

    def problem(self) -> str | None:
        """What is wrong, or None."""
        if self.enabled and self.last_state == "failed":
            return f"{self.name} failed: {self.last_error}"
        return None


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a schedule; times are milliseconds since 1970."""

    name: str
    planned: int
    began: int
    ended: int | None
    state: State
    attempt: int
    instance: str
    error: str | None
    by_hand: bool


class ScheduleTable:
    """The schedules of one database, as this instance sees and takes them.

    Attributes:
        ttl: seconds after which a holder that says nothing loses its schedule.
        instance: who this is: host, process, and a random end.
    """

    def __init__(self, store: Store, *, ttl: float = 15.0) -> None:
        self.store = store
        self.ttl = ttl
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        # Integers, and no fractions of seconds: a moment that is written and read again is the same one.
        self._now = f"CAST({UNIX_NOW[store.dialect]} * 1000 AS BIGINT)"

    def _sql(self, statement: str) -> Any:
        return text(statement.format(now=self._now))

    async def now(self) -> int:
        """What time the database has."""
        async with self.store.connect() as connection:
            return int((await connection.execute(self._sql("SELECT {now}"))).scalar_one())

    async def register(self, schedules: Sequence[Schedule]) -> None:
        """Make the rows of `schedules`; one that has another rhythm than before goes on by the new one."""
        if not schedules:
            return
        now = await self.now()
        rows = [{"name": s.name, "rhythm": str(s.rhythm), "next_at": s.rhythm.after(now)} for s in schedules]
        async with self.store.connect(write=True) as connection:
            await connection.execute(text(REGISTER), sorted(rows, key=lambda row: str(row["name"])))

    async def due(self) -> list[str]:
        """The names of what is due and run by nobody, the longest due first."""
        async with self.store.connect() as connection:
            return list((await connection.execute(self._sql(DUE))).scalars())

    async def wait(self, names: set[str]) -> float | None:
        """Seconds until the next of `names` may be taken; None when none ever is."""
        async with self.store.connect() as connection:
            rows = (await connection.execute(self._sql(NEXT))).all()
        waits = [max(row.at, row.until) - row.now for row in rows if row.name in names]
        return max(0, min(waits)) / 1_000 if waits else None

    async def take(self, name: str, *, by_hand: bool = False) -> Taken | None:
        """Take a schedule that is due, or with `by_hand` at any time; None when another instance has it."""
        values = {"name": name, "holder": self.instance, "ttl": round(self.ttl * 1_000)}
        async with self.store.connect(write=True) as connection:
            row = (await connection.execute(self._sql(TAKE_BY_HAND if by_hand else TAKE), values)).first()
            if row is None:
                return None
            await connection.execute(self._sql(ABANDONED), {"name": name, "token": row.token})
            return Taken(name=name, token=row.token, due=row.next_at, failures=row.failures, now=row.now)

    async def began(self, taken: Taken, planned: int, *, by_hand: bool = False) -> None:
        """Record that a run begins."""
        values = {"name": taken.name, "token": taken.token, "planned": planned, "attempt": taken.failures + 1}
        async with self.store.connect(write=True) as connection:
            await connection.execute(self._sql(BEGAN), {**values, "instance": self.instance, "by_hand": by_hand})

    async def renew(self, taken: Taken) -> bool:
        """Keep the schedule; returns whether it is still this instance's."""
        values = {"name": taken.name, "token": taken.token, "ttl": round(self.ttl * 1_000)}
        async with self.store.connect(write=True) as connection:
            return bool((await connection.execute(self._sql(RENEW), values)).rowcount)

    async def is_held(self, taken: Taken, unit: Unit) -> bool:
        """Whether the schedule is still this instance's, and so until `unit` has ended."""
        lock = " FOR UPDATE" if self.store.dialect == "postgresql" else ""
        values = {"name": taken.name, "token": taken.token}
        return (await unit.execute(HELD + lock, values)).first() is not None

    async def ended(
        self, taken: Taken, state: State, error: str | None, *, next_at: int, failures: int = 0, wait: int = 0
    ) -> bool:
        """Record how a run ended and give the schedule back; returns False when it was another's by then."""
        key = {"name": taken.name, "token": taken.token}
        told = {**key, "state": state, "error": error}
        async with self.store.connect(write=True) as connection:
            kept = await connection.execute(
                self._sql(ENDED), {**told, "next_at": next_at, "failures": failures, "wait": wait}
            )
            if not kept.rowcount:
                lost = {**key, "state": "abandoned", "error": "another instance had taken the schedule by then"}
                await connection.execute(self._sql(LOST), lost)
                return False
            await connection.execute(self._sql(RECORD), told)
            await connection.execute(text(PRUNE), {"name": taken.name, "oldest": taken.token - KEPT})
            return True

    async def states(self) -> list[ScheduleState]:
        """Every schedule, by name."""
        async with self.store.connect() as connection:
            rows = (await connection.execute(self._sql(LIST))).all()
        return [
            ScheduleState(
                name=row.name,
                rhythm=row.rhythm,
                enabled=bool(row.enabled),
                next_at=max(row.next_at, row.not_before),
                failures=row.failures,
                run_by=row.holder if row.until > row.now else None,
                last_state=row.last_state,
                last_began=row.last_began,
                last_ended=row.last_ended,
                last_error=row.last_error,
                late=max(0, row.now - max(row.next_at, row.not_before, row.until)) if row.enabled else 0,
            )
            for row in rows
        ]

    async def history(self, name: str, limit: int = KEPT) -> list[PastRun]:
        """The runs of a schedule, newest first. NotFound: there is none of this name."""
        async with self.store.connect() as connection:
            rows = (await connection.execute(text(HISTORY), {"name": name, "limit": limit})).mappings().all()
        if not rows:
            await self._rhythm(name)
        return [PastRun(**{**row, "by_hand": bool(row["by_hand"])}) for row in rows]

    async def pause(self, name: str) -> None:
        """Let no further run begin. NotFound: there is none of this name."""
        async with self.store.connect(write=True) as connection:
            if not (await connection.execute(text(PAUSE), {"name": name})).rowcount:
                raise _unknown(name)

    async def resume(self, name: str) -> None:
        """Go on with the next turn; those that came meanwhile are left out. NotFound: there is none of this name."""
        next_at = (await self._rhythm(name)).after(await self.now())
        async with self.store.connect(write=True) as connection:
            await connection.execute(text(RESUME), {"name": name, "next_at": next_at})

    async def forget(self, name: str) -> None:
        """Remove a schedule that no code declares any more, with its history.

        Raises:
            NotFound: there is none of this name. StoreError: it is being run.
        """
        for state in await self.states():
            if state.name == name and state.run_by is not None:
                raise StoreError(f"{name!r} is being run by {state.run_by}; forget it when that has ended")
        async with self.store.connect(write=True) as connection:
            await connection.execute(text(FORGET_RUNS), {"name": name})
            if not (await connection.execute(text(FORGET), {"name": name})).rowcount:
                raise _unknown(name)

    async def _rhythm(self, name: str) -> Rhythm:
        async with self.store.connect() as connection:
            found = await connection.execute(
                text("SELECT rhythm FROM holdfast_schedules WHERE name = :name"), {"name": name}
            )
            rhythm = found.scalar()
        if rhythm is None:
            raise _unknown(name)
        return Rhythm.parse(rhythm)


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}; `holdfast work list` has them")
