"""Single flight: one load of a key at a time, shared by all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """The loads that are under way in this process, by key."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def joined(self, key: str, load: Callable[[], Awaitable[T]]) -> tuple[asyncio.Task[T], bool]:
        """The load of `key` that is under way, or a new one; and whether it is new. It outlives those who wait."""
        task = self._tasks.get(key)
        if task is not None:
            return task, False
        task = self._tasks[key] = asyncio.create_task(self._fly(key, load), name=f"cache load {key}")
        # Where nobody waits for it any more, its failure was told to those who did.
        task.add_done_callback(_look_at)
        return task, True

    async def _fly(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        try:
            return await load()
        finally:
            del self._tasks[key]

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_at(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
