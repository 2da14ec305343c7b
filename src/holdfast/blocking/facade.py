"""`Holdfast.blocking(…)`: a data layer for synchronous code, that survives a fork."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from holdfast.blocking.cache import BlockingCache
from holdfast.blocking.portal import Portal, portal
from holdfast.blocking.proxy import Blocking, faced, method
from holdfast.cache.running import running
from holdfast.errors import StoreError


class Facade:
    """The blocking face of a data layer.

    Args:
        opening: opens one; told whether this is a forked process, which opens its own.
    """

    def __init__(self, opening: Callable[[bool], Awaitable[Any]]) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._closed = False
        self._inherited: list[Any] = []
        self._portal: Portal = portal()
        self._cache: BlockingCache | None = None
        self._hold: Any = self._portal.call(lambda: opening(False))
        _open.add(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        hold = self._mine()
        value = getattr(hold, name)
        return (
            method(self._portal, value)
            if callable(value) and hasattr(value, "__self__")
            else faced(self._portal, value)
        )

    @property
    def cache(self) -> BlockingCache:
        """The cache; a hit in it is a plain call."""
        hold = self._mine()
        if self._cache is None or self._cache._target is not hold.cache:
            self._cache = BlockingCache(self._portal, hold.cache, lambda: self._mine().cache)
        return self._cache

    def close(self) -> None:
        """Write what waits, let open units finish, drop the connections. Safe to call twice."""
        if self._closed or os.getpid() != self._portal.pid:
            self._closed = True  # what was opened is the parent's, which closes it
            return
        self._closed = True
        self._portal.call(self._hold.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __dir__(self) -> list[str]:
        return ["close", *(name for name in dir(self._hold) if not name.startswith("_"))]

    def __repr__(self) -> str:
        return f"<blocking Holdfast {self._hold.store.place}>"

    def _mine(self) -> Any:
        """The data layer of this process."""
        if self._closed:
            raise StoreError("this data layer is closed; open another with Holdfast.blocking(…)")
        if os.getpid() == self._portal.pid:
            return self._hold
        with self._lock:
            if os.getpid() != self._portal.pid:
                if self._hold.store.in_memory:
                    raise StoreError("a database in memory is not there in a forked process; name a file")
                # Kept, and never touched again: closing it would say goodbye on the parent's connections.
                self._inherited.append((self._portal, self._hold))
                mine = portal()
                self._hold = mine.call(lambda: self._opening(True))
                self._portal = mine
        return self._hold

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if not self._closed:
            running.to_open(self._mine)


_open: WeakSet[Facade] = WeakSet()


def _close_all() -> None:
    for facade in list(_open):
        facade.close()


def _renew_locks() -> None:
    for facade in list(_open):
        facade._after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_renew_locks)

__all__ = ["Blocking", "Facade"]
