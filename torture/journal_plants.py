"""Faults that the checker must catch: feeds as they are usually written, and a context that is not cleared.

Nothing here touches the product: a planted feed is given to `Journal`, a planted hook to the writers' store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.journal import Change, Feed, Page, Position
from holdfast.journal import context as journal_context
from holdfast.journal.epoch import Epochs
from holdfast.journal.feed_postgres import RUN, PostgresFeed
from holdfast.store import Store

PLANTS: Mapping[str, str] = {
    "cursor-by-seq": "PostgreSQL: followers read what has a higher number than what they had",
    "cursor-by-time": "PostgreSQL: followers read what is later than what they had",
    "xmin-order": "PostgreSQL: followers read below the oldest open transaction, by (transaction, number)",
    "context-kept": "SQLite: the actor is not cleared before COMMIT",
}

COLUMNS = "seq, shape, op, at, actor, request, body"
EPOCH = "SELECT number FROM holdfast_epoch"
LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM holdfast_journal"
BY_SEQ = f"""
    SELECT seq AS tick, {COLUMNS} FROM holdfast_journal WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT 4
"""  # noqa: S608  constants
MICROSECONDS = "(extract(epoch FROM at) * 1000000)::bigint"
LAST_TIME = f"SELECT coalesce(max({MICROSECONDS}), 0) FROM holdfast_journal"  # noqa: S608
BY_TIME = f"""
    SELECT {MICROSECONDS} AS tick, {COLUMNS} FROM holdfast_journal
    WHERE {MICROSECONDS} > $1 AND {MICROSECONDS} <= $2 ORDER BY at, seq
"""  # noqa: S608
BELOW_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"
BY_XID = f"""
    SELECT xid AS tick, {COLUMNS} FROM holdfast_journal
    WHERE (xid, seq) > ($1, $2) AND xid <= $3 ORDER BY xid, seq LIMIT $4
"""  # noqa: S608
AFTER_ALL = 2**62


def planted_feed(plant: str | None, store: Store) -> Feed | None:
    """The feed that a follower gets instead of its own; None for its own."""
    feeds: dict[str, Callable[[Store, Epochs], Feed]] = {
        "cursor-by-seq": CursorBySeq,
        "cursor-by-time": CursorByTime,
        "xmin-order": XminOrder,
    }
    if plant not in feeds:
        return None
    return feeds[plant](store, Epochs(store))


def plant_in_writer(plant: str | None, store: Store) -> None:
    """Plant what is wrong with a writer; call it after `Journal(store)`."""
    if plant == "context-kept":
        store.hooks.before_commit.remove(journal_context.end)


class _Cursor(PostgresFeed, ABC):
    """A feed whose position is a cursor, kept in the position's tick."""

    last: str

    async def make_tick(self) -> Position:
        async with self._link.use() as connection:
            await self._epochs.check(connection, self._link.connections)
            epoch = await connection.fetchval(EPOCH)
            return Position(epoch, await connection.fetchval(self.last))

    async def _changes(self, connection: Any, rows: list[Any], tables: Sequence[str] | None) -> list[Change]:
        return await self._decode(connection, rows, None if tables is None else list(tables))

    @abstractmethod
    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page: ...

    def position_of(self, change: Change, epoch: int) -> Position:
        return Position(epoch, change.tick)


class CursorBySeq(_Cursor):
    """Loses what a transaction that was open for longer wrote: its numbers are behind the cursor."""

    last = LAST_SEQ

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        async with self._link.use() as connection:
            rows = await connection.fetch(BY_SEQ, after.tick, upto.tick)
            changes = await self._changes(connection, rows, tables)
        # Few rows a page: what is wrong is to be the cursor, not a batch that ends within a row.
        more = len(rows) == 4
        return Page(changes, Position(after.epoch, rows[-1]["tick"] if more else upto.tick), more=more)


class CursorByTime(_Cursor):
    """Loses the same, and what has the same time."""

    last = LAST_TIME

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        async with self._link.use() as connection:
            rows = await connection.fetch(BY_TIME, after.tick, upto.tick)
            changes = await self._changes(connection, rows, tables)
        return Page(changes, Position(after.epoch, upto.tick), more=False)


class XminOrder(_Cursor):
    """Loses nothing, but runs rows backwards: of two transactions, the later one may have written first."""

    last = BELOW_XMIN

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        async with self._link.use() as connection:
            # A row of the journal holds several changes; the one that the position is in comes again, and is cut.
            rows = await connection.fetch(BY_XID, after.tick, after.seq - RUN, upto.tick, limit)
            changes = await self._changes(connection, rows, tables)
        changes = [change for change in changes if (change.tick, change.seq) > (after.tick, after.seq)]
        if len(rows) < limit:
            return Page(changes, Position(after.epoch, max(after.tick, upto.tick), AFTER_ALL), more=False)
        return Page(changes, Position(after.epoch, rows[-1]["tick"], rows[-1]["seq"] + RUN - 1), more=True)

    def position_of(self, change: Change, epoch: int) -> Position:
        return Position(epoch, change.tick, change.seq)
