"""In which order values are warmed, how many in a second, and how many at a time."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from holdfast.cache.clock import boottime


class Turn:
    """Leave to load one value. It ends by itself after a while, so that a load that hangs holds up nobody."""

    __slots__ = ("_is_over", "_timer", "_turns")

    def __init__(self, turns: WarmingTurns, patience: float) -> None:
        self._turns = turns
        self._is_over = False
        self._timer = asyncio.get_running_loop().call_later(patience, self.end)

    def end(self) -> None:
        """Let the next one begin."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            self._turns.ended()


class WarmingTurns:
    """Gives turns to those who wait, the most important first.

    Args:
        per_second: turns that begin in a second at most.
        at_once: turns at a time.
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._pause = 1.0 / per_second
        self._free = at_once
        self._next = 0.0  # when the next one may begin
        self._waiting: list[tuple[int, int, int, float, asyncio.Future[Turn]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, priority: int, reads: int, *, patience: float) -> Turn:
        """A turn, before all who wait with a lower priority, or with the same and fewer reads.

        Args:
            patience: seconds after which it ends by itself.
        """
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, -reads, next(self._numbers), patience, future))
        self._give()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().end()
            raise

    def ended(self) -> None:
        """One who had a turn is done."""
        self._free += 1
        self._give()

    def _give(self) -> None:
        """Give turns as far as there are any, and come back when there may be more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._free:
            now = boottime()
            if now < self._next:
                self._timer = asyncio.get_running_loop().call_later(self._next - now, self._give)
                return
            *_, patience, future = heapq.heappop(self._waiting)
            if not future.done():  # who waited may have left
                self._free -= 1
                self._next = max(now, self._next) + self._pause
                future.set_result(Turn(self, patience))
