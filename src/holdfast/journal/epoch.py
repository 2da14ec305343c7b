"""Which life of the database this is: noticed when a restore, a clone or an older copy took its place.

An epoch ends when the database is no longer the one that wrote its journal. Its journal and ticks are then
emptied and the epoch gets a number it never had, so that no position of the past fits, and every follower rebuilds.
Numbers are milliseconds since 1970: counting on from a number that was restored would give one out twice.
A disk snapshot rolled back underneath a stopped server looks exactly like the past and cannot be seen.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from holdfast.errors import JournalError
from holdfast.journal.clock import UNIX_NOW
from holdfast.journal.witness import Witness
from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.journal")

CHECK_EVERY = 2.0  # seconds

# A clone has another database oid, a restore into the same database another oid of the table, a promoted standby
# or a point-in-time restore another timeline, a restore elsewhere another system identifier.
IDENTITY = """
    SELECT e.number, e.identity, concat_ws('/',
        (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'holdfast_epoch'::regclass::oid,
        substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
    ) AS present
    FROM holdfast_epoch e
"""

LOCK = "SELECT pg_advisory_xact_lock(1751739492, 'holdfast_ticks'::regclass::oid::int)"

# Deleted is what the statement sees, and the tick is made after it: a change that is still being written stays, and
# is in the first batch. Ids go on from the highest, so that none means two moments.
EMPTY = (
    "DELETE FROM holdfast_journal",
    "DELETE FROM holdfast_dead_letters",
    """
    WITH gone AS (DELETE FROM holdfast_ticks RETURNING id)
    INSERT INTO holdfast_ticks (id, snapshot) SELECT coalesce(max(id), 0) + 1, pg_current_snapshot() FROM gone
    """,
)

BEGIN_POSTGRES = """
    UPDATE holdfast_epoch
    SET number = greatest(number + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        identity = $1, began = clock_timestamp()
    RETURNING number
"""
BEGIN_SQLITE = f"""
    UPDATE holdfast_epoch
    SET number = max(number + 1, CAST({UNIX_NOW["sqlite"]} * 1000.0 AS INTEGER)),
        identity = ?, edge = ?, began = {UNIX_NOW["sqlite"]}
"""  # noqa: S608


class Epochs:
    """Checks the identity of one database, on each new connection and every `CHECK_EVERY` seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checked = 0.0
        self._connections = -1
        self.identity = ""
        self.witness = Witness(store.file) if store.file is not None else None

    def is_due(self, connections: int) -> bool:
        """Whether to check now; `connections` is how many times the caller connected."""
        return connections != self._connections or time.monotonic() - self._checked >= CHECK_EVERY

    async def check(self, connection: Any, connections: int) -> None:
        """Begin a new epoch when this is not the database that wrote its journal.

        `connection` is an `asyncpg.Connection` or an `aiosqlite.Connection`, in autocommit.
        """
        if not self.is_due(connections):
            return
        if self._store.dialect == "sqlite":
            await self._check_sqlite(connection)
        else:
            await self._check_postgres(connection)
        self._checked, self._connections = time.monotonic(), connections

    async def _check_postgres(self, connection: Any) -> None:
        row = await connection.fetchrow(IDENTITY)
        if row is None:
            raise JournalError("holdfast_epoch is empty; run `holdfast migrate up`")
        if row["identity"] == row["present"]:
            return
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(LOCK)
            row = await connection.fetchrow(IDENTITY)
            if row["identity"] == row["present"]:
                return
            for statement in EMPTY:
                await connection.execute(statement)
            number = await connection.fetchval(BEGIN_POSTGRES, row["present"])
        self._told(number, row["number"] == 0, f"it was {row['identity']} and is {row['present']}")

    async def _check_sqlite(self, connection: Any) -> None:
        self.identity, reason = await self._look(connection)
        if reason is None:
            return
        await connection.execute("BEGIN IMMEDIATE")
        try:
            # Whoever waited for the lock finds the epoch that the other process began.
            self.identity, reason = await self._look(connection)
            if reason is None:
                await connection.execute("ROLLBACK")
                return
            number, is_first = await self._begin_sqlite(connection)
            if self.witness is not None:
                # Before the commit: when that fails, the two disagree, and the next check begins anew.
                self.witness.begin(self.identity)
            await connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                await connection.execute("ROLLBACK")
            raise
        self._told(number, is_first, reason)

    async def _look(self, connection: Any) -> tuple[str, str | None]:
        """The identity in the file, and why it is not the database that was seen here, or None."""
        [(number, identity)] = await connection.execute_fetchall("SELECT number, identity FROM holdfast_epoch")
        if self.witness is None:
            return identity, "it is new" if number == 0 else None
        [(last,)] = await connection.execute_fetchall("SELECT coalesce(max(seq), 0) FROM holdfast_journal")
        rows = await connection.execute_fetchall("SELECT * FROM holdfast_journal WHERE seq = ?", (self.witness.seq(),))
        return identity, self.witness.differs(identity, last, next(iter(rows), None))

    async def _begin_sqlite(self, connection: Any) -> tuple[int, bool]:
        """The new epoch's number, and whether it is the database's first."""
        self.identity = secrets.token_hex(16)
        [(before,)] = await connection.execute_fetchall("SELECT number FROM holdfast_epoch")
        [(last,)] = await connection.execute_fetchall(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'holdfast_journal'), 0)"
        )
        await connection.execute("DELETE FROM holdfast_journal")
        await connection.execute("DELETE FROM holdfast_dead_letters")
        await connection.execute(BEGIN_SQLITE, (self.identity, last))
        [(number,)] = await connection.execute_fetchall("SELECT number FROM holdfast_epoch")
        return int(number), before == 0

    def _told(self, number: int, is_first: bool, reason: str) -> None:
        if not is_first:
            log.warning("epoch_began", place=self._store.place, epoch=number, reason=reason)
