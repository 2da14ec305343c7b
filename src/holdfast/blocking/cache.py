"""The cache for synchronous code: a hit is a plain call, in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from holdfast.blocking.portal import Portal
from holdfast.blocking.proxy import Blocking, loaded_by
from holdfast.cache import Cache, Options
from holdfast.cache.loader import checked_loader
from holdfast.cache.options import DEFAULT, chosen
from holdfast.cache.peeking import SEEK, Unfit

_BOUND = DEFAULT.max_staleness


class BlockingCache(Blocking):
    """The blocking face of a cache.

    Args:
        here: gives the cache that is behind it in this process.

    Attributes:
        peek, counted_as, here: as in `Cache`, and as given.
    """

    __slots__ = ("counted_as", "here", "peek")

    def __init__(self, portal: Portal, target: Cache, here: Callable[[], Cache]) -> None:
        super().__init__(portal, target)
        self.peek = target.peek
        self.counted_as = target.counted_as
        self.here = here

    def get(self, key: str, default: Any = None, *, options: Options | None = None, kind: Any = Any) -> Any:
        """As `Cache.get`."""
        if options is None:
            value = self.peek(key, SEEK, _BOUND)
        else:
            value = SEEK if chosen(options, {}).skip_l1 else self.peek(key, SEEK, options.max_staleness)
        if value.__class__ is not Unfit:
            return value
        cache = self._target
        return self._portal.call(lambda: cache.answers.get(key, default, options or DEFAULT, kind, value))

    def get_or_load(self, key: str, loader: Any, **given: Any) -> Any:
        """As `Cache.get_or_load`."""
        if given:
            return self._get_or_load(key, loader, **given)
        seen = self.peek(key, SEEK, _BOUND)
        if seen.__class__ is not Unfit:
            return seen
        return self._load(key, loader, DEFAULT, (), Any, seen)

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
        options = chosen(options, given)
        seen = None
        if not options.skip_l1:
            seen = self.peek(key, SEEK, options.max_staleness)
            if seen.__class__ is not Unfit:
                return seen
        return self._load(key, loader, options, tags, kind, seen)

    def _load(self, key: str, loader: Any, options: Options, tags: Iterable[str], kind: Any, seen: Unfit | None) -> Any:
        load, answers = loaded_by(self._portal, checked_loader(loader)), self._target.answers
        return self._portal.call(lambda: answers.answer(answers.ask(key, load, options, tags, kind, seen))).value
