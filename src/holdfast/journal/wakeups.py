"""Telling followers that something was committed: at once in this process, soon in others.

Only a hint: whoever misses one finds the change at the next poll.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.journal")

CHANNEL = "holdfast_journal"
DEBOUNCE = 0.003  # seconds between two notifications of one process
FILE_POLL = 0.025  # seconds between two looks at a SQLite file; each costs some microseconds
FILE_PAUSE = 1.0  # seconds between two readings of a SQLite journal when those looks find nothing

# NOTIFY alone would wait for the disk: the notification itself need not survive a crash.
NOTIFY = f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', '')"


class Waiter:
    """One follower's ear."""

    def __init__(self, pause: float) -> None:
        self._event = asyncio.Event()
        self._pause = pause

    def clear(self) -> None:
        """Forget what was heard; call before looking, so that what comes while looking is not missed."""
        self._event.clear()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, at_most: float | None = None) -> None:
        """Return when woken; else when it is time to look for what nobody told of, or after `at_most` seconds."""
        pause = self._pause * random.uniform(0.8, 1.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause if at_most is None else min(pause, at_most)):
                await self._event.wait()


class Wakeups:
    """The waiters of this process, and its line to the others. `data_version` is given on SQLite files."""

    def __init__(self, store: Store, data_version: Callable[[], Awaitable[int]] | None) -> None:
        self._store = store
        self._data_version = data_version
        self._waiters: set[Waiter] = set()
        self._to_tell = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def waiter(self) -> Waiter:
        """A new waiter, woken from now on; give it back with `forget`."""
        pause = self._store.settings.poll_interval
        waiter = Waiter(pause if self._data_version is None else max(pause, FILE_PAUSE))
        self._waiters.add(waiter)
        self._listen()
        return waiter

    def forget(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def committed(self) -> None:
        """A unit of this process was committed: wake everybody here, and soon in other processes."""
        self._wake_all()
        if self._store.dialect == "postgresql":
            self._to_tell.set()
            self._listen()

    async def close(self) -> None:
        """Tell what is still to be told, and stop."""
        self._closed = True
        if self._task is None:
            return
        if self._to_tell.is_set():
            await asyncio.sleep(2 * DEBOUNCE)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            waiter.wake()

    def _listen(self) -> None:
        if self._task is not None or self._closed:
            return
        if self._store.dialect == "postgresql":
            self._task = asyncio.create_task(self._forever(self._hear_postgres))
        elif self._data_version is not None:
            self._task = asyncio.create_task(self._forever(self._watch_file))

    async def _forever(self, listen: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await listen()
                failures = 0
            except Exception as error:  # noqa: BLE001  a hint that cannot be given now will be given later
                if failures == 0:
                    log.info("wakeups_interrupted", place=self._store.place, reason=str(error))
                failures += 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(5.0, 0.1 * 2**failures))

    async def _hear_postgres(self) -> None:
        """Listen and tell over one connection of our own, until it is lost."""
        async with self._store.raw() as connection:
            self._lost.clear()
            connection.add_termination_listener(lambda _: self._ended())
            if self._store.settings.pooler != "transaction":
                await connection.add_listener(CHANNEL, self._heard)
                self._wake_all()  # what was committed before we listened
            while not self._lost.is_set():
                await self._to_tell.wait()
                self._to_tell.clear()
                if not self._lost.is_set():
                    await connection.execute(NOTIFY)
                    await asyncio.sleep(DEBOUNCE)

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        if pid != connection.get_server_pid():
            self._wake_all()

    def _ended(self) -> None:
        self._lost.set()
        self._to_tell.set()

    async def _watch_file(self) -> None:
        assert self._data_version is not None
        seen, pause = -1, min(FILE_POLL, self._store.settings.poll_interval)
        while True:
            version = await self._data_version()
            if version != seen:
                seen = version
                self._wake_all()
            await asyncio.sleep(pause)
