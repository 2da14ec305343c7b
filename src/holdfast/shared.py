"""Look-ups that several callers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def is_cancelled() -> bool:
    """Whether the current task is being cancelled; else a CancelledError is of what it waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Coalesced(Generic[T]):
    """One look-up at a time for all who ask: whoever asks while one is under way shares the next.

    The one under way may have looked before what the asker knows of happened; the next begins after it.
    """

    def __init__(self, load: Callable[[], Awaitable[T]]) -> None:
        self._load = load
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """A value whose look-up began after this call."""
        if self._next is not None:  # also when the one before it is done, and it is about to begin
            asked = self._next
        elif self._running is None:
            asked = self._running = asyncio.create_task(self._run())
        else:
            asked = self._next = asyncio.create_task(self._run_after(self._running))
        # Its failure is of no interest once everybody who waited for it is gone.
        asked.add_done_callback(_look_at)
        return await asyncio.shield(asked)

    async def _run_after(self, earlier: asyncio.Task[T]) -> T:
        await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        return await self._run()

    async def _run(self) -> T:
        mine = asyncio.current_task()
        try:
            return await self._load()
        finally:
            if self._running is mine:
                self._running = None


class Kept(Generic[T]):
    """A value that is costly to look up, kept for some seconds; those who ask meanwhile share one look-up."""

    def __init__(self, load: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._load = load
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._until = 0.0

    async def get(self) -> T:
        """The value; an error is not kept."""
        async with self._lock:
            if self._value is None or time.monotonic() >= self._until:
                self._value = await self._load()
                self._until = time.monotonic() + self._seconds
            return self._value


def _look_at(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
