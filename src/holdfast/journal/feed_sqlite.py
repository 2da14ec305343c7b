"""The journal on SQLite: one writer at a time, so numbers are handed out in commit order and a tick is a number."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from holdfast.journal.changes import Change, Position
from holdfast.journal.clock import JULIAN_OF_1970
from holdfast.journal.epoch import Epochs
from holdfast.journal.feed import Page
from holdfast.journal.link import Link
from holdfast.journal.shapes import Shapes
from holdfast.store import Store

LAST = """
    SELECT e.number, max(e.edge, coalesce((SELECT max(seq) FROM holdfast_journal), 0)) FROM holdfast_epoch e
"""

STATE = "SELECT number, edge FROM holdfast_epoch"

ROWS = """
    SELECT seq, shape, op, at, actor, request, body FROM holdfast_journal
    WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""

SHAPES = "SELECT id, tbl, definition FROM holdfast_shapes"


class SqliteFeed:
    """Reads the journal of a SQLite file, and keeps its witness."""

    def __init__(self, store: Store, epochs: Epochs) -> None:
        self._store = store
        self._link = Link(store)
        self._epochs = epochs
        self._shapes = Shapes("sqlite")
        self._tables: dict[int, str] = {}
        self._inode = 0

    async def make_tick(self) -> Position:
        await self._follow_file()
        async with self._link.use() as connection:
            await self._epochs.check(connection, self._link.connections)
            [(epoch, last)] = await connection.execute_fetchall(LAST)
            return Position(epoch, last)

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        async with self._link.use() as connection:
            # One snapshot for both: a page that was emptied by pruning cannot be taken for one without changes.
            await connection.execute("BEGIN")
            try:
                [(epoch, edge)] = await connection.execute_fetchall(STATE)
                rows = list(await connection.execute_fetchall(ROWS, (after.tick, upto.tick, limit)))
                if any(row[1] not in self._shapes for row in rows):
                    await self._learn(connection)
            finally:
                await connection.execute("COMMIT")
        if epoch != after.epoch or after.tick < edge:
            return Page([], upto, more=False, lost=True)
        if rows and self._epochs.witness is not None:
            self._epochs.witness.saw(self._epochs.identity, rows[-1][0], rows[-1])
        changes = self._decode(rows, tables)
        if len(rows) < limit:
            return Page(changes, Position(epoch, max(after.tick, upto.tick)), more=False)
        return Page(changes, Position(epoch, rows[-1][0]), more=rows[-1][0] < upto.tick)

    def position_of(self, change: Change, epoch: int) -> Position:
        return Position(epoch, change.seq)

    async def data_version(self) -> int:
        """A number that changes when another connection commits to the file."""
        async with self._link.use() as connection:
            [(version,)] = await connection.execute_fetchall("PRAGMA data_version")
            return int(version)

    async def close(self) -> None:
        await self._link.close()

    async def _follow_file(self) -> None:
        """Leave a file that was replaced: open connections would go on with the one that is no longer there."""
        witness = self._epochs.witness
        if witness is None:
            return
        inode = witness.inode()
        if self._inode not in (0, inode):
            await self._link.close()
            for engine in self._store.engines().values():
                await engine.dispose()
        self._inode = inode

    async def _learn(self, connection: Any) -> None:
        for number, table, definition in await connection.execute_fetchall(SHAPES):
            self._shapes.add(number, definition)
            self._tables[number] = table

    def _decode(self, rows: list[Any], tables: Sequence[str] | None) -> list[Change]:
        changes: list[Change] = []
        read, wanted = self._shapes.changes, None if tables is None else set(tables)
        for seq, shape, op, at, actor, request, body in rows:
            if wanted is not None and shape and self._tables.get(shape) not in wanted:
                continue
            when = dt.datetime.fromtimestamp((at - JULIAN_OF_1970) * 86_400, dt.UTC)
            changes += read(shape, op, seq, seq, actor, request, when, body)
        return changes if wanted is None else [change for change in changes if change.table in wanted]
