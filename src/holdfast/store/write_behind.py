"""Writing behind: what is kept in memory first, and written many rows at a time by a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from holdfast.errors import ConfigurationError, Conflict, HoldfastError, InvalidValue
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.store.cancellation import to_the_end
from holdfast.store.failures import is_connection_loss
from holdfast.store.scope import ALL
from holdfast.store.store import Store
from holdfast.store.unit import Unit

R = TypeVar("R")

_BATCH = 5_000  # rows a transaction


class WriteBehind(Generic[R]):
    """Writes what waits every `interval` seconds, when `size` rows wait, and by `close`.

    A subclass says what waits: `waiting`, `_take`, `_put_back`; and how it is written: `_send`. It takes what comes
    under `_lock`, refuses it once `_closed`, `_drop`s what is more than `_capacity`, and tells `_came`.

    Attributes:
        dropped: rows that were given up, for the log's reasons.
    """

    _name: ClassVar[str]  # in the log's events, as the actor, of the task
    _counted: ClassVar[str] = "rows"  # what is dropped, for the log
    _may_write_twice: ClassVar[bool]  # what a COMMIT may have kept whose outcome nobody knows

    def __init__(self, store: Store, *, interval: float = 1.0, size: int = 5_000, capacity: int = 100_000) -> None:
        if not interval > 0 or not 0 < size <= capacity:
            raise ConfigurationError(
                f"{self._name} are written every interval={interval!r} > 0 seconds and at size={size!r} rows, from 1 to"
                f" capacity={capacity!r}"
            )
        self._store, self._interval, self._size, self._capacity = store, interval, size, capacity
        self._lock = threading.Lock()  # it comes from any thread
        self._writing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._regularly: asyncio.Task[None] | None = None
        self._closed = False
        self._log = get_logger(f"holdfast.{self._name}")
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        raise NotImplementedError

    def _take(self) -> dict[type[Model], list[R]]:
        """All that waits, which waits no more. Called under the lock."""
        raise NotImplementedError

    def _put_back(self, model: type[Model], rows: list[R]) -> None:
        """Let what was taken wait again, before what has come since. Called under the lock."""
        raise NotImplementedError

    async def _send(self, unit: Unit, model: type[Model], rows: list[R]) -> int:
        """Write rows in a unit; returns how many there were to write."""
        raise NotImplementedError

    def _missed(self, model: type[Model], rows: int) -> None:
        """Told, after COMMIT, how many rows were not there to be written."""

    def start(self) -> None:
        """Begin to write regularly, in this event loop."""
        if self._regularly is None:
            self._loop = asyncio.get_running_loop()
            self._regularly = self._loop.create_task(self._forever(), name=self._name)
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
                lost = self.waiting
                self._take()
            self._log.warning(f"{self._name}_lost", rows=lost, reason=str(error))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _came(self, waiting: int) -> None:
        """Wake the writer for the first row that waits, and for the one with which they are many."""
        if waiting not in (1, self._size):  # to wake costs a system call
            return
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it is closed by now, and `close` has written
                self._loop.call_soon_threadsafe((self._many if waiting >= self._size else self._some).set)

    def _drop(self, rows: int, reason: str) -> None:
        if not self.dropped or self.dropped // 10_000 != (self.dropped + rows) // 10_000:
            said: dict[str, Any] = {self._counted: self.dropped + rows}
            self._log.warning(f"{self._name}_dropped", reason=reason, **said)
        self.dropped += rows

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
                self._log.warning(f"{self._name}_wait", rows=self.waiting, reason=str(error))
                await asyncio.sleep(self._interval)
            if self.waiting:
                self._some.set()

    async def _flush(self) -> None:
        async with self._writing:
            with self._lock:
                taken = self._take()
            problem: Exception | None = None
            for model, rows in taken.items():
                for start in range(0, len(rows), _BATCH):
                    part = rows[start : start + _BATCH]
                    try:
                        await self._write(model, part)
                    except Exception as error:  # noqa: BLE001  the other tables have nothing to do with it
                        with self._lock:
                            self._put_back(model, part)
                        problem = error
            if problem is not None:
                raise problem

    async def _write(self, model: type[Model], rows: list[R]) -> None:
        """Write `rows` in one unit, and where the table refuses one of them, the halves for themselves.

        What is raised says that they are to be written again.
        """
        complete = False
        try:
            async with self._store.unit(actor=self._name, tenant=ALL) as unit:
                written = await self._send(unit, model, rows)
                complete = True
        except (InvalidValue, Conflict) as error:
            if len(rows) == 1:
                self._drop(1, f"{model.__name__}: {error}")
                return
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                try:
                    await self._write(model, part)
                except Exception as again:  # noqa: BLE001
                    # The other half may be written: only this one is put back.
                    with self._lock:
                        self._put_back(model, part)
                    self._log.warning(f"{self._name}_wait", rows=len(part), reason=str(again))
            return
        except Exception as error:
            if complete and not self._may_write_twice and is_connection_loss(error):
                self._drop(len(rows), "the connection was lost during COMMIT")
                return
            raise
        if written < len(rows):
            self._missed(model, len(rows) - written)
