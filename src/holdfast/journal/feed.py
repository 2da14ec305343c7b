"""Reading the journal in the order of its ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

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


class SharedTick:
    """One `make_tick` at a time for all that ask: whoever asks while one is being made waits for the next.

    The tick under way may have looked before the asker's commit; the next one begins after it.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._running: asyncio.Task[Position] | None = None
        self._next: asyncio.Task[Position] | None = None

    async def make(self) -> Position:
        """A tick that began after this call."""
        if self._running is None:
            self._running = _watched(self._make())
            return await asyncio.shield(self._running)
        if self._next is None:
            self._next = _watched(self._make_after(self._running))
        return await asyncio.shield(self._next)

    async def _make_after(self, earlier: asyncio.Task[Position]) -> Position:
        await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        return await self._make()

    async def _make(self) -> Position:
        mine = asyncio.current_task()
        try:
            return await self._feed.make_tick()
        finally:
            if self._running is mine:
                self._running = None


def _watched(making: Coroutine[Any, Any, Position]) -> asyncio.Task[Position]:
    """A task whose failure is of no interest once everybody who waited for it is gone."""
    task = asyncio.create_task(making)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
