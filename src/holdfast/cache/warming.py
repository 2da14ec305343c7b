"""Warming: values that are loaded before somebody asks, by declared sets, at the start and again before they end."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.cache.clock import boottime
from holdfast.cache.decorator import Declared
from holdfast.cache.durations import Duration, seconds
from holdfast.cache.functions import CachedFunction, PlainCachedFunction
from holdfast.cache.plain import loader_of
from holdfast.cache.warming_turns import Turn, WarmingTurns
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.logs import get_logger
from holdfast.shared import is_cancelled

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache

log = get_logger("holdfast.cache")

Calls = Callable[[], Coroutine[Any, Any, Iterable[Any]] | Iterable[Any]]
F = TypeVar("F", bound=Calls)

_MOST = 100_000  # keys of a set
_MARGIN = 1.2  # how many intervals a value must last, so that one late pass is not noticed
_LOOK = 1.0  # seconds between looks at what is due, at most


class WarmSet(msgspec.Struct, frozen=True):
    """Calls of a cached function whose values are kept warm.

    Attributes:
        name: of the function that names the calls.
        function: the cached function.
        calls: `await calls()`, or `calls()` of a plain function, gives the arguments of each: a tuple, a dict by name,
            or the one argument.
        every: seconds from pass to pass; None for one at the start alone.
        priority: the greater goes first; among equals, what is read more.
    """

    name: str
    function: Declared
    calls: Calls
    every: float | None
    priority: int


class Warmed(msgspec.Struct, frozen=True):
    """One pass over one set.

    Attributes:
        name, template: of the set, and of its keys.
        keys: how many there are; of these
        loaded, kept, failed: were loaded, are kept for long enough, could not be loaded.
        seconds: how long it took.
        at: when it ended, seconds since 1970.
        error: why the set could not be told, or why the first key failed.
    """

    name: str
    template: str
    keys: int
    loaded: int
    kept: int
    failed: int
    seconds: float
    at: float
    error: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a pass is: so many of so many keys of the set."""

    name: str
    done: int
    keys: int


_sets: dict[str, WarmSet] = {}


def warms(
    function: CachedFunction[Any, Any] | PlainCachedFunction[Any, Any],
    *,
    every: Duration | None = None,
    priority: int = 0,
) -> Callable[[F], F]:
    """Declare that calls of a cached function are to be kept warm; the decorated function names them.

    Plain functions, cached ones and those that name the calls, run in threads of their own.

    Args:
        every: from pass to pass, less than the values are kept; without it they are loaded at the start alone.
        priority: the greater goes first; among equals, what is read more.

    Raises:
        ConfigurationError: the function is not cached, a plain function names the calls of an async one, or `every` is
            too long.

    Example::

        @cached(key="price:{symbol}", ttl="60s")
        async def price(symbol: str) -> float: ...

        @warms(price, every="30s")
        async def quoted() -> list[str]:
            return ["BTC", "ETH", "SOL"]
    """
    declared = getattr(function, "declared", None)
    if not isinstance(declared, Declared):
        raise ConfigurationError(f"@warms takes a function under @cached, which {function!r} is not")
    interval = None if every is None else seconds(every, "every", least=0.1)
    if interval is not None and interval >= declared.options.ttl:
        raise ConfigurationError(
            f"@warms({declared.name}, every={every!r}): its values are kept for {declared.options.ttl:g} s, and would"
            " end in between; load them more often, or keep them for longer"
        )

    def decorate(calls: F) -> F:
        if not declared.is_plain and not inspect.iscoroutinefunction(calls):
            raise ConfigurationError(f"what names the calls to warm must be async, which {calls!r} is not")
        name = f"{calls.__module__}.{calls.__qualname__}"
        _sets[name] = WarmSet(name, declared, calls, interval, priority)
        return calls

    return decorate


def warm_sets() -> list[WarmSet]:
    """Every set that was declared in this process."""
    return list(_sets.values())


class Warmer:
    """Warms one cache.

    Attributes:
        last: the newest pass over each set, by name.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._task: asyncio.Task[None] | None = None
        self.last: dict[str, Warmed] = {}

    async def run(
        self,
        names: Sequence[str] | None = None,
        *,
        per_second: float = 100.0,
        at_once: int = 4,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> list[Warmed]:
        """One pass over the sets, or those of some names, the most important first.

        Args:
            per_second: keys that are begun in a second at most.
            at_once: loads under way at most.

        Raises:
            InvalidValue: there is no set of a name, or a rate is none.
        """
        if not per_second > 0 or at_once < 1:
            raise InvalidValue(f"per_second={per_second!r} and at_once={at_once!r} must be more than 0")
        known = {one.name: one for one in warm_sets()}
        for name in names or ():
            if name not in known:
                raise InvalidValue(f"there is no set {name!r} to warm; there are {', '.join(known) or 'none'}")
        chosen = self.ordered(known.values() if names is None else [known[name] for name in dict.fromkeys(names)])
        turns = WarmingTurns(per_second, at_once)
        return [await self._pass(one, turns, progress) for one in chosen]

    def ordered(self, sets: Iterable[WarmSet]) -> list[WarmSet]:
        """Sets by priority, and by how much their values were read in the last hour."""
        reads = self._reads()
        return sorted(sets, key=lambda one: (-one.priority, -reads.get(one.function.template, 0), one.name))

    def _reads(self) -> dict[str, int]:
        return {figures.name: figures.reads for figures in self._cache.report().templates}

    def start(self, *, per_second: float = 100.0, at_once: int = 4) -> None:
        """Keep every set warm from now on, in the background: a first pass at once, then as each says."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(per_second, at_once), name="cache warming")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, per_second: float, at_once: int) -> None:
        turns = WarmingTurns(per_second, at_once)
        due: dict[str, float] = {}
        passing: dict[str, asyncio.Task[Warmed]] = {}
        try:
            while True:
                now = boottime()
                passing = {name: task for name, task in passing.items() if not task.done()}
                for one in warm_sets():
                    # One that takes long, or hangs, is not begun again meanwhile, and keeps no other from it.
                    if one.name not in passing and due.get(one.name, now) <= now:
                        due[one.name] = now + one.every if one.every is not None else float("inf")
                        passing[one.name] = asyncio.create_task(self._pass(one, turns), name=f"warming {one.name}")
                soonest = min(due.values(), default=float("inf"))
                await asyncio.sleep(max(0.01, min(_LOOK, soonest - boottime())))
        finally:
            for task in passing.values():
                task.cancel()
            await asyncio.gather(*passing.values(), return_exceptions=True)

    async def _calls(self, one: WarmSet) -> Iterable[Any]:
        calls: Any = one.calls
        if not inspect.iscoroutinefunction(calls):
            calls = loader_of(self._cache, one.name, calls, apart=True)
        named: Iterable[Any] = await calls()
        return named

    async def _pass(
        self, one: WarmSet, turns: WarmingTurns, progress: Callable[[Progress], None] = lambda progress: None
    ) -> Warmed:
        began, error = time.perf_counter(), None
        calls: list[Any] = []
        counts = {"loaded": 0, "kept": 0, "failed": 0}
        try:
            calls = list(await self._calls(one))
            if len(calls) > _MOST:
                raise InvalidValue(f"{one.name} names {len(calls):,} calls; {_MOST:,} may be kept warm")
        except (Exception, asyncio.CancelledError) as problem:  # a set that fails is told, and stops no other
            if is_cancelled():
                raise
            calls, error = [], str(problem) or type(problem).__name__
            log.warning("cache_set_not_warmed", set=one.name, reason=error)
        lasting = 0.0 if one.every is None else one.every * _MARGIN
        reads = self._reads().get(one.function.template, 0)

        async def load(call: Any, turn: Turn) -> None:
            nonlocal error
            try:
                args, kwargs = _arguments(call)
                loader = one.function.loader(self._cache, args, kwargs, apart=True)
                loaded = await one.function.refresh(self._cache, loader, args, kwargs, lasting)
                counts["loaded" if loaded else "kept"] += 1
            except (Exception, asyncio.CancelledError) as problem:  # as above
                if is_cancelled():
                    raise
                counts["failed"] += 1
                if error is None:
                    error = f"{call!r}: {problem}"[:500]
                    log.warning("cache_value_not_warmed", set=one.name, reason=error)
            finally:
                turn.end()
            progress(Progress(one.name, sum(counts.values()), len(calls)))

        progress(Progress(one.name, 0, len(calls)))
        async with asyncio.TaskGroup() as group:
            for call in calls:
                turn = await turns.take(one.priority, reads, patience=one.function.options.lease)
                group.create_task(load(call, turn))
        found = Warmed(
            name=one.name,
            template=one.function.template,
            keys=len(calls),
            seconds=round(time.perf_counter() - began, 3),
            at=time.time(),
            error=error,
            **counts,
        )
        self.last[one.name] = found
        return found


def _arguments(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(call, dict):
        return (), call
    return (call if isinstance(call, tuple) else (call,)), {}
