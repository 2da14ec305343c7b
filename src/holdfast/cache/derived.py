"""What was made of kept values, such as the bytes of an answer: it stands while the cache gives the very same ones."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from holdfast.cache.peeking import Peek

T = TypeVar("T")


class Source(NamedTuple):
    """A value that the cache gave.

    Attributes:
        key: under which the cache keeps it.
        value: as it was given; of a class that can be referred to weakly.
        bound: seconds that it may be behind the last commit.
    """

    key: str
    value: Any
    bound: float


class Derived(Generic[T]):
    """Keeps what was made of values of one cache, beside them.

    Here nothing is fresh or old: each look asks the cache for the values, and what was made of others is not found. So
    a change ends it as it ends them. It goes when one of them goes, in whatever thread that is, and needs no bound.

    Args:
        peek: of the cache.
    """

    def __init__(self, peek: Peek) -> None:
        self._peek = peek
        self._kept: dict[Hashable, tuple[T, list[tuple[str, float, weakref.ref[Any]]]]] = {}

    def __len__(self) -> int:
        """How much is kept."""
        return len(self._kept)

    def get(self, key: Hashable) -> T | None:
        """What was made for `key`, if the cache still gives what it was made of: a plain call."""
        found = self._kept.get(key)
        if found is None:
            return None
        peek = self._peek
        for name, bound, value in found[1]:
            kept = peek(name, None, bound)
            if kept is None or kept is not value():
                return None
        return found[0]

    def keep(self, key: Hashable, made: T, sources: Sequence[Source | None]) -> None:
        """Keep what was made of `sources`; not where one of them, None, was not kept by the cache."""
        if None in sources:
            return
        gone = partial(self._gone, key)
        self._kept[key] = (
            made,
            [(one.key, one.bound, weakref.ref(one.value, gone)) for one in sources if one is not None],
        )

    def _gone(self, key: Hashable, value: weakref.ref[Any]) -> None:
        found = self._kept.get(key)
        if found is not None and any(one is value for _, _, one in found[1]):  # it may have been made anew meanwhile
            self._kept.pop(key, None)
