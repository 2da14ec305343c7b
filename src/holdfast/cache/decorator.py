"""`@cached`: a function whose values are kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, get_type_hints

from holdfast.cache.keys import LONGEST, shortened
from holdfast.cache.loader import Load
from holdfast.cache.options import TIERS, Options
from holdfast.cache.running import running
from holdfast.cache.templates import compiled, default_template
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache
    from holdfast.cache.found import Found

P = ParamSpec("P")
T = TypeVar("T")


class CachedFunction(Generic[P, T]):
    """A function whose values are kept; it is called as before.

    Attributes:
        options: how its values are kept.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[T]],
        *,
        key: str | None,
        tags: Iterable[str],
        options: Options,
        cache: Cache | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.options = options
        self._function = function
        self._cache = cache
        signature, self._asks = _signature(function)
        name = self._name = f"{function.__module__}.{function.__qualname__}"
        if key is None:
            key = default_template(name, _parts(function, signature))
        self._kind = Any if options.skip_l2 else _kind(function, name)
        self._key_of = compiled(key, signature, f"{name}: key")
        self._tags_of = tuple(compiled(tag, signature, f"{name}: tag") for tag in tags)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        cache = self._cache or running.cache
        if cache is None:
            return await self._load(None, args, kwargs)
        key = self._key_of(*args, **kwargs)
        if len(key) > LONGEST:
            key = shortened(key)
        value = cache.peek(key, cache)
        if value is not cache:
            return cast(T, value)
        return (await self._lookup(cache, key, args, kwargs)).value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    async def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Found[T]:
        """The value, and how it was had."""
        cache = self._bound()
        return await self._lookup(cache, self.key(*args, **kwargs), args, kwargs)

    async def delete(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """End the value for these arguments, on every node."""
        await self._bound().delete(self.key(*args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the value for these arguments is kept."""
        return shortened(self._key_of(*args, **kwargs))

    def _bound(self) -> Cache:
        cache = self._cache or running.cache
        if cache is None:
            raise ConfigurationError(f"{self._name} is cached by no open Holdfast; open one before")
        return cache

    async def _lookup(self, cache: Cache, key: str, args: Any, kwargs: Any) -> Found[T]:
        tags = tuple(tag(*args, **kwargs) for tag in self._tags_of)
        return await cache.lookup(
            key, lambda load: self._load(load, args, kwargs), options=self.options, tags=tags, kind=self._kind
        )

    async def _load(self, load: Load | None, args: Any, kwargs: Any) -> T:
        if self._asks is not None:
            kwargs = {**kwargs, self._asks: load or Load("", self.options, (), None, None, False)}
        return await self._function(*args, **kwargs)


def cached(
    *,
    key: str | None = None,
    tags: Iterable[str] = (),
    tier: str | Options | None = None,
    cache: Cache | None = None,
    **given: Any,
) -> Callable[[Callable[P, Awaitable[T]]], CachedFunction[P, T]]:
    """Keep the values of an async function; a call with the same arguments gets the one that is kept.

    Args:
        key: a template of the parameters, such as `user:{user_id}`; the function's name and all its arguments by
            default.
        tags: templates of what the values depend on: a change of a row or an event with such a tag ends them.
        tier: "hot", "warm", "cold" or `Options`; `given` replaces single ones: `ttl="5m"`, `fail_safe="1d"`.
        cache: which one; that of the Holdfast that is open by default. While none is open, nothing is kept.

    A parameter of the type `Load` is not part of the call: the function gets there what it may say of the value.

    Raises:
        ConfigurationError: an option or a template makes no sense; told where the function is defined.

    Example::

        @cached(key="user:{user_id}", tags=("users:{user_id}",), ttl="5m")
        async def user(user_id: UUID) -> dict[str, str]: ...
    """
    if isinstance(tier, str) and tier not in TIERS:
        raise ConfigurationError(f"tier={tier!r} is none; there are {', '.join(TIERS)}")
    options = (TIERS[tier] if isinstance(tier, str) else tier or Options()).but(**given)
    if isinstance(tags, str):
        raise ConfigurationError(f"tags must be several templates, not the text {tags!r}; write ({tags!r},)")

    def decorate(function: Callable[P, Awaitable[T]]) -> CachedFunction[P, T]:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"@cached takes async functions, which {function!r} is not")
        return CachedFunction(function, key=key, tags=tuple(tags), options=options, cache=cache)

    return decorate


def _signature(function: Callable[..., Any]) -> tuple[inspect.Signature, str | None]:
    """The signature that callers see, and the name of the parameter that takes a `Load`."""
    signature = inspect.signature(function)
    asks = None
    for name, parameter in signature.parameters.items():
        if parameter.annotation in (Load, "Load"):
            asks = name
    kept = [parameter for name, parameter in signature.parameters.items() if name != asks]
    return signature.replace(parameters=kept), asks


def _kind(function: Callable[..., Any], name: str) -> Any:
    """The type of the values, as the function is annotated; `Any` where that cannot be told."""
    try:
        kind = get_type_hints(function).get("return", Any)
    except (NameError, TypeError):  # what is named is not there at run time
        return Any
    if kind is object:
        return Any
    try:
        codec_of(kind)
    except InvalidValue as error:
        raise ConfigurationError(f"{name}: {error}") from None
    return kind


def _parts(function: Callable[..., Any], signature: inspect.Signature) -> list[str]:
    parameters = signature.parameters.values()
    several = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    first = next(iter(signature.parameters), "")
    if several or first in ("self", "cls"):
        taken = (several or [first])[0]
        raise ConfigurationError(f"{function.__qualname__} takes {taken!r}: say key=… to tell its calls apart")
    return list(signature.parameters)
