"""Which cache serves functions that name none: that of the one Holdfast that is open."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache


class Running:
    """The caches of this process that are open.

    Attributes:
        only: the cache, while exactly one is open.
    """

    __slots__ = ("_caches", "_to_open", "only")

    def __init__(self) -> None:
        self._caches: list[Cache] = []
        self.only: Cache | None = None
        self._to_open: list[Callable[[], object]] = []

    def cache(self) -> Cache | None:
        """The cache that is open; None where none is.

        Raises:
            ConfigurationError: several are.
        """
        if len(self._caches) > 1:
            raise ConfigurationError(
                f"{len(self._caches)} caches are open in this process; say which: @cached(…, cache=hold.cache)"
            )
        return self.only

    def here(self) -> Cache | None:
        """As `cache`, for plain code: in a forked process those are opened first that were open in the parent.

        Raises:
            As `cache`.
        """
        if self._to_open:
            for opens in self._to_open:
                opens()
            self._to_open = []
        return self.cache()

    def all(self) -> list[Cache]:
        """The caches that are open."""
        return list(self._caches)

    def add(self, cache: Cache) -> None:
        """`cache` is open."""
        self._caches.append(cache)
        self._settle()

    def remove(self, cache: Cache) -> None:
        """`cache` is closed."""
        self._caches = [one for one in self._caches if one is not cache]
        self._settle()

    def forked(self) -> None:
        """This is a forked process: what is open is the parent's."""
        self._caches = []
        self._to_open = []
        self._settle()

    def to_open(self, opens: Callable[[], object]) -> None:
        """`opens()` opens here what the parent had open, unless that was done."""
        self._to_open.append(opens)

    def _settle(self) -> None:
        self.only = self._caches[0] if len(self._caches) == 1 else None


running = Running()
os.register_at_fork(after_in_child=running.forked)
