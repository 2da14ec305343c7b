"""The values of one declared key: found and kept by its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from holdfast.cache.declared import Key
from holdfast.cache.keys import shortened
from holdfast.cache.loader import Load
from holdfast.errors import InvalidValue

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache
    from holdfast.cache.found import Found


class Keyed:
    """The values of a declared key. Made by `cache[KEY]`; the parts of the key are given by name, or in their order.

    Every method raises InvalidValue where the parts are not those of the key.
    """

    def __init__(self, cache: Cache, declared: Key) -> None:
        self.declared = declared
        self.options = cache.options_of(declared)
        self._cache = cache

    def key(self, *parts: Any, **named: Any) -> str:
        """The whole key."""
        return shortened(self._made(self.declared.key_of, parts, named))

    def peek(self, *parts: Any, **named: Any) -> Any:
        """The fresh value that this node holds, or None: a plain call."""
        return self._cache.peek(self.key(*parts, **named), None, self.options.max_staleness)

    async def get(self, *parts: Any, **named: Any) -> Any:
        """The fresh value that is kept, or None."""
        return await self._cache.get(self.key(*parts, **named), options=self.options, kind=self.declared.stored)

    async def get_or_load(self, loader: Callable[[Load], Awaitable[Any]], /, *parts: Any, **named: Any) -> Any:
        """The fresh value, loaded with `await loader(load)` where none is kept; raises as `Cache.get_or_load` does."""
        return await self._cache.get_or_load(
            self.key(*parts, **named),
            loader,
            options=self.options,
            tags=self._tags(parts, named),
            kind=self.declared.stored,
        )

    async def lookup(self, loader: Callable[[Load], Awaitable[Any]], /, *parts: Any, **named: Any) -> Found[Any]:
        """What `get_or_load` does, and how the value was had."""
        return await self._cache.lookup(
            self.key(*parts, **named),
            loader,
            options=self.options,
            tags=self._tags(parts, named),
            kind=self.declared.stored,
        )

    async def set(self, value: Any, /, *parts: Any, **named: Any) -> None:
        """Keep `value` as true now; see `Cache.set`."""
        await self._cache.set(
            self.key(*parts, **named),
            value,
            options=self.options,
            tags=self._tags(parts, named),
            kind=self.declared.stored,
        )

    async def delete(self, *parts: Any, **named: Any) -> None:
        """End what is kept, on every node."""
        await self._cache.delete(self.key(*parts, **named))

    def _tags(self, parts: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, ...]:
        return tuple(self._made(tag, parts, named) for tag in self.declared.tags_of)

    def _made(self, template: Callable[..., str], parts: tuple[Any, ...], named: dict[str, Any]) -> str:
        try:
            return template(*parts, **named)
        except TypeError:
            given = ", ".join([*map(repr, parts), *(f"{name}=" for name in named)])
            wanted = ", ".join(self.declared.parts)
            raise InvalidValue(
                f"the key {self.declared.name} is made of {wanted or 'no parts'}, not of {given}"
            ) from None
