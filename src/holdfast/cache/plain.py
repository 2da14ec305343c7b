"""Plain functions under `@cached`: a hit is a plain call, and what else there is goes to the loop of the cache.

The blocking face is above this room: it says, in the tasks of its loop, how it is reached; a cache that is opened there
keeps it, and with it the functions that its values are loaded with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from holdfast.cache.keys import LONGEST, shortened
from holdfast.cache.loader import Loader
from holdfast.cache.peeking import SEEK, Unfit
from holdfast.cache.running import running
from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache
    from holdfast.cache.decorator import Declared
    from holdfast.cache.found import Found
    from holdfast.cache.functions import PlainCachedFunction

T = TypeVar("T")


class Reach(Protocol):
    """How plain code reaches a loop that runs in another thread."""

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work()` there and return what it gives; what it raises is raised here."""
        ...

    def loader(self, function: Callable[..., Any], *, apart: bool = False) -> Callable[..., Awaitable[Any]]:
        """A plain function as the loop calls it: in the thread of the caller that waits for the value, or else, and
        where it is to be `apart`, in one of its own."""
        ...


reached_by: ContextVar[Reach | None] = ContextVar("holdfast_cache_reached_by", default=None)
"""How plain code reaches the loop of the current task; None where it cannot."""


class Face(Protocol):
    """A cache as plain code has it."""

    def here(self) -> Cache:
        """What is behind it in this process."""
        ...


def reach_of(cache: Cache, name: str) -> Reach:
    """How plain code reaches `cache`.

    Raises:
        ConfigurationError: it lives on the event loop of an asynchronous program.
    """
    if cache.reach is None:
        raise ConfigurationError(
            f"{name} is a plain function, and the cache that is open is an asynchronous one, which it cannot wait for:"
            " write it as `async def`, or open the data layer with Holdfast.blocking(…)"
        )
    return cache.reach


def loader_of(cache: Cache, name: str, function: Callable[..., Any], *, apart: bool) -> Loader:
    """A plain function as the loader of `cache`; it never runs on its loop."""
    return reach_of(cache, name).loader(function, apart=apart)


def plain_function(declared: Declared, face: Cache | Face | None) -> PlainCachedFunction[Any, Any]:
    """The decorated function.

    Args:
        face: the cache, if it was named.
    """
    key_of, may_peek, function = declared.key_of, not declared.options.skip_l1, declared.function
    max_staleness = declared.options.max_staleness

    def named() -> Cache | None:
        return running.here() if face is None else cast("Cache", face.here()) if hasattr(face, "here") else face

    def call(*args: Any, **kwargs: Any) -> Any:
        mine = (running.only if face is None else None) or named()
        if mine is None:
            return declared.load(None, args, kwargs)
        key = key_of(*args, **kwargs)
        if len(key) > LONGEST:
            key = shortened(key)
        seen = None
        if may_peek:
            seen = mine.peek(key, SEEK, max_staleness)
            if seen.__class__ is not Unfit:
                return seen
        return found(mine, key, args, kwargs, seen).value

    def found(mine: Cache, key: str, args: Any, kwargs: Any, seen: Unfit | None = None) -> Found[Any]:
        loader = declared.loader(mine, args, kwargs)
        return reach_of(mine, declared.name).call(lambda: declared.found(mine, key, loader, args, kwargs, seen))

    def bound() -> Cache:
        mine = named()
        if mine is None:
            raise ConfigurationError(f"{declared.name} is cached by no open Holdfast; open one before")
        return mine

    def lookup(*args: Any, **kwargs: Any) -> Found[Any]:
        return found(bound(), shortened(key_of(*args, **kwargs)), args, kwargs)

    def delete(*args: Any, **kwargs: Any) -> None:
        mine, key = bound(), shortened(key_of(*args, **kwargs))
        reach_of(mine, declared.name).call(lambda: mine.delete(key))

    def refresh(*args: Any, **kwargs: Any) -> bool:
        mine = bound()
        loader = declared.loader(mine, args, kwargs)
        return reach_of(mine, declared.name).call(lambda: declared.refresh(mine, loader, args, kwargs, math.inf))

    made: Any = functools.wraps(function)(call)
    made.options = declared.options
    made.declared = declared
    made.lookup, made.delete, made.refresh = lookup, delete, refresh
    made.key = lambda *args, **kwargs: shortened(key_of(*args, **kwargs))
    return cast("PlainCachedFunction[Any, Any]", made)
