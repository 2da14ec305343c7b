"""Single flight: one load of a key at a time, shared by all who wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from holdfast.cache.loader import LoadFailed

T = TypeVar("T")

_within: ContextVar[tuple[asyncio.Task[Any], ...]] = ContextVar("holdfast_cache_within", default=())
"""The loads that the current task is a part of."""


def within(loads: Iterable[asyncio.Task[Any]]) -> None:
    """What this task asks for from now on is asked for by these loads: they cannot wait for one another."""
    _within.set((*_within.get(), *loads))


class Flights(Generic[T]):
    """The loads that are under way in this process, by key."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[asyncio.Task[T], float]] = {}
        self._all: set[asyncio.Task[T]] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def joined(self, key: str, load: Callable[[], Awaitable[T]], patience: float) -> tuple[asyncio.Task[T], bool]:
        """The load of `key` that is under way, or a new one; and whether it is new. It outlives those who wait.

        Args:
            patience: seconds after which one that is still under way is taken for hung, and a new one begins beside it.

        Raises:
            LoadFailed: it is asked for by the load itself.
        """
        task, since = self._tasks.get(key, (None, 0.0))
        now = time.monotonic()
        if task is not None and now - since < patience:
            if task in _within.get():
                raise LoadFailed(f"loading {key!r} asks for {key!r} itself, and would wait for ever")
            return task, False
        task = asyncio.create_task(self._fly(key, load), name=f"cache load {key}")
        self._tasks[key] = task, now
        self._all.add(task)
        task.add_done_callback(self._all.discard)
        # Where nobody waits for it any more, its failure was told to those who did.
        task.add_done_callback(_look_at)
        return task, True

    async def _fly(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        within([task])
        try:
            return await load()
        finally:
            if self._tasks.get(key, (None,))[0] is task:
                del self._tasks[key]

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._all)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_at(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
