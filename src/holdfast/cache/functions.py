"""What `@cached` makes of a function, as a type checker sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, overload

from holdfast.cache.options import Options

if TYPE_CHECKING:
    from holdfast.cache.found import Found

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", covariant=True)


class CachedFunction(Protocol[P, R]):
    """A function whose values are kept; it is called as before.

    Attributes:
        options: how its values are kept.
    """

    __name__: str
    options: Options

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Coroutine[Any, Any, R]]: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...

    async def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Found[Any]:
        """The value, and how it was had."""
        ...

    async def delete(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """End the value for these arguments, on every node."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Load the value for these arguments anew, while the one that is kept is served; False within a unit that has
        written."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the value for these arguments is kept."""
        ...


class PlainCachedFunction(Protocol[P, R]):
    """A plain function whose values are kept; it is called as before.

    Attributes:
        options: how its values are kept.
    """

    __name__: str
    options: Options

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., R]: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Found[Any]:
        """The value, and how it was had."""
        ...

    def delete(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """End the value for these arguments, on every node."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Load the value for these arguments anew, while the one that is kept is served; False within a unit that has
        written."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the value for these arguments is kept."""
        ...


class Keeping(Protocol):
    """What `cached(…)` gives: it takes an async function, or a plain one."""

    # Every async function is a plain one that returns what is awaited, too: the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Awaitable[T]], /
    ) -> CachedFunction[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> PlainCachedFunction[P, T]: ...
