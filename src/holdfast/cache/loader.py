"""What a loader is given, and what it may say of the value that it loads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from holdfast.cache import tags
from holdfast.cache.durations import Duration, seconds
from holdfast.cache.options import Options
from holdfast.errors import HoldfastError

Loader = Callable[["Load"], Awaitable[Any]]


ManyLoader = Callable[["LoadMany"], Awaitable[Mapping[str, Any]]]


class LoadFailed(HoldfastError):
    """A loader said `fail(…)`: an older value is served if there is one, and else this is raised."""


class NotModified(Exception):
    """A loader found that the older value still stands."""


class Load:
    """One load of one key.

    Attributes:
        key: what is loaded.
        older: the value that was kept and is not fresh any more; None where there is none.
        has_older: whether there is one.
        note: what was said with `remember` when that was loaded.
    """

    __slots__ = ("_tags", "has_older", "kept_note", "key", "note", "older", "options")

    def __init__(self, key: str, options: Options, given: tuple[str, ...], older: Any, note: Any, has: bool) -> None:
        self.key = key
        self.options = options
        self.older = older
        self.note = note
        self.kept_note: Any = None
        self._tags = dict.fromkeys(given)
        self.has_older = has

    @property
    def found_tags(self) -> tuple[str, ...]:
        """The tags that the value will carry."""
        return tuple(self._tags)

    def tags(self, *names: str) -> None:
        """Let the value carry these tags too: it ends when one of them changes."""
        self._tags.update(dict.fromkeys(tags.checked(names)))
        tags.checked(self._tags)  # how many they are together

    def ttl(self, duration: Duration) -> None:
        """Keep this value for so long."""
        self.options = self.options.but(ttl=seconds(duration, "ttl", least=0.001))

    def weight(self, weight: int) -> None:
        """What this value weighs in memory."""
        self.options = self.options.but(weight=weight)

    def remember(self, note: Any) -> None:
        """Have the next load of this key find `note`: an ETag, a version."""
        self.kept_note = note

    def not_modified(self) -> NoReturn:
        """The older value still stands, and is kept for its time anew.

        Raises:
            LoadFailed: there is no older value.
        """
        if not self.has_older:
            raise LoadFailed(f"{self.key!r} was loaded for the first time, and cannot be as it was")
        raise NotModified

    def fail(self, reason: str) -> NoReturn:
        """There is no value now: an older one is served, marked as stale, where `fail_safe` allows it.

        Raises:
            LoadFailed: always.
        """
        raise LoadFailed(f"{self.key!r} could not be loaded: {reason}")


LOAD = Load("", Options(), (), None, None, False)
"""The default of a cached function's parameter that takes its `Load`."""


class LoadMany:
    """One load of several keys.

    Attributes:
        keys: what is to be loaded: those of the keys asked for that are not kept.
    """

    __slots__ = ("_loads", "keys")

    def __init__(self, loads: Mapping[str, Load]) -> None:
        self.keys = tuple(loads)
        self._loads = loads

    def __getitem__(self, key: str) -> Load:
        """What may be said of the value of one key."""
        return self._loads[key]

    def tags(self, *names: str) -> None:
        """Let all of the values carry these tags too."""
        for load in self._loads.values():
            load.tags(*names)
