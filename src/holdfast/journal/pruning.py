"""Keeping the journal short: what every durable follower has had is removed, a slot or some rows at a time.

PostgreSQL: rows live in three slots. One is written; a drained one is truncated, for which it is locked without
waiting, so that nobody ever queues behind it. Under the lock no transaction that wrote there is open, so every row
is either visible or dead, and the slot may go when all are older than what the slowest follower has had. A writer that
read the slot's number long ago may still write into it later: its rows are read from there like any other's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import text

from holdfast.errors import HoldfastError
from holdfast.journal.epoch import Epochs
from holdfast.journal.link import Link
from holdfast.journal.status import drop_laggards
from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.journal")

SLOTS = 3
CHUNK = 5_000  # rows deleted in one transaction of SQLite

# One process prunes at a time; who finds another at it has nothing to do.
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(1751739493, 'holdfast_ticks'::regclass::oid::int)"

HORIZON_POSTGRES = """
    SELECT least(
        (SELECT min(f.tick) FROM holdfast_followers f JOIN holdfast_epoch e ON f.epoch = e.number),
        (SELECT max(t.id) FROM holdfast_ticks t WHERE t.at < clock_timestamp() - $1 * interval '1 second')
    )
"""
OLD_ENOUGH = "SELECT max(t.id) FROM holdfast_ticks t WHERE t.at < clock_timestamp() - $1 * interval '1 second'"
FORGET_TICKS = "DELETE FROM holdfast_ticks WHERE id < $1"
CURRENT = "SELECT slot, extract(epoch FROM clock_timestamp() - since)::float8 AS age FROM holdfast_slot"
STILL_NEEDED = """
    SELECT EXISTS (
        SELECT FROM holdfast_journal_{slot} j, holdfast_ticks t
        WHERE t.id = $1 AND j.xid >= pg_snapshot_xmin(t.snapshot)::text::bigint
    )
"""
ROTATE = "UPDATE holdfast_slot SET slot = $1, since = clock_timestamp() WHERE slot = $2"

SLOWEST_SQLITE = "SELECT min(f.tick) FROM holdfast_followers f JOIN holdfast_epoch e ON f.epoch = e.number"
ENDS_SQLITE = "SELECT min(seq), max(seq) FROM holdfast_journal"
ROW_SQLITE = "SELECT seq, shape, op, at, actor, request, body FROM holdfast_journal WHERE seq = ?"


EDGE = {
    # A number of its own: of every other transaction that is under way it is a higher one. A snapshot's end is not.
    "postgresql": "SELECT pg_current_xact_id()::text::bigint",
    "sqlite": "SELECT max(e.edge, coalesce((SELECT max(seq) FROM holdfast_journal), 0)) + 1 FROM holdfast_epoch e",
}
BEFORE = {
    # One that was under way then may not have committed yet.
    "postgresql": """
        SELECT EXISTS (SELECT FROM holdfast_journal WHERE xid < :edge)
            OR pg_snapshot_xmin(pg_current_snapshot())::text::bigint < :edge
    """,
    "sqlite": "SELECT EXISTS (SELECT 1 FROM holdfast_journal WHERE seq < :edge)",
}


async def edge(store: Store) -> int:
    """A number behind which everything lies that is in the journal now; `is_behind` knows what became of that."""
    async with store.connect(write=True) as connection:
        return int((await connection.execute(text(EDGE[store.dialect]))).scalar_one())


async def is_behind(store: Store, edge: int) -> bool:
    """Whether nothing is left in the journal of what was there when `edge` was asked for."""
    async with store.connect() as connection:
        return not (await connection.execute(text(BEFORE[store.dialect]), {"edge": edge})).scalar_one()


async def prune(store: Store, epochs: Epochs, *, keep: float) -> int:
    """Remove what is older than `keep` seconds and was had by every durable follower.

    Returns how many slots were emptied (PostgreSQL) or rows deleted (SQLite).
    """
    link = Link(store)
    try:
        async with link.use() as connection:
            if store.dialect == "postgresql":
                return await _prune_slots(connection, keep)
            return await _prune_rows(connection, epochs, keep)
    finally:
        await link.close()


async def _prune_slots(connection: Any, keep: float) -> int:
    async with connection.transaction(isolation="read_committed"):
        if not await connection.fetchval(TRY_LOCK):
            return 0
        horizon = await connection.fetchval(HORIZON_POSTGRES, keep)
        if horizon is None or not await connection.fetchval(OLD_ENOUGH, keep):
            return 0
        # First: a reader that comes too late must learn it before its rows are gone.
        await connection.execute(FORGET_TICKS, horizon)
    current = await connection.fetchrow(CURRENT)
    emptied = 0
    for slot in range(SLOTS):
        if slot != current["slot"]:
            emptied += await _empty(connection, slot, horizon)
    following = (current["slot"] + 1) % SLOTS
    is_used = await connection.fetchval(f"SELECT EXISTS (SELECT FROM holdfast_journal_{current['slot']})")  # noqa: S608
    is_free = not await connection.fetchval(f"SELECT EXISTS (SELECT FROM holdfast_journal_{following})")  # noqa: S608
    if is_used and is_free and current["age"] >= keep / 2:
        await connection.execute(ROTATE, following, current["slot"])
    return emptied


async def _empty(connection: Any, slot: int, horizon: int) -> int:
    """Truncate a slot whose rows are all behind the horizon; 1 when it was done."""
    import asyncpg

    if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM holdfast_journal_{slot})"):  # noqa: S608
        return 0
    for _ in range(5):
        try:
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(f"LOCK TABLE holdfast_journal_{slot} IN ACCESS EXCLUSIVE MODE NOWAIT")
                if await connection.fetchval(STILL_NEEDED.format(slot=slot), horizon):
                    return 0
                await connection.execute(f"TRUNCATE holdfast_journal_{slot}")
                return 1
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(0.05)  # somebody reads or still writes there; next time will do as well
    return 0


async def _prune_rows(connection: Any, epochs: Epochs, keep: float) -> int:
    [(first, last)] = await connection.execute_fetchall(ENDS_SQLITE)
    if first is None:
        return 0
    [(slowest,)] = await connection.execute_fetchall(SLOWEST_SQLITE)
    horizon = await _last_older_than(connection, first, last, keep)
    horizon = min(horizon, last - 1, last if slowest is None else slowest)
    if horizon < first:
        return 0
    if epochs.witness is not None:
        # The row that the witness remembers must stay.
        [row] = await connection.execute_fetchall(ROW_SQLITE, (last,))
        epochs.witness.saw(epochs.identity, last, row)
    deleted = 0
    for end in range(first + CHUNK - 1, horizon + CHUNK, CHUNK):
        end = min(end, horizon)
        await connection.execute("BEGIN IMMEDIATE")
        try:
            await connection.execute("UPDATE holdfast_epoch SET edge = max(edge, ?)", (end,))
            deleted += (await connection.execute("DELETE FROM holdfast_journal WHERE seq <= ?", (end,))).rowcount
            await connection.execute("COMMIT")
        except BaseException:
            await connection.execute("ROLLBACK")
            raise
        await asyncio.sleep(0.01)  # let a writer in
    return deleted


async def _last_older_than(connection: Any, first: int, last: int, keep: float) -> int:
    """The last change older than `keep` seconds: times follow numbers closely enough to look by halving."""
    [(limit,)] = await connection.execute_fetchall("SELECT julianday('now') - ?", (keep / 86_400,))
    low, high = first - 1, last
    while low < high:
        middle = (low + high + 1) // 2
        rows = list(
            await connection.execute_fetchall(
                "SELECT at FROM holdfast_journal WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
            )
        )
        if rows and rows[0][0] < limit:
            low = middle
        else:
            high = middle - 1
    return low


class Maintenance:
    """Prunes, and drops followers that lag too far, every `every` seconds until closed."""

    def __init__(self, store: Store, epochs: Epochs, *, keep: float, every: float) -> None:
        self._store, self._epochs, self._keep, self._every = store, epochs, keep, every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._forever())

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def once(self) -> None:
        """Drop dead followers, then prune."""
        await drop_laggards(self._store)
        await prune(self._store, self._epochs, keep=self._keep)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.once()
            except (HoldfastError, OSError) as error:
                log.info("pruning_failed", place=self._store.place, reason=str(error))
            except Exception:
                log.exception("pruning_failed", place=self._store.place)
