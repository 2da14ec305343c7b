"""The journal on PostgreSQL: batches between nested snapshots.

A tick is a snapshot; the batch of tick n is what snapshot n sees and n - 1 does not. Within a batch, seq is the
order in which rows were changed. A transaction that stays open delays nothing but itself. This is the way of
PgQ (https://wiki.postgresql.org/wiki/PGQ_Tutorial).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from holdfast.journal.changes import Change, Position
from holdfast.journal.epoch import Epochs
from holdfast.journal.feed import Page
from holdfast.journal.link import Link
from holdfast.journal.shapes import Shapes
from holdfast.store import Store

TICKS = 64  # batches that one statement reads at most: planning many small ones is paid once
WINDOW = 100_000  # rows of one huge batch whose order is fetched at a time
RUN = 1024  # numbers that a row of the journal takes

MAKE_TICK = "SELECT epoch, tick FROM holdfast_make_tick()"
PAGE = "SELECT tick, seq, shape, op, at, actor, request, body FROM holdfast_page($1, $2, $3, $4)"
ORDER = "SELECT xids, seqs FROM holdfast_order($1, $2, $3)"
ROWS = "SELECT tick, seq, shape, op, at, actor, request, body FROM holdfast_rows($1, $2, $3, $4)"
SHAPES = "SELECT id, definition FROM holdfast_shapes"


class PostgresFeed:
    """Reads the journal of a PostgreSQL database."""

    def __init__(self, store: Store, epochs: Epochs) -> None:
        self._link = Link(store)
        self._epochs = epochs
        self._shapes = Shapes("postgresql")
        self._windows: dict[int, _Window] = {}

    async def make_tick(self) -> Position:
        async with self._link.use() as connection:
            await self._epochs.check(connection, self._link.connections)
            [row] = await self._link.fetch(connection, MAKE_TICK)
            return Position(row["epoch"], row["tick"])

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        wanted = None if tables is None else list(tables)
        async with self._link.use() as connection:
            if after.seq:
                return await self._middle(connection, after, upto, wanted, limit)
            last = max(after.tick, min(upto.tick, after.tick + TICKS))
            rows = await self._link.fetch(connection, PAGE, after.tick, last, wanted, limit + 1)
            if _is_lost(rows.pop(), after):
                return Page([], upto, more=False, lost=True)
            changes = await self._decode(connection, rows[:limit], wanted)
            if len(rows) <= limit:
                return Page(changes, Position(after.epoch, last), more=last < upto.tick)
            cut = rows[limit - 1]
            return Page(changes, Position(after.epoch, cut["tick"] - 1, cut["seq"] + RUN - 1), more=True)

    def position_of(self, change: Change, epoch: int) -> Position:
        return Position(epoch, change.tick - 1, change.seq)

    async def close(self) -> None:
        await self._link.close()

    async def _middle(
        self, connection: Any, after: Position, upto: Position, tables: list[str] | None, limit: int
    ) -> Page:
        """A page from within a batch: by the order of its rows, of which a long stretch is fetched at a time."""
        tick = after.tick + 1
        first = after.seq - RUN + 2  # the row that holds number `seq` may have more behind it
        window = self._windows.get(tick)
        if window is None or not window.holds(first):
            [(xids, seqs)] = await self._link.fetch(connection, ORDER, tick, first, WINDOW)
            window = _Window(first, xids or [], seqs or [])
            # Few followers are inside of huge batches at a time.
            self._windows = {**dict(list(self._windows.items())[-3:]), tick: window}
        begin = bisect_right(window.seqs, first - 1)
        end = begin + limit
        xids, seqs = window.xids[begin:end], window.seqs[begin:end]
        rows = await self._link.fetch(connection, ROWS, tick, xids, seqs, tables)
        if _is_lost(rows.pop(), after):
            return Page([], upto, more=False, lost=True)
        changes = [c for c in await self._decode(connection, rows, tables) if c.seq > after.seq]
        if end >= len(window.seqs) and window.is_last:
            self._windows.pop(tick, None)
            return Page(changes, Position(after.epoch, tick), more=tick < upto.tick)
        return Page(changes, Position(after.epoch, after.tick, seqs[-1] + RUN - 1), more=True)

    async def _decode(self, connection: Any, rows: list[Any], tables: list[str] | None) -> list[Change]:
        changes: list[Change] = []
        read = self._shapes.changes
        for tick, seq, shape, op, at, actor, request, body in rows:
            if shape not in self._shapes:
                for number, definition in await self._link.fetch(connection, SHAPES):
                    self._shapes.add(number, definition)
            changes += read(shape, op.decode(), seq, tick, actor, request, at, body)
        if tables is None:
            return changes
        return [change for change in changes if change.table in tables]


class _Window:
    """The order of a stretch of one huge batch, from number `first` on."""

    def __init__(self, first: int, xids: list[int], seqs: list[int]) -> None:
        self.first, self.xids, self.seqs = first, xids, seqs
        self.is_last = len(seqs) < WINDOW

    def holds(self, first: int) -> bool:
        """Whether the row behind `first` is known from here."""
        return self.first <= first and (self.is_last or first <= self.seqs[-1])


def _is_lost(last: Any, after: Position) -> bool:
    """Whether the last row of a page says that what is behind `after` is not all there."""
    edge, epoch = last["tick"], last["seq"]
    return epoch != after.epoch or edge is None or after.tick < edge
