"""`@cached`: a function whose values are kept."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from holdfast.cache.declared import Key, checked_tags, options_of
from holdfast.cache.functions import CachedFunction, Keeping
from holdfast.cache.keys import LONGEST, shortened
from holdfast.cache.loader import Load, Loader
from holdfast.cache.options import Options
from holdfast.cache.peeking import SEEK, Unfit
from holdfast.cache.plain import Face, loader_of, plain_function
from holdfast.cache.registry import Use, registry, shown
from holdfast.cache.running import running
from holdfast.cache.templates import compiled, default_template
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.templates import tag_part

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache
    from holdfast.cache.found import Found


def cached(
    declared: Key | None = None,
    /,
    *,
    key: str | None = None,
    tags: Iterable[str] = (),
    tier: str | Options | None = None,
    cache: Cache | Face | None = None,
    **given: Any,
) -> Keeping:
    """Keep the values of a function; a call with the same arguments gets the one that is kept.

    A plain function is served by a cache that was opened with `Holdfast.blocking(…)`, and loads in the thread that
    waits for the value.

    Args:
        declared: a `Key`, which says all of the following but `cache`; the function has parameters of its parts' names.
        key: a template of the parameters, such as `user:{user_id}`; the function's name and all its arguments by
            default.
        tags: templates of what the values depend on: a change of a row or an event with such a tag ends them.
        tier: "hot", "warm", "cold" or `Options`; `given` replaces single ones: `ttl="5m"`, `fail_safe="1d"`.
        cache: which one; that of the Holdfast that is open by default. While none is open, nothing is kept.

    A parameter `load: Load = LOAD` is not part of the call: the function gets there what it may say of the value.

    Raises:
        ConfigurationError: an option or a template makes no sense, or the keys are those of another function too; told
            where the function is defined.

    Example::

        @cached(key="user:{user_id}", tags=("users:{user_id}",), ttl="5m")
        async def user(user_id: UUID) -> dict[str, str]: ...
    """
    if declared is not None:
        if not isinstance(declared, Key):
            raise ConfigurationError(f"@cached takes a declared Key, or key=…, not {declared!r}")
        if key is not None or tags or tier is not None or given:
            raise ConfigurationError(
                f"{declared.name} says how its values are kept; @cached({declared.name}) takes cache=… alone"
            )
        key, tags, options = declared.template, declared.tags, declared.options
    else:
        tags, options = checked_tags(tags), options_of(tier, given)

    def decorate(function: Callable[..., Any]) -> Any:
        if not inspect.isfunction(function) or _gives_many(function):
            raise ConfigurationError(f"@cached takes functions, async or plain, that return a value, not {function!r}")
        made = Declared(function, key, tags, options, declared)
        if made.is_plain:
            return plain_function(made, cache)
        if hasattr(cache, "here"):
            raise ConfigurationError(f"{made.name} is async, and cannot be served by the cache of a blocking face")
        return _decorated(made, cache)

    return cast(Keeping, decorate)


class Declared:
    """A function under `@cached`, and how its calls become keys, tags and loads.

    Attributes:
        name: of the function, with its module.
        is_plain: whether it is called without `await`.
        template: of its keys.
        options: how its values are kept.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        key: str | None,
        tags: tuple[str, ...],
        options: Options,
        declared: Key | None,
    ) -> None:
        self.function = function
        self.is_plain = not inspect.iscoroutinefunction(function)
        self._key = declared
        self.name = f"{function.__module__}.{function.__qualname__}"
        signature, self._asks = _signature(function)
        if key is None:
            key = default_template(self.name, _parts(function, signature))
        self.template = shortened(key)
        self.options = options if options.counted_as else options.but(counted_as=self.template)
        self.key_of = compiled(key, signature, f"{self.name}: key")
        self._tags_of = tuple(compiled(tag, signature, f"{self.name}: tag", tag_part) for tag in tags)
        self._kind = Any if options.skip_l2 else _kind(function, self.name)
        if declared is not None:
            if not declared.takes(self._kind):
                mine = shown(self._kind)
                raise ConfigurationError(
                    f"{self.name} returns {mine}, and {declared.name} keeps {shown(declared.kind)}; write kind={mine}"
                    " in the Key"
                )
            self._kind = declared.stored
        self._use = Use(
            name=self.name,
            template=key,
            options=options,
            tags=tags,
            kind=self._kind,
            about=(inspect.getdoc(function) or "").partition("\n")[0],
            key=declared,
            is_local="<locals>" in function.__qualname__,
        )
        registry.use(self._use)

    def loader(self, cache: Cache, args: Any, kwargs: Any, *, apart: bool = False) -> Loader:
        """What loads the value of a call; see `Reach.loader`."""
        if self.is_plain:
            return loader_of(cache, self.name, lambda load: self.load(load, args, kwargs), apart=apart)
        return lambda load: self.load(load, args, kwargs)

    async def found(
        self, cache: Cache, key: str, loader: Loader, args: Any, kwargs: Any, seen: Unfit | None = None
    ) -> Found[Any]:
        """The value of a call, from `cache` or loaded."""
        tags = tuple(tag(*args, **kwargs) for tag in self._tags_of)
        return await cache.answers.answer(cache.answers.ask(key, loader, self._options(cache), tags, self._kind, seen))

    async def refresh(self, cache: Cache, loader: Loader, args: Any, kwargs: Any, lasting: float) -> bool:
        """Load the value of a call, unless one is kept that lasts; see `Cache.refresh`."""
        return await cache.refresh(
            shortened(self.key_of(*args, **kwargs)),
            loader,
            lasting=lasting,
            options=self._options(cache),
            tags=tuple(tag(*args, **kwargs) for tag in self._tags_of),
            kind=self._kind,
        )

    def _options(self, cache: Cache) -> Options:
        return self.options if self._key is None else cache.options_of(self._key)

    def load(self, load: Load | None, args: Any, kwargs: Any) -> Any:
        """Call the function; what an async one gives is to be awaited."""
        if self._asks is not None:
            kwargs = {**kwargs, self._asks: load or Load("", self.options)}
        value = self.function(*args, **kwargs)
        if self.is_plain and load is not None and inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise ConfigurationError(
                f"{self.name} is a plain function, and returned what is awaited; write `async def`"
            )
        return value


def _decorated(declared: Declared, cache: Cache | None) -> CachedFunction[Any, Any]:
    key_of, may_peek = declared.key_of, not declared.options.skip_l1
    max_staleness = declared.options.max_staleness

    async def call(*args: Any, **kwargs: Any) -> Any:
        mine = cache or running.only or running.cache()
        if mine is None:
            return await declared.load(None, args, kwargs)
        key = key_of(*args, **kwargs)
        if len(key) > LONGEST:
            key = shortened(key)
        seen = None
        if may_peek:
            seen = mine.peek(key, SEEK, max_staleness)
            if seen.__class__ is not Unfit:
                return seen
        return (await declared.found(mine, key, declared.loader(mine, args, kwargs), args, kwargs, seen)).value

    def bound() -> Cache:
        mine = cache or running.cache()
        if mine is None:
            raise ConfigurationError(f"{declared.name} is cached by no open Holdfast; open one before")
        return mine

    async def lookup(*args: Any, **kwargs: Any) -> Found[Any]:
        mine = bound()
        key, loader = shortened(key_of(*args, **kwargs)), declared.loader(mine, args, kwargs)
        return await declared.found(mine, key, loader, args, kwargs)

    async def delete(*args: Any, **kwargs: Any) -> None:
        await bound().delete(shortened(key_of(*args, **kwargs)))

    async def refresh(*args: Any, **kwargs: Any) -> bool:
        mine = bound()
        return await declared.refresh(mine, declared.loader(mine, args, kwargs), args, kwargs, math.inf)

    made: Any = functools.wraps(declared.function)(call)
    made.options = declared.options
    made.declared = declared
    made.lookup, made.delete, made.refresh = lookup, delete, refresh
    made.key = lambda *args, **kwargs: shortened(key_of(*args, **kwargs))
    return cast(CachedFunction[Any, Any], made)


def _gives_many(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


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
