"""A part of the cache: keys with a common beginning, which end together."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.cache.durations import Duration
from holdfast.cache.keys import distinct
from holdfast.cache.loader import Load, LoadMany
from holdfast.cache.options import Options

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache
    from holdfast.cache.found import Found


class Namespace:
    """Keys that begin with `name:`, with options of their own. Made by `cache.namespace(…)`.

    Its methods are those of `Cache` that take keys, without `options`; loaders are given whole keys.

    Each value carries the tag of the namespace, so that `clear` ends them all by one event, on every node.

    Attributes:
        name, options: as given.
    """

    def __init__(self, cache: Cache, name: str, options: Options, tags: tuple[str, ...]) -> None:
        self.name = name
        self.options = options
        self._cache = cache
        self._tag = f"namespace:{name}"
        self._tags = (self._tag, *tags)

    def key(self, key: str) -> str:
        """The whole key."""
        return f"{self.name}:{key}"

    def peek(self, key: str, default: Any = None) -> Any:
        """The fresh value that this node holds, or `default`: a plain call."""
        return self._cache.peek(self.key(key), default, self.options.max_staleness)

    async def get(self, key: str, default: Any = None, *, kind: Any = Any) -> Any:
        """The fresh value that is kept, or `default`."""
        return await self._cache.get(self.key(key), default, options=self.options, kind=kind)

    async def get_many(self, keys: Iterable[str], *, kind: Any = Any) -> dict[str, Any]:
        """The fresh values that are kept among `keys`, by key."""
        short = self._short(keys)
        found = await self._cache.get_many(short, options=self.options, kind=kind)
        return {short[key]: value for key, value in found.items()}

    async def get_or_load(
        self, key: str, loader: Callable[[Load], Awaitable[Any]], *, tags: Iterable[str] = (), kind: Any = Any
    ) -> Any:
        """The fresh value, loaded where none is kept."""
        return await self._cache.get_or_load(
            self.key(key), loader, options=self.options, tags=(*self._tags, *tags), kind=kind
        )

    async def lookup(
        self, key: str, loader: Callable[[Load], Awaitable[Any]], *, tags: Iterable[str] = (), kind: Any = Any
    ) -> Found[Any]:
        """What `get_or_load` does, and how the value was had."""
        return await self._cache.lookup(
            self.key(key), loader, options=self.options, tags=(*self._tags, *tags), kind=kind
        )

    async def refresh(
        self,
        key: str,
        loader: Callable[[Load], Awaitable[Any]],
        *,
        lasting: Duration = math.inf,
        tags: Iterable[str] = (),
        kind: Any = Any,
    ) -> bool:
        """Load the value while the one that is kept is served; see `Cache.refresh`."""
        tags = (*self._tags, *tags)
        return await self._cache.refresh(
            self.key(key), loader, lasting=lasting, options=self.options, tags=tags, kind=kind
        )

    async def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[LoadMany], Awaitable[Mapping[str, Any]]],
        *,
        tags: Iterable[str] = (),
        kind: Any = Any,
    ) -> dict[str, Any]:
        """The fresh values of `keys`; the loader answers by whole keys."""
        short, tags = self._short(keys), (*self._tags, *tags)
        found = await self._cache.get_or_load_many(short, loader, options=self.options, tags=tags, kind=kind)
        return {short[key]: value for key, value in found.items()}

    async def set(self, key: str, value: Any, *, tags: Iterable[str] = (), kind: Any = Any) -> None:
        """Keep `value` as true now."""
        await self._cache.set(self.key(key), value, options=self.options, tags=(*self._tags, *tags), kind=kind)

    async def set_many(self, values: Mapping[str, Any], *, tags: Iterable[str] = (), kind: Any = Any) -> None:
        """Keep values by key as true now."""
        whole = {self.key(key): value for key, value in values.items()}
        await self._cache.set_many(whole, options=self.options, tags=(*self._tags, *tags), kind=kind)

    async def delete(self, *keys: str) -> None:
        """End what is kept for these keys, on every node."""
        await self._cache.delete(*map(self.key, keys))

    async def clear(self) -> None:
        """End everything in the namespace, on every node."""
        await self._cache.invalidate(self._tag)

    def _short(self, keys: Iterable[str]) -> dict[str, str]:
        """The keys by the whole ones."""
        return {self.key(key): key for key in distinct(keys)}
