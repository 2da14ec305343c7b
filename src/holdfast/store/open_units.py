"""Which units are open: closing waits for them, and none waits for one that its own task holds."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.errors import StoreError, Unavailable


class OpenUnits:
    """The open units of the database at `place`.

    Attributes:
        count: how many there are.
        idle: set while there is none.
    """

    def __init__(self, place: str) -> None:
        self.count = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._place = place
        self._refusing = False
        self._alone: set[asyncio.Task[Any]] = set()

    def refuse(self) -> None:
        """Let no further unit begin."""
        self._refusing = True

    def one(self, *, alone: bool) -> _One:
        """A block in which one more is open; `alone` for one that takes the only connection there is.

        Raises:
            Unavailable: no further unit may begin. StoreError: this task has the only connection already.
        """
        return _One(self, alone=alone)

    def enter(self, task: asyncio.Task[Any] | None) -> None:
        """Count one more; `task` is the one that takes the only connection."""
        if self._refusing:
            raise Unavailable(f"{self._place} is being closed; no new unit begins")
        if task is not None:
            if task in self._alone:
                raise StoreError(
                    "this task has a unit open, and the second would wait for the first for ever;"
                    " use the first one, or `async with unit.savepoint()`"
                )
            self._alone.add(task)
        self.count += 1
        self.idle.clear()

    def leave(self, task: asyncio.Task[Any] | None) -> None:
        """Count one less."""
        if task is not None:
            self._alone.discard(task)
        self.count -= 1
        if not self.count:
            self.idle.set()


class _One:
    # A plain class, for the same reason as `Translated`.
    __slots__ = ("_task", "_units")

    def __init__(self, units: OpenUnits, *, alone: bool) -> None:
        self._units = units
        self._task = asyncio.current_task() if alone else None

    def __enter__(self) -> None:
        self._units.enter(self._task)

    def __exit__(self, *error: object) -> None:
        self._units.leave(self._task)
