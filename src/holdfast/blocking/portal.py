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
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from holdfast.blocking.line import Back, Line, NotThere, Request, in_the_callers_thread
from holdfast.cache.loader import Load
from holdfast.cache.statistics import endpoint
from holdfast.errors import StoreError
from holdfast.store.current import NOTHING, current, keeping

T = TypeVar("T")

_WORKERS = 32  # threads for functions that no caller waits for, at most
_INTERRUPTED = 15.0  # seconds that an interrupted call has to end: a COMMIT under way is waited for


class _Handle:
    """What a thread holds of its line; gone with the thread."""

    __slots__ = ("__weakref__", "line")

    def __init__(self, line: Line) -> None:
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
        request = Request(work)
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

    def _wait(self, line: Line, request: Request) -> None:
        while not request.is_seen:
            message = line.out.get()
            if isinstance(message, Request):
                message.is_seen = True  # another one was interrupted, or left by what waits further out
            else:
                line.run(message)

    def _settle(self, line: Line, request: Request) -> None:
        """Wait until an interrupted call has ended."""
        with contextlib.suppress(queue.Empty):
            while not request.is_seen:
                message = line.out.get(timeout=_INTERRUPTED)
                if isinstance(message, Request):
                    message.is_seen = True
                else:
                    line.send(Back(NotThere("the caller was interrupted")), message)

    def _mine(self) -> Line:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            line = Line(self._loop, self)
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
    keeping.set(True)
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
