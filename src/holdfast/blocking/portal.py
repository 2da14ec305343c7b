"""The event loop behind the blocking face: one thread a process, and one task a thread that calls.

All calls of a thread run in the same task, one after the other, so that a rule about tasks ("this task has a unit open
already") is the same rule about threads, and what is entered in one call may be left in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from holdfast.cache.loader import Load
from holdfast.cache.plain import reached_by
from holdfast.cache.statistics import endpoint
from holdfast.errors import StoreError
from holdfast.store.current import NOTHING, Current, current

T = TypeVar("T")

_WORKERS = 32  # threads for functions that no caller waits for, at most
_INTERRUPTED = 15.0  # seconds that an interrupted call has to end: a COMMIT under way is waited for


class _Request:
    """One call, where its reads of the cache are counted, how it ended, and which units the thread has open then.

    Attributes:
        task: in which it is done.
        is_done: whether it has ended; its thread has what it asked for before that in line ahead of it.
        is_seen: whether its thread knows that it has.
    """

    __slots__ = ("current", "error", "is_done", "is_interrupted", "is_seen", "place", "result", "task", "work")

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self.work = work
        self.place = endpoint.get()
        self.result: Any = None
        self.error: BaseException | None = None
        self.current: Current | None = None
        self.task: asyncio.Task[Any] | None = None
        self.is_done = self.is_seen = self.is_interrupted = False


class _Back:
    """The caller's function, which the loop had asked for, has returned."""

    __slots__ = ("error", "result")

    def __init__(self, error: Exception | None = None) -> None:
        self.result: Any = None
        self.error = error


class _Errand:
    """A function of the caller's that the loop asks for, and what its thread asks for while it runs."""

    __slots__ = ("function", "into", "is_over")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.into: asyncio.Queue[_Request | _Back | None] = asyncio.Queue()
        self.is_over = False


class NotThere(Exception):
    """The thread that was asked for a function does not wait any more, and has not begun with it."""


class _Line:
    """The calls of one thread: what it asks for goes in, and what has become of it comes out.

    Attributes:
        errands: the functions that the thread runs, the innermost last: what it asks for meanwhile is done in the task
            that had asked for that one. Only the thread itself looks at them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, own: Portal) -> None:
        self.loop = loop
        self.into: asyncio.Queue[_Request | _Back | None] = asyncio.Queue()
        self.out: queue.SimpleQueue[_Request | _Errand] = queue.SimpleQueue()
        self.errands: list[_Errand] = []
        self._own = own
        self._task: asyncio.Task[Any] | None = None

    def put(self, message: _Request | _Back | None) -> None:
        """Ask for something, or give back what was asked for. For the thread itself."""
        self.send(message, self.errands[-1] if self.errands else None)

    def send(self, message: _Request | _Back | None, errand: _Errand | None) -> None:
        """Put what belongs to an errand, or to none. For the thread itself."""
        self.loop.call_soon_threadsafe(self._take, message, errand)

    def _take(self, message: _Request | _Back | None, errand: _Errand | None) -> None:
        if errand is None:
            self.into.put_nowait(message)
        elif not errand.is_over:
            errand.into.put_nowait(message)
        else:
            self._refuse(message)

    def _refuse(self, message: _Request | _Back | None) -> None:
        if isinstance(message, _Request):
            message.error = StoreError("what had called this function was cancelled meanwhile, and the function too")
            message.is_done = True
            self.out.put(message)

    def begin(self) -> None:
        self._task = self.loop.create_task(self._begin())

    async def _begin(self) -> None:
        _line.set(self)
        reached_by.set(self._own)
        await self._serve(self.into)

    async def _serve(self, into: asyncio.Queue[_Request | _Back | None]) -> _Back | None:
        """Do what is asked for, until the function that the caller was given returns, or the thread is gone."""
        while isinstance(message := await into.get(), _Request):
            await self._do(message)
        return message

    async def _do(self, request: _Request) -> None:
        task = request.task = asyncio.current_task()
        assert task is not None
        asking, place = _asking.set(request), endpoint.set(request.place)
        try:
            request.result = await request.work()
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
            request.error = error
        finally:
            _asking.reset(asking)
            endpoint.reset(place)
        request.is_done = True
        if request.is_interrupted:
            task.uncancel()
        request.current = current.get()
        self.out.put(request)
        if task.cancelling() and isinstance(request.error, asyncio.CancelledError):
            raise request.error  # not the request is cancelled, but what had asked for the function that it is from

    def interrupt(self, request: _Request) -> None:
        """Cancel `request` if it still runs."""
        if request.task is not None and not request.is_done and not request.is_interrupted:
            request.is_interrupted = True
            request.task.cancel()

    async def ask(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the thread that waits; what it asks for meanwhile is done here, in its own task."""
        errand = _Errand(function)
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

    def run(self, errand: _Errand) -> None:
        """Run what the loop asks for. For the thread itself."""
        if errand.is_over:
            return
        back = _Back()
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


_line: ContextVar[_Line] = ContextVar("holdfast_blocking_line")
_asking: ContextVar[_Request | None] = ContextVar("holdfast_blocking_request", default=None)


async def in_the_callers_thread(function: Callable[[], Any]) -> Any:
    """Call a plain function in the thread whose call this is.

    Raises:
        NotThere: that thread does not wait any more. Whatever the function raises.
    """
    request = _asking.get()
    if request is None or request.is_done:
        raise NotThere
    return await _line.get().ask(function)


class _Handle:
    """What a thread holds of its line; gone with the thread."""

    __slots__ = ("__weakref__", "line")

    def __init__(self, line: _Line) -> None:
        self.line = line


class Portal:
    """One event loop in a thread of its own, for one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="holdfast", daemon=True)
        self._local = threading.local()
        self._workers = ThreadPoolExecutor(_WORKERS, "holdfast load")
        self._thread.start()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work()` on the loop and return what it gives; what it raises is raised here.

        KeyboardInterrupt, and whatever else a signal raises here meanwhile, cancels the work, waits for its end and
        goes on.

        Raises:
            StoreError: this is a forked process, or a thread that runs an event loop itself.
        """
        self.check()
        line = self._mine()
        request = _Request(work)
        line.put(request)
        try:
            self._wait(line, request)
        except BaseException:
            line.loop.call_soon_threadsafe(line.interrupt, request)
            self._settle(line, request)
            raise
        finally:
            # What the thread may take without asking the loop depends on the units that it has.
            if request.current is not current.get():
                current.set(request.current)
        if request.error is not None:
            try:
                raise request.error
            finally:
                request.error = None  # else the traceback, which leads here, would hold itself
        result: T = request.result
        return result

    def check(self) -> None:
        """Raise `StoreError` where a call cannot be."""
        if os.getpid() != self.pid:
            raise StoreError(
                "this was opened before the process forked, and connections cannot be shared with the parent;"
                " open units after the fork (Holdfast.blocking(…) itself may be made before it)"
            )
        if asyncio._get_running_loop() is not None:
            raise StoreError(
                "the blocking face was called inside a running event loop, which it would bring to a halt; use"
                " `await Holdfast.open(…)` there, or call it in a thread: await asyncio.to_thread(…)"
            )

    def loader(self, function: Callable[..., Any], *, apart: bool = False) -> Callable[..., Awaitable[Any]]:
        """A plain function that loads values, as the cache calls one.

        It runs in the thread of the caller that waits for the value. Where none waits, or one that may leave before the
        end, it runs in a thread of its own, in which no unit is open.

        Args:
            apart: it is to run in a thread of its own anyway.
        """
        context = copy_context()

        async def load(*given: Any) -> Any:
            if not apart and not _may_be_left(given):
                with contextlib.suppress(NotThere):
                    return await in_the_callers_thread(lambda: function(*given))
            work = partial(context.copy().run, _alone, function, *given)
            return await asyncio.get_running_loop().run_in_executor(self._workers, work)

        return load

    def _wait(self, line: _Line, request: _Request) -> None:
        while not request.is_seen:
            message = line.out.get()
            if isinstance(message, _Request):
                message.is_seen = True  # another one was interrupted, or left by what waits further out
            else:
                line.run(message)

    def _settle(self, line: _Line, request: _Request) -> None:
        """Wait until an interrupted call has ended."""
        with contextlib.suppress(queue.Empty):
            while not request.is_seen:
                message = line.out.get(timeout=_INTERRUPTED)
                if isinstance(message, _Request):
                    message.is_seen = True
                else:
                    line.send(_Back(NotThere("the caller was interrupted")), message)

    def _mine(self) -> _Line:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            line = _Line(self._loop, self)
            self._loop.call_soon_threadsafe(line.begin)
            handle = self._local.handle = _Handle(line)
            weakref.finalize(handle, line.put, None).atexit = False
        return handle.line

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


def _may_be_left(given: tuple[Any, ...]) -> bool:
    """Whether who waits for a load may go on before its end, though a plain function cannot be stopped.

    A unit belongs to its thread: with one open there the load is not moved, and who waits is told late.
    """
    load = given[0] if given else None
    if not isinstance(load, Load) or any(unit.is_open for unit in (current.get() or NOTHING).units):
        return False
    options = load.options
    return options.hard_timeout is not None or (load.has_older and options.soft_timeout is not None)


def _alone(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function as one that nobody waits for: in no unit, and counted for no endpoint."""
    current.set(None)
    endpoint.set(None)
    return function(*given)


_portal: Portal | None = None
_making = threading.Lock()


def portal() -> Portal:
    """The portal of this process, made when it is first asked for."""
    global _portal
    with _making:
        if _portal is None or _portal.pid != os.getpid():
            _portal = Portal()
        return _portal


def _forget() -> None:
    """In a forked child: the thread is not here, and another one may have held the lock."""
    global _portal, _making
    if _portal is not None:
        _inherited.append(_portal)
    _portal, _making = None, threading.Lock()


_inherited: list[Any] = []  # of the parent: never used, and never closed either, for the sockets are the parent's

os.register_at_fork(after_in_child=_forget)
