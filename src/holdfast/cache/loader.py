"""What a loader is given, and what it may say of the value that it loads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, TypeVar

from holdfast.cache import tags
from holdfast.cache.durations import Duration, seconds, shown
from holdfast.cache.entry import Entry
from holdfast.cache.keys import named
from holdfast.cache.options import Options
from holdfast.errors import HoldfastError, InvalidValue

F = TypeVar("F")

Loader = Callable[["Load"], Awaitable[Any]]

ManyLoader = Callable[["LoadMany"], Awaitable[Mapping[str, Any]]]


class LoadFailed(HoldfastError):
    """There is no value: a loader said `fail(…)`, or `not_modified()` of one that is not kept; a load was cancelled, or
    asked for its own key. Where an older value may be served, that is served instead.
    """


class NotModified(Exception):
    """A loader found that the older value still stands."""


class Loading:
    """What a loader is told of one value, and may say of it.

    Attributes:
        key: what is loaded.
        older: the value that was kept and is not fresh any more; None where there is none.
        has_older: whether there is one.
        note: what was said with `remember` when that was loaded.
    """

    __slots__ = ("_tags", "has_older", "is_as_it_was", "kept_note", "key", "note", "older", "options")

    def __init__(self, key: str, options: Options, given: tuple[str, ...] = (), older: Entry | None = None) -> None:
        self.key = key
        self.options = options
        self.has_older = older is not None
        self.older: Any = None if older is None else older.value
        self.note: Any = None if older is None else older.note
        self.kept_note: Any = None
        self.is_as_it_was = False
        self._tags = dict.fromkeys(given)

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

    def keep_older(self) -> None:
        """Keep the older value for its time anew, and the note with it unless another was said.

        Raises:
            LoadFailed: there is no older value.
        """
        if not self.has_older:
            raise LoadFailed(f"{self.key!r} was loaded for the first time, and cannot be as it was")
        self.is_as_it_was = True
        if self.kept_note is None:
            self.kept_note = self.note


class Load(Loading):
    """One load of one key."""

    __slots__ = ()

    def not_modified(self) -> NoReturn:
        """The older value still stands, and is kept for its time anew.

        Raises:
            LoadFailed: there is no older value.
        """
        self.keep_older()
        raise NotModified

    def fail(self, reason: str) -> NoReturn:
        """There is no value now: an older one is served, marked as stale, where `fail_safe` allows it.

        Raises:
            LoadFailed: always.
        """
        raise LoadFailed(f"{self.key!r} could not be loaded: {reason}")


LOAD = Load("", Options())
"""The default of a cached function's parameter that takes its `Load`."""


class LoadMany:
    """One load of several keys.

    Attributes:
        keys: what is to be loaded: those of the keys asked for that are not kept.
    """

    __slots__ = ("_loads", "keys")

    def __init__(self, loads: Mapping[str, Loading]) -> None:
        self.keys = tuple(loads)
        self._loads = loads

    def __getitem__(self, key: str) -> Loading:
        """What is known of one key, and may be said of its value."""
        return self._loads[key]

    def tags(self, *names: str) -> None:
        """Let all of the values carry these tags too."""
        for load in self._loads.values():
            load.tags(*names)

    def not_modified(self, *keys: str) -> None:
        """The older values of these keys still stand, and are kept for their time anew, whatever is returned for them.

        Raises:
            LoadFailed: of one there is no older value.
        """
        for key in keys:
            self._loads[key].keep_older()


def checked_loader(loader: F) -> F:
    """The loader. InvalidValue: it cannot be called."""
    if not callable(loader):
        raise InvalidValue(
            f"loader={shown(loader)} cannot be called; give an async function that takes the load:"
            " async def load(load): …"
        )
    return loader


async def values_of(loader: ManyLoader, loads: Mapping[str, Loading]) -> dict[str, Any]:
    """What a loader of many gives for `loads`, by key.

    Raises:
        InvalidValue: it gives no values by key. Whatever it raises.
    """
    values = await loader(LoadMany(loads))
    if not isinstance(values, Mapping):
        raise InvalidValue(
            f"the loader of {named(loads)} returned {shown(values)}: return the values by key, {{key: value}}; one that"
            " is left out is None"
        )
    return {key: load.older if load.is_as_it_was else values.get(key) for key, load in loads.items()}
