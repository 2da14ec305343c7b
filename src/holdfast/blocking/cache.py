"""The cache for synchronous code: a hit is a plain call, in the caller's thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from holdfast.blocking.portal import Portal
from holdfast.blocking.proxy import Blocking, loaded_by
from holdfast.cache import Cache, Options
from holdfast.cache.peeking import SEEK, Peek, Unfit


class BlockingCache(Blocking):
    """The blocking face of a cache.

    Args:
        here: gives the cache that is behind it in this process.

    Attributes:
        peek, counted_as, here: as in `Cache`, and as given.
    """

    __slots__ = ("_look", "counted_as", "here", "peek")

    def __init__(self, portal: Portal, target: Cache, here: Callable[[], Cache]) -> None:
        super().__init__(portal, target)
        self.peek = target.peek
        self.counted_as = target.counted_as
        self.here = here
        self._look: Peek = _look_nowhere if target.options.skip_l1 else target.peek

    def get(self, key: str, default: Any = None, *, options: Options | None = None, kind: Any = Any) -> Any:
        """As `Cache.get`."""
        value = self.peek(key, SEEK, (options or self._target.options).max_staleness)
        if value.__class__ is not Unfit:
            return value
        cache = self._target
        return self._portal.call(lambda: cache.answers.get(key, default, options or cache.options, kind, value))

    def get_or_load(self, key: str, loader: Any, **given: Any) -> Any:
        """As `Cache.get_or_load`."""
        if given:
            return self._get_or_load(key, loader, **given)
        seen = self._look(key, SEEK, self._target.options.max_staleness)
        if seen.__class__ is not Unfit:
            return seen
        return self._load(key, loader, self._target.options, (), Any, seen)

    def _get_or_load(
        self,
        key: str,
        loader: Any,
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> Any:
        options = (options or self._target.options).but(**given)
        seen = None
        if not options.skip_l1:
            seen = self.peek(key, SEEK, options.max_staleness)
            if seen.__class__ is not Unfit:
                return seen
        return self._load(key, loader, options, tags, kind, seen)

    def _load(self, key: str, loader: Any, options: Options, tags: Iterable[str], kind: Any, seen: Unfit | None) -> Any:
        load, answers = loaded_by(self._portal, loader), self._target.answers
        return self._portal.call(lambda: answers.answer(answers.ask(key, load, options, tags, kind, seen))).value


def _look_nowhere(key: str, default: Any = None, bound: float = math.inf) -> Any:
    """As `peek`, of a cache that leaves its memory alone."""
    return default
