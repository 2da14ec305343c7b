"""A look-up whose answer is good for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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
