"""Denials, and what else happens often, gathered for a second on their way to the trail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from holdfast.errors import HoldfastError, InvalidValue
from holdfast.guard.audit.entries import Told
from holdfast.logs import get_logger

log = get_logger("holdfast.audit")

EVERY = 1.0  # seconds
MOST = 10_000  # different ones that wait

Write = Callable[[list[Told]], Awaitable[None]]


class Gathered:
    """Denials, and what else happens often, of one process. Equal ones of a second are one, with `times`.

    A process that is killed loses those of its last second.

    Args:
        write: puts them on record.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: dict[bytes, tuple[Told, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._dropped = 0
        self._closing = asyncio.Event()

    def add(self, told: Told) -> None:
        """Note one more; never waits."""
        key = msgspec.json.encode(told)
        known = self._waiting.get(key)
        if known is None and len(self._waiting) >= MOST:
            self._dropped += 1
        else:
            self._waiting[key] = told, 1 if known is None else known[1] + 1
        if self._task is None and (loop := _running_loop()) is not None:
            self._task = loop.create_task(self._later())

    async def flush(self) -> None:
        """Put on record what waits. What cannot be is kept for the next time."""
        waiting, self._waiting = self._waiting, {}
        dropped, self._dropped = self._dropped, 0
        if not waiting and not dropped:
            return
        told = [_times(one, count) for one, count in waiting.values()]
        if dropped:
            reason = f"more than {MOST:,} different ones within a second; these are on no record"
            told.append(Told(action="audit.dropped", outcome="failed", reason=reason, details={"times": dropped}))
        try:
            await self._write(told)
        except InvalidValue as error:  # it never will be
            log.error("records_lost", waiting=len(waiting), reason=str(error))
        except (HoldfastError, OSError) as error:
            log.warning("records_wait", waiting=len(waiting), reason=str(error))
            self._dropped += dropped
            for key, (one, count) in waiting.items():
                newer = self._waiting.get(key, (one, 0))[1]
                self._waiting[key] = one, count + newer

    async def close(self) -> None:
        """Put on record what waits, and stop."""
        self._closing.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    async def _later(self) -> None:
        try:
            while (self._waiting or self._dropped) and not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await self._closing.wait()
                await self.flush()
        finally:
            self._task = None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # of a plain function: it goes with the next, or at the end


def _times(told: Told, count: int) -> Told:
    return told if count == 1 else msgspec.structs.replace(told, details={**told.details, "times": count})
