"""A worker: asks its sources for due work, and does some of it at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from holdfast.errors import HoldfastError
from holdfast.logs import get_logger

log = get_logger("holdfast.work")

Piece = Callable[[], Coroutine[Any, Any, None]]
"""One piece of work that was taken: called, it is done to its end and recorded."""

_LONGEST_NAP = 2.0  # seconds: what was added, resumed or left behind meanwhile is seen after this long
_LONGEST_PAUSE = 30.0  # seconds between two attempts while the database is gone


class Source(Protocol):
    """Where due work comes from: schedules, and whatever else learns to be due."""

    async def take(self, room: int) -> Sequence[Piece]:
        """Take up to `room` pieces that are due, so that no other worker does; [] when there are none."""
        ...

    async def wait(self) -> float | None:
        """Seconds until something may be due; None when this source does not know."""
        ...


class Worker:
    """Runs due work of `sources` in this process, `concurrency` pieces at a time.

    Any number of workers may run in any number of processes: a source gives a piece to one of them.
    """

    def __init__(self, sources: Sequence[Source], *, concurrency: int = 4) -> None:
        self._sources = tuple(sources)
        self._concurrency = concurrency
        self._running: set[asyncio.Task[None]] = set()

    async def once(self) -> None:
        """Do what is due until nothing is, then return."""
        try:
            while await self._take() or self._running:
                await self._one_ended(None)
        finally:
            await self._stop(0.0)

    async def run(self, *, drain: float = 10.0) -> None:
        """Work until cancelled; what runs then has `drain` seconds to end, and is cancelled after them.

        A database that is gone is waited for.
        """
        failures = 0
        try:
            while True:
                try:
                    await self._take()
                    nap = await self._nap()
                    failures = 0
                except HoldfastError as error:
                    log.warning("worker_waits", reason=str(error), failures=failures)
                    nap = random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 0.5 * 2 ** min(failures, 10))
                    failures += 1
                await self._one_ended(nap)
        finally:
            await self._stop(drain)

    async def _take(self) -> bool:
        taken = False
        for source in self._sources:
            room = self._concurrency - len(self._running)
            if room <= 0:
                break
            for piece in await source.take(room):
                self._running.add(asyncio.create_task(piece()))
                taken = True
        return taken

    async def _nap(self) -> float:
        if len(self._running) >= self._concurrency:
            return _LONGEST_NAP
        waits = [wait for source in self._sources if (wait := await source.wait()) is not None]
        # A little more than none at all, where another worker is faster than this one.
        return min([_LONGEST_NAP, *(max(wait, 0.02) for wait in waits)])

    async def _one_ended(self, seconds: float | None) -> None:
        """Return when a piece has ended, or after `seconds`."""
        if not self._running:
            await asyncio.sleep(seconds or 0)
            return
        done, _ = await asyncio.wait(self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self._look_at(done)

    async def _stop(self, drain: float) -> None:
        running = set(self._running)
        if not running:
            return
        try:
            if drain:
                await asyncio.wait(running, timeout=drain)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._running -= running

    def _look_at(self, done: set[asyncio.Task[None]]) -> None:
        self._running -= done
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                # A piece records its own failures: this is that it could not. Its lease ends by itself.
                log.warning("work_not_recorded", reason=str(error) if isinstance(error, HoldfastError) else repr(error))
