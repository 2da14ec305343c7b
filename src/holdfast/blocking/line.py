"""What crosses between a thread that calls and the loop: calls one way, and functions of the caller's the other way."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from holdfast.cache.plain import Reach, reached_by
from holdfast.cache.statistics import endpoint
from holdfast.errors import StoreError
from holdfast.store.current import Current, current, keeping


class Request:
    """One call, where its reads of the cache are counted, how it ended, and which units the thread has open then.

    Attributes:
        task: in which it is done.
        is_done: whether it has ended; its thread has what it asked for before that in line ahead of it.
        is_seen: whether its thread knows that it has.
    """

    __slots__ = (
        "current",
        "error",
        "is_done",
        "is_interrupted",
        "is_seen",
        "keeping",
        "place",
        "result",
        "task",
        "work",
    )

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self.work = work
        self.place = endpoint.get()
        self.keeping = keeping.get()
        self.result: Any = None
        self.error: BaseException | None = None
        self.current: Current | None = None
        self.task: asyncio.Task[Any] | None = None
        self.is_done = self.is_seen = self.is_interrupted = False


class Back:
    """The caller's function, which the loop had asked for, has returned."""

    __slots__ = ("error", "result")

    def __init__(self, error: Exception | None = None) -> None:
        self.result: Any = None
        self.error = error


class Errand:
    """A function of the caller's that the loop asks for, and what its thread asks for while it runs."""

    __slots__ = ("function", "into", "is_over")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.into: asyncio.Queue[Request | Back | None] = asyncio.Queue()
        self.is_over = False


class NotThere(Exception):
    """The thread that was asked for a function does not wait any more, and has not begun with it."""


class Line:
    """The calls of one thread: what it asks for goes in, and what has become of it comes out.

    Attributes:
        errands: the functions that the thread runs, the innermost last: what it asks for meanwhile is done in the task
            that had asked for that one. Only the thread itself looks at them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, own: Reach) -> None:
        self.loop = loop
        self.into: asyncio.Queue[Request | Back | None] = asyncio.Queue()
        self.out: queue.SimpleQueue[Request | Errand] = queue.SimpleQueue()
        self.errands: list[Errand] = []
        self._own = own
        self._task: asyncio.Task[Any] | None = None

    def put(self, message: Request | Back | None) -> None:
        """Ask for something, or give back what was asked for. For the thread itself."""
        self.send(message, self.errands[-1] if self.errands else None)

    def send(self, message: Request | Back | None, errand: Errand | None) -> None:
        """Put what belongs to an errand, or to none. For the thread itself."""
        self.loop.call_soon_threadsafe(self._take, message, errand)

    def _take(self, message: Request | Back | None, errand: Errand | None) -> None:
        if errand is None:
            self.into.put_nowait(message)
        elif not errand.is_over:
            errand.into.put_nowait(message)
        else:
            self._refuse(message)

    def _refuse(self, message: Request | Back | None) -> None:
        if isinstance(message, Request):
            message.error = StoreError("what had called this function was cancelled meanwhile, and the function too")
            message.is_done = True
            self.out.put(message)

    def begin(self) -> None:
        self._task = self.loop.create_task(self._begin())

    async def _begin(self) -> None:
        _line.set(self)
        reached_by.set(self._own)
        await self._serve(self.into)

    async def _serve(self, into: asyncio.Queue[Request | Back | None]) -> Back | None:
        """Do what is asked for, until the function that the caller was given returns, or the thread is gone."""
        while isinstance(message := await into.get(), Request):
            await self._do(message)
        return message

    async def _do(self, request: Request) -> None:
        task = request.task = asyncio.current_task()
        assert task is not None
        asking, place = _asking.set(request), endpoint.set(request.place)
        if request.keeping:
            keeping.set(True)  # in the line of a thread that loads apart, and does nothing else meanwhile
        try:
            request.result = await request.work()
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            request.error = error
        finally:
            _asking.reset(asking)
            endpoint.reset(place)
            if request.keeping:
                keeping.set(False)
        request.is_done = True
        if request.is_interrupted:
            task.uncancel()
        request.current = current.get()
        self.out.put(request)
        if task.cancelling() and isinstance(request.error, asyncio.CancelledError):
            raise request.error  # not the request is cancelled, but what had asked for the function that it is from

    def interrupt(self, request: Request) -> None:
        """Cancel `request` if it still runs."""
        if request.task is not None and not request.is_done and not request.is_interrupted:
            request.is_interrupted = True
            request.task.cancel()

    async def ask(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the thread that waits; what it asks for meanwhile is done here, in its own task."""
        errand = Errand(function)
        self.out.put(errand)
        try:
            back = await self._serve(errand.into)
        finally:
            errand.is_over = True
            while not errand.into.empty():
                self._refuse(errand.into.get_nowait())
        assert back is not None
        if back.error is not None:
            raise back.error
        return back.result

    def run(self, errand: Errand) -> None:
        """Run what the loop asks for. For the thread itself."""
        if errand.is_over:
            return
        back = Back()
        self.errands.append(errand)
        try:
            back.result = errand.function()
        except Exception as error:  # noqa: BLE001  the work decides what it means
            back.error = error
        except BaseException:
            back.error = StoreError("the caller was interrupted")
            raise
        finally:
            self.errands.pop()
            self.send(back, errand)


_line: ContextVar[Line] = ContextVar("holdfast_blocking_line")
_asking: ContextVar[Request | None] = ContextVar("holdfast_blocking_request", default=None)


async def in_the_callers_thread(function: Callable[[], Any]) -> Any:
    """Call a plain function in the thread whose call this is.

    Raises:
        NotThere: that thread does not wait any more. Whatever the function raises.
    """
    request = _asking.get()
    if request is None or request.is_done:
        raise NotThere
    return await _line.get().ask(function)
