"""How the journal and its followers fare."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.journal.changes import Position
from holdfast.journal.clock import UNIX_NOW
from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.journal")

COUNTED = 100_000  # rows of the journal: a lag beyond is shown as at least that

FORGOTTEN = 600.0  # seconds behind, without a holder: nobody seems to run it

FOLLOWERS = """
    SELECT f.*, e.number AS present, f.until > {now} AS is_held, coalesce(d.parked, 0) AS parked
    FROM holdfast_followers f
    CROSS JOIN holdfast_epoch e
    LEFT JOIN (SELECT follower, count(*) AS parked FROM holdfast_dead_letters GROUP BY follower) d
        ON d.follower = f.name
    ORDER BY f.name
"""
LAST = {
    "postgresql": "SELECT e.number AS epoch, (SELECT max(id) FROM holdfast_ticks) AS tick FROM holdfast_epoch e",
    "sqlite": """
        SELECT e.number AS epoch, max(e.edge, coalesce((SELECT max(seq) FROM holdfast_journal), 0)) AS tick
        FROM holdfast_epoch e
    """,
}
FIRST = {
    "postgresql": "SELECT e.number AS epoch, (SELECT min(id) FROM holdfast_ticks) AS tick FROM holdfast_epoch e",
    "sqlite": "SELECT e.number AS epoch, e.edge AS tick FROM holdfast_epoch e",
}
LAG = {
    "postgresql": "SELECT changes, seconds FROM holdfast_lag(:tick, :counted)",
    "sqlite": """
        SELECT :last - :tick AS changes, max(0, coalesce((julianday('now') - (
            SELECT at FROM holdfast_journal WHERE seq > :tick ORDER BY seq LIMIT 1)) * 86400.0, 0)) AS seconds
    """,
}
DROP = """
    UPDATE holdfast_followers
    SET epoch = 0, tick = 0, seq = 0, state = 'dropped', reason = :reason, token = token + 1, until = 0
    WHERE name = :name AND token = :token
"""


class FollowerStatus(msgspec.Struct, frozen=True):
    """One durable follower.

    Attributes:
        state: following, failing, dropped (it lagged more than it said it may; it will rebuild), new.
        lag_changes, lag_seconds: how many it has not had, counted up to 100,000 rows of the journal, and the age of
            the oldest of them.
        parked: its dead letters.
        holder: which process runs it; None when none does.
        reason: the last failure, while it lasts.
        handled: how many changes its handler took, resets not counted.
        failures, last_error, last_failed: how often its handler failed, attempts counted one by one; with what, and
            when, the last time (seconds since 1970).
    """

    name: str
    state: str
    position: str
    lag_changes: int
    lag_seconds: float
    parked: int
    holder: str | None
    reason: str | None
    handled: int = 0
    failures: int = 0
    last_error: str | None = None
    last_failed: float | None = None

    def problems(self) -> list[str]:
        """What is wrong with it, a sentence each with what to do."""
        found = []
        if self.state in ("failing", "dropped"):
            found.append(f"the follower {self.name} is {self.state}: {self.reason}")
        if self.parked:
            found.append(
                f"the follower {self.name} has {self.parked} dead letters; look at their errors, then"
                f" `holdfast journal retry {self.name}` or `skip {self.name}`"
            )
        if self.holder is None and self.lag_seconds > FORGOTTEN:
            found.append(
                f"the follower {self.name} has not run for {self.lag_seconds:,.0f} s; start the process that runs it,"
                f" or `holdfast journal forget {self.name}`"
            )
        return found


class JournalStatus(msgspec.Struct, frozen=True):
    """The journal and its durable followers."""

    position: str
    followers: list[FollowerStatus]


async def status(store: Store) -> JournalStatus:
    """How things are now, as far as the database knows; makes no tick."""
    async with store.connect() as connection:
        last = await last_position(connection)
        followers = []
        for row in await _followers(connection):
            changes, seconds = await _lag(connection, row, last)
            state = "new" if row.epoch == 0 and row.state == "following" else row.state
            place = str(Position(row.epoch, row.tick, row.seq))
            holder = row.holder if row.is_held else None
            followers.append(
                FollowerStatus(
                    row.name,
                    state,
                    place,
                    changes,
                    seconds,
                    row.parked,
                    holder,
                    row.reason,
                    row.handled,
                    row.failures,
                    row.last_error,
                    row.last_failed,
                )
            )
        return JournalStatus(str(last), followers)


async def first_position(connection: AsyncConnection) -> Position:
    """The tick from which on everything is there."""
    row = (await connection.execute(text(FIRST[connection.dialect.name]))).one()
    return Position(row.epoch, row.tick or 0)


async def last_position(connection: AsyncConnection) -> Position:
    """The last tick that was made."""
    row = (await connection.execute(text(LAST[connection.dialect.name]))).one()
    return Position(row.epoch, row.tick or 0)


async def drop_laggards(store: Store) -> list[str]:
    """Take their place from followers that lag more than they said they may; returns their names."""
    dropped = []
    async with store.connect(write=True) as connection:
        last = await last_position(connection)
        for row in await _followers(connection):
            if row.epoch != row.present or (row.max_lag_changes is None and row.max_lag_seconds is None):
                continue
            changes, seconds = await _lag(connection, row, last)
            if changes <= (row.max_lag_changes or changes) and seconds <= (row.max_lag_seconds or seconds):
                continue
            reason = f"it lagged {changes:,} changes and {seconds:,.0f} s; when it runs again it rebuilds"
            await connection.execute(text(DROP), {"name": row.name, "token": row.token, "reason": reason})
            log.error("follower_dropped", place=store.place, follower=row.name, reason=reason)
            dropped.append(row.name)
    return dropped


async def _followers(connection: AsyncConnection) -> list[Any]:
    return list((await connection.execute(text(FOLLOWERS.format(now=UNIX_NOW[connection.dialect.name])))).all())


async def _lag(connection: AsyncConnection, row: Any, last: Position) -> tuple[int, float]:
    if row.epoch != row.present:
        return 0, 0.0  # it has no place to lag behind from
    values = {"tick": row.tick, "seq": row.seq, "last": last.tick, "counted": COUNTED}
    statement = LAG[connection.dialect.name]
    lag = (await connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})).one()
    return int(lag.changes), float(lag.seconds) if lag.changes else 0.0
