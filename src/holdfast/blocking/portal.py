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
from contextvars import ContextVar
from typing import Any, TypeVar

from holdfast.cache.statistics import endpoint
from holdfast.errors import StoreError
from holdfast.store.current import Current, current

T = TypeVar("T")

_INTERRUPTED = 15.0  # seconds that an interrupted call has to end: a COMMIT under way is waited for


class _Request:
    """One call, where its reads of the cache are counted, how it ended, and which units the thread has open then."""

    __slots__ = ("current", "error", "place", "result", "work")

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self.work = work
        self.place = endpoint.get()
        self.result: Any = None
        self.error: BaseException | None = None
        self.current: Current | None = None


class _Back:
    """The caller's function, which the loop had asked for, has returned."""

    __slots__ = ("error", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self.error: Exception | None = None


class _Line:
    """The calls of one thread: what it asks for goes in, and what has become of it comes out."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.into: asyncio.Queue[_Request | _Back | None] = asyncio.Queue()
        self.out: queue.SimpleQueue[_Request | Callable[[], Any]] = queue.SimpleQueue()
        self.current: list[_Request] = []
        self.task: asyncio.Task[Any] | None = None

    def put(self, message: _Request | _Back | None) -> None:
        self.loop.call_soon_threadsafe(self.into.put_nowait, message)

    def begin(self) -> None:
        self.task = self.loop.create_task(self._serve())

    async def _serve(self) -> _Back | None:
        """Do what is asked for, until the function that the caller was given returns, or the thread is gone."""
        _line.set(self)
        while True:
            try:
                message = await self.into.get()
            except asyncio.CancelledError:  # of a call that had just ended
                assert self.task is not None
                self.task.uncancel()
                continue
            if not isinstance(message, _Request):
                return message
            self.current.append(message)
            endpoint.set(message.place)
            try:
                message.result = await message.work()
            except BaseException as error:  # noqa: BLE001  whatever it is, it is the caller's
                message.error = error
                assert self.task is not None
                while isinstance(error, asyncio.CancelledError) and self.task.cancelling():
                    self.task.uncancel()
            self.current.pop()
            message.current = current.get()
            self.out.put(message)

    def interrupt(self, request: _Request) -> None:
        """Cancel `request` if it still runs."""
        if self.current and self.current[-1] is request and self.task is not None:
            self.task.cancel()

    async def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` in the thread that waits; what it asks for meanwhile is done here, in its own task."""
        self.out.put(lambda: function(*arguments))
        back = await self._serve()
        assert back is not None
        if back.error is not None:
            raise back.error
        return back.result


_line: ContextVar[_Line] = ContextVar("holdfast_blocking_line")


async def in_the_callers_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plain function in the thread whose call this is.

    Raises:
        Whatever the function raises.
    """
    return await _line.get().ask(function, *arguments)


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

    def _wait(self, line: _Line, request: _Request) -> None:
        while True:
            message = line.out.get()
            if message is request:
                return
            if isinstance(message, _Request):
                continue  # one that was interrupted, and ended late
            back = _Back()
            try:
                back.result = message()
            except Exception as error:  # noqa: BLE001  the work decides what it means
                back.error = error
            except BaseException:
                back.error = StoreError("the caller was interrupted")
                line.put(back)
                raise
            line.put(back)

    def _settle(self, line: _Line, request: _Request) -> None:
        """Wait until an interrupted call has ended."""
        with contextlib.suppress(queue.Empty):
            while (message := line.out.get(timeout=_INTERRUPTED)) is not request:
                if not isinstance(message, _Request):
                    back = _Back()
                    back.error = StoreError("the caller was interrupted")
                    line.put(back)

    def _mine(self) -> _Line:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            line = _Line(self._loop)
            self._loop.call_soon_threadsafe(line.begin)
            handle = self._local.handle = _Handle(line)
            weakref.finalize(handle, line.put, None).atexit = False
        return handle.line

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


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
