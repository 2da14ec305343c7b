"""The blocking face of anything asynchronous, derived from it: nothing is written twice.

What a method returns decides: a coroutine is run to its end, an async context manager becomes a `with`, an async
iterator a `for`, and an object with such methods gets a face of its own. Everything else is passed on as it is; a
method that is no coroutine is a plain call, in the caller's thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Any

from holdfast.blocking.line import NotThere, in_the_callers_thread
from holdfast.blocking.portal import Portal
from holdfast.cache import Load, LoadMany
from holdfast.errors import StoreError
from holdfast.store import Unit

_FACED = ("holdfast.", "sqlalchemy.ext.asyncio")
_CHUNK = 200  # rows of a stream that cross at once
_CHUNKED = ("stream",)  # whose iterators end by themselves, so that waiting for more rows costs no time


class Blocking:
    """The blocking face of `target`.

    Args:
        thread: the thread to which it belongs; None where any may use it.
    """

    __slots__ = ("_portal", "_target", "_thread")

    def __init__(self, portal: Portal, target: Any, thread: int | None = None) -> None:
        self._portal = portal
        self._target = target
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._check_thread()
        value = getattr(self._target, name)
        return method(self._portal, value) if inspect.isroutine(value) else self._part(value)

    def __getitem__(self, key: Any) -> Any:
        self._check_thread()
        return self._part(self._target[key])

    def _part(self, value: Any) -> Any:
        part = faced(self._portal, value)
        if isinstance(part, Blocking):
            part._thread = self._thread
        return part

    def _check_thread(self) -> None:
        if self._thread is not None and self._thread != threading.get_ident():
            raise StoreError(
                "a unit belongs to the thread that opened it, and was used in another; open one there: with"
                " hold.unit(…), and pass what was read rather than the unit"
            )

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._target) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<blocking {self._target!r}>"


class Context:
    """An async context manager as a `with`."""

    def __init__(self, portal: Portal, manager: Any) -> None:
        self._portal, self._manager = portal, manager
        self._entered: Any = None

    def __enter__(self) -> Any:
        self._entered = faced(self._portal, self._portal.call(self._manager.__aenter__))
        return self._entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if isinstance(self._entered, Blocking):
            self._entered._check_thread()
        handled: bool | None = self._portal.call(lambda: self._manager.__aexit__(kind, error, trace))
        return handled


def faced(portal: Portal, value: Any, name: str = "") -> Any:
    """`value` as a blocking caller has it."""
    if inspect.iscoroutine(value):
        try:
            portal.check()
        except BaseException:
            value.close()
            raise
        return faced(portal, portal.call(lambda: value))
    if hasattr(value, "__anext__"):
        return iterate(portal, value, _CHUNK if name in _CHUNKED else 1)
    if is_faced(type(value)):  # type: ignore[arg-type]
        return Blocking(portal, value, threading.get_ident() if isinstance(value, Unit) else None)
    return Context(portal, value) if hasattr(value, "__aenter__") else value


def method(portal: Portal, function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of something asynchronous as a blocking caller calls it."""
    name = getattr(function, "__name__", "")
    called_back = _called_back(getattr(function, "__func__", function))

    def call(*arguments: Any, **named: Any) -> Any:
        given = [_given(portal, value, called_back) for value in arguments]
        named = {key: _given(portal, value, called_back) for key, value in named.items()}
        return faced(portal, function(*given, **named), name)

    call.__name__, call.__doc__ = name, function.__doc__
    return call


def iterate(portal: Portal, rows: AsyncIterator[Any], chunk: int) -> Iterator[Any]:
    """What `rows` gives, up to `chunk` at a time; closed with the generator."""

    async def take() -> tuple[list[Any], BaseException | None]:
        taken: list[Any] = []
        try:
            while len(taken) < chunk:
                taken.append(await anext(rows))
        except (StopAsyncIteration, Exception) as error:  # noqa: BLE001  what came before it is given first
            return taken, error
        return taken, None

    try:
        while True:
            taken, end = portal.call(take)
            for row in taken:
                yield faced(portal, row)
            if isinstance(end, StopAsyncIteration):
                return
            if end is not None:
                raise end
    finally:
        close = getattr(rows, "aclose", None)
        if close is not None:
            portal.call(close)


def _given(portal: Portal, value: Any, called_back: bool) -> Any:
    """An argument as the asynchronous side takes it."""
    if isinstance(value, Blocking):
        return value._target
    if not called_back or not inspect.isroutine(value) or inspect.iscoroutinefunction(value):
        return value

    def function(*arguments: Any) -> Any:
        return value(*(faced(portal, argument) for argument in arguments))

    loader = portal.loader(function)

    async def call(*arguments: Any) -> Any:
        if arguments and isinstance(arguments[0], Load | LoadMany):
            return await loader(*arguments)
        try:
            return await in_the_callers_thread(lambda: function(*arguments))
        except NotThere:
            raise StoreError("the caller was interrupted, and its function was not called") from None

    return call


def loaded_by(portal: Portal, loader: Any) -> Any:
    """What loads a value, as the asynchronous side takes it."""
    return _given(portal, loader, True)


@lru_cache(maxsize=1024)
def _called_back(function: Any) -> bool:
    """Whether a function takes one whose outcome it awaits, as its annotations say."""
    annotations = getattr(function, "__annotations__", {})
    return any("Callable" in str(kind) and "Awaitable" in str(kind) for kind in annotations.values())


@lru_cache(maxsize=1024)
def is_faced(kind: type) -> bool:
    """Whether objects of this type have asynchronous methods that a blocking caller could not call."""
    if not kind.__module__.startswith(_FACED):
        return False
    public = (getattr(kind, name, None) for name in dir(kind) if not name.startswith("_"))
    return any(
        inspect.iscoroutinefunction(inspect.unwrap(one)) or inspect.isasyncgenfunction(inspect.unwrap(one))
        for one in public
        if inspect.isroutine(one)
    )
