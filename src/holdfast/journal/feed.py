"""Reading the journal in the order of its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from holdfast.journal.changes import Change, Position


class Page(msgspec.Struct, frozen=True):
    """A part of the journal.

    Attributes:
        changes: in order, none twice.
        position: where to read on; behind the last change even if none was wanted.
        more: whether there is more up to the tick that was asked for.
        lost: the position that was asked for is of another epoch, or its changes are pruned: what was derived
            from them must be rebuilt. `position` is then where to read on afterwards.
    """

    changes: list[Change]
    position: Position
    more: bool
    lost: bool = False


class Feed(Protocol):
    """One database's journal, read over a connection of its own."""

    async def make_tick(self) -> Position:
        """Everything committed before the call is in the batches up to the position that is returned."""
        ...

    async def page(self, after: Position, upto: Position, tables: Sequence[str] | None, limit: int) -> Page:
        """What is after `after`, up to the tick of `upto`: at most `limit` rows of the journal.

        On PostgreSQL a row may hold up to 128 changes that one statement made.
        """
        ...

    def position_of(self, change: Change, epoch: int) -> Position:
        """Where to read on behind `change`."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...
