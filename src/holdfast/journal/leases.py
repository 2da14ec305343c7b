"""One instance runs a follower: a row, a holder, and a token that fences off whoever held it before.

The token grows whenever the lease changes hands, and every checkpoint asks for it: an instance that was paused
past the end of its lease cannot move the follower any more, however late it wakes up
(https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html). Times are the database's.
"""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import JournalError
from holdfast.journal.changes import Position
from holdfast.journal.clock import UNIX_NOW
from holdfast.store import Store, Unit

REGISTER_MISSING = """
    INSERT INTO holdfast_followers (name, epoch, tick, seq, moved) VALUES (:name, 0, 0, 0, {now})
    ON CONFLICT (name) DO NOTHING
"""
REGISTER = """
    INSERT INTO holdfast_followers (name, epoch, tick, seq, max_lag_changes, max_lag_seconds, moved)
    VALUES (:name, :epoch, :tick, 0, :changes, :seconds, {now})
    ON CONFLICT (name) DO UPDATE
    SET max_lag_changes = excluded.max_lag_changes, max_lag_seconds = excluded.max_lag_seconds
"""
ACQUIRE = """
    UPDATE holdfast_followers SET holder = :holder, token = token + 1, until = {now} + :ttl
    WHERE name = :name AND (until < {now} OR holder = :holder)
    RETURNING token, epoch, tick, seq, retry
"""
RENEW = """
    UPDATE holdfast_followers SET until = {now} + :ttl WHERE name = :name AND token = :token RETURNING retry
"""
RELEASE = "UPDATE holdfast_followers SET until = 0, holder = NULL WHERE name = :name AND token = :token"
CHECKPOINT = """
    UPDATE holdfast_followers
    SET epoch = :epoch, tick = :tick, seq = :seq, state = 'following', reason = NULL, moved = {now},
        handled = handled + :handled
    WHERE name = :name AND token = :token
"""
FAILED = """
    UPDATE holdfast_followers
    SET state = 'failing', reason = :reason, failures = failures + 1, last_error = :reason, last_failed = {now}
    WHERE name = :name AND token = :token
"""
RETRIED = "UPDATE holdfast_followers SET retry = false WHERE name = :name AND token = :token"


class LostLease(JournalError):
    """Another instance runs this follower now; whatever this one did since has not been kept."""


class Lease(msgspec.Struct, frozen=True):
    """The right to run a follower, until somebody else takes it."""

    name: str
    token: int
    position: Position


class Leases:
    """Takes, keeps and gives back leases for this process.

    Attributes:
        ttl: seconds after which a holder that says nothing loses its lease.
    """

    def __init__(self, store: Store, *, ttl: float = 10.0) -> None:
        self._store = store
        self._now = UNIX_NOW[store.dialect]
        self.ttl = ttl
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def register(
        self, name: str, start: Position | None, *, max_lag_changes: int | None, max_lag_seconds: float | None
    ) -> None:
        """Make the follower's row; `start` None makes it begin by rebuilding."""
        values = {"name": name, "changes": max_lag_changes, "seconds": max_lag_seconds}
        values |= {"epoch": start.epoch if start else 0, "tick": start.tick if start else 0}
        await self._run(REGISTER, values)

    async def acquire(self, name: str) -> tuple[Lease, bool] | None:
        """The lease, and whether the dead letters are to be tried again; None while another instance holds it."""
        row = await self._run(ACQUIRE, {"name": name, "holder": self.holder, "ttl": self.ttl})
        if row is None:
            # Held by another; or the database was put back to a time before the follower was registered.
            await self._run(REGISTER_MISSING, {"name": name})
            return None
        return Lease(name, row.token, Position(row.epoch, row.tick, row.seq)), bool(row.retry)

    async def renew(self, lease: Lease) -> bool:
        """Keep the lease; returns whether somebody asked for its dead letters to be tried again.

        Raises:
            LostLease: another instance took it.
        """
        row = await self._run(RENEW, {"name": lease.name, "token": lease.token, "ttl": self.ttl})
        if row is None:
            raise _lost(lease)
        return bool(row.retry)

    async def release(self, lease: Lease) -> None:
        """Let another instance take it at once."""
        await self._run(RELEASE, {"name": lease.name, "token": lease.token})

    async def checkpoint(self, lease: Lease, position: Position, unit: Unit | None = None, *, handled: int = 0) -> None:
        """Keep how far the follower got and how much more it handled, in `unit` when its effects are there.

        Raises:
            LostLease: another instance took the lease; in a unit this undoes the effects.
        """
        values = {
            "name": lease.name,
            "token": lease.token,
            "epoch": position.epoch,
            "tick": position.tick,
            "seq": position.seq,
            "handled": handled,
        }
        statement = text(CHECKPOINT.format(now=self._now))
        if unit is not None:
            moved = await unit.execute(statement, values)
        else:
            async with self._store.connect(write=True) as connection:
                moved = await connection.execute(statement, values)
        if moved.rowcount == 0:  # type: ignore[attr-defined]
            raise _lost(lease)

    async def failed(self, lease: Lease, reason: str) -> None:
        """Show in the status that the handler failed, and count it."""
        await self._run(FAILED, {"name": lease.name, "token": lease.token, "reason": reason})

    async def retried(self, lease: Lease) -> None:
        """The dead letters were tried again."""
        await self._run(RETRIED, {"name": lease.name, "token": lease.token})

    async def _run(self, statement: str, values: dict[str, Any]) -> Any:
        async with self._store.connect(write=True) as connection:
            return await _first(connection, statement.format(now=self._now), values)


async def _first(connection: AsyncConnection, statement: str, values: dict[str, Any]) -> Any:
    result = await connection.execute(text(statement), values)
    return result.first() if result.returns_rows else None


def _lost(lease: Lease) -> LostLease:
    return LostLease(f"the follower {lease.name!r} is run by another instance now; this one stops")
