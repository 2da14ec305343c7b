"""The cache for synchronous code: a hit is a plain call, in the caller's thread."""

from __future__ import annotations

from typing import Any

from holdfast.blocking.portal import Portal
from holdfast.blocking.proxy import Blocking, method
from holdfast.cache import MISSING, Cache


class BlockingCache(Blocking):
    """The blocking face of a cache.

    Attributes:
        peek, counted_as: as in `Cache`.
    """

    __slots__ = ("_get", "_get_or_load", "counted_as", "peek")

    def __init__(self, portal: Portal, target: Cache) -> None:
        super().__init__(portal, target)
        self.peek = target.peek
        self.counted_as = target.counted_as
        self._get = method(portal, target.get)
        self._get_or_load = method(portal, target.get_or_load)

    def get(self, key: str, default: Any = None, **given: Any) -> Any:
        """As `Cache.get`."""
        value = self.peek(key, MISSING)
        return value if value is not MISSING else self._get(key, default, **given)

    def get_or_load(self, key: str, loader: Any, **given: Any) -> Any:
        """As `Cache.get_or_load`."""
        if given:  # options may say to leave memory alone
            return self._get_or_load(key, loader, **given)
        value = self.peek(key, MISSING)
        return value if value is not MISSING else self._get_or_load(key, loader)
