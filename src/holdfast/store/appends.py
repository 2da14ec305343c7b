"""Buffered rows: lines of a log that nobody waits for, written many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Any, Self

from holdfast.errors import ConfigurationError, Conflict, HoldfastError, InvalidValue
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.store.cancellation import to_the_end
from holdfast.store.scope import ALL
from holdfast.store.store import Store

log = get_logger("holdfast.appends")

_BATCH = 5_000  # rows a transaction
_ACTOR = "appends"

Line = dict[str, Any]


class Appends:
    """Inserts rows of logs (requests, uses), in memory first; one statement a table writes what came.

    What was added is written every `interval` seconds, when `size` rows wait, and by `close`. A process that is killed
    loses what it had not written: at most one interval of it, while the database takes writes. A write that fails is
    put back, and written with what comes later: give each row its key, and one whose COMMIT was lost on the way is not
    written twice. A row that its table refuses (what it names is gone) costs itself only, and the log says so.
    `capacity` rows may wait while the database is away; beyond that new ones are dropped, counted in `dropped`.

    Attributes:
        waiting: rows that wait to be written.
        dropped: rows that were given up, for the log's reasons.

    Example::

        async with Appends(store) as appends:
            appends.add(UsageLog, id=uuid7(), endpoint="/v1/resources/books", status_code=200)
    """

    def __init__(self, store: Store, *, interval: float = 1.0, size: int = 5_000, capacity: int = 100_000) -> None:
        if not interval > 0 or not 0 < size <= capacity:
            raise ConfigurationError(
                f"rows are written every interval={interval!r} > 0 seconds and at size={size!r} rows, from 1 to"
                f" capacity={capacity!r}"
            )
        self._store, self._interval, self._size, self._capacity = store, interval, size, capacity
        self._lines: dict[type[Model], list[Line]] = {}
        self._lock = threading.Lock()  # rows are added from any thread
        self._writing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._regularly: asyncio.Task[None] | None = None
        self._closed = False
        self.waiting = 0
        self.dropped = 0

    def add(self, model: type[Model], **values: Any) -> None:
        """Insert a row soon. Costs no statement; callable from any thread. What is not given gets its default.

        Raises:
            ConfigurationError: this is closed.
        """
        if self._closed:
            raise ConfigurationError("these appends are closed; what is added now would never be written")
        with self._lock:
            if self.waiting >= self._capacity:
                self._drop(1, "full")
                return
            self._lines.setdefault(model, []).append(values)
            self.waiting += 1
            waiting = self.waiting
        if waiting == 1 or waiting == self._size:
            self._wake(waiting >= self._size)

    def start(self) -> None:
        """Begin to write regularly, in this event loop."""
        if self._regularly is None:
            self._loop = asyncio.get_running_loop()
            self._regularly = self._loop.create_task(self._forever(), name="appends")
            if self.waiting:
                self._some.set()

    async def flush(self) -> None:
        """Write what waits now.

        Raises:
            HoldfastError: it could not be written; it waits for the next time.
        """
        await to_the_end(self._flush())

    async def close(self) -> None:
        """Write what waits and end; what cannot be written is lost, and the log says how much."""
        self._closed = True
        regularly, self._regularly = self._regularly, None
        if regularly is not None:
            async with self._writing:  # not in the middle of a write
                regularly.cancel()
            await asyncio.gather(regularly, return_exceptions=True)
        try:
            await self.flush()
        except HoldfastError as error:
            with self._lock:
                lost, self.waiting, self._lines = self.waiting, 0, {}
            log.warning("appends_lost", rows=lost, reason=str(error))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _drop(self, rows: int, reason: str) -> None:
        if not self.dropped or self.dropped // 10_000 != (self.dropped + rows) // 10_000:
            log.warning("appends_dropped", rows=self.dropped + rows, reason=reason)
        self.dropped += rows

    def _wake(self, many: bool) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it is closed by now, and `close` has written
                self._loop.call_soon_threadsafe(self._many.set if many else self._some.set)

    async def _forever(self) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._many.wait()
            self._some.clear()
            self._many.clear()
            try:
                await self._flush()
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                log.warning("appends_wait", rows=self.waiting, reason=str(error))
                await asyncio.sleep(self._interval)
            if self.waiting:
                self._some.set()

    async def _flush(self) -> None:
        async with self._writing:
            with self._lock:
                taken, self._lines, self.waiting = self._lines, {}, 0
            problem: Exception | None = None
            for model, lines in taken.items():
                for start in range(0, len(lines), _BATCH):
                    part = lines[start : start + _BATCH]
                    try:
                        await self._write(model, part)
                    except Exception as error:  # noqa: BLE001  the other tables have nothing to do with it
                        self._put_back(model, part)
                        problem = error
            if problem is not None:
                raise problem

    async def _write(self, model: type[Model], lines: list[Line]) -> None:
        """Write `lines` in one unit, and where the table refuses one of them, the halves for themselves."""
        try:
            async with self._store.unit(actor=_ACTOR, tenant=ALL) as unit:
                await unit[model].add_many(lines)
        except (InvalidValue, Conflict) as error:
            if len(lines) == 1:
                self._drop(1, f"{model.__name__}: {error}")
                return
            half = len(lines) // 2
            for part in (lines[:half], lines[half:]):
                try:
                    await self._write(model, part)
                except Exception as again:  # noqa: BLE001
                    # The other half may be written: only this one is put back.
                    self._put_back(model, part)
                    log.warning("appends_wait", rows=len(part), reason=str(again))

    def _put_back(self, model: type[Model], lines: list[Line]) -> None:
        with self._lock:
            self._lines[model] = lines + self._lines.get(model, [])
            self.waiting += len(lines)
