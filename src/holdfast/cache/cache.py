"""`Cache`: what is kept near, and never older than its bound after a commit."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

from holdfast.cache import tags as tagging
from holdfast.cache.asked import Asked, Kept
from holdfast.cache.batches import Batches
from holdfast.cache.changes import ALL, CacheCleared, ChangedTags
from holdfast.cache.clock import boottime
from holdfast.cache.durations import Duration, seconds
from holdfast.cache.entry import SURE, Entry
from holdfast.cache.finding import Finder
from holdfast.cache.found import Found
from holdfast.cache.freshness import Freshness
from holdfast.cache.keyed import Keyed
from holdfast.cache.keys import checked_key, shortened
from holdfast.cache.loader import Load, LoadMany, ManyLoader
from holdfast.cache.loads import Loads
from holdfast.cache.marks import Marks
from holdfast.cache.memory import Memory, Size
from holdfast.cache.namespace import Namespace
from holdfast.cache.options import Options
from holdfast.cache.own_writes import sees_own, verdict
from holdfast.cache.peeking import SEEK, Peek, Unfit, peeking
from holdfast.cache.registry import Key, registry
from holdfast.cache.remote import Remote
from holdfast.cache.renewal import Renewal
from holdfast.cache.report import CacheReport, Span, reported
from holdfast.cache.results import Results
from holdfast.cache.rows import Rows, RowsOfModels
from holdfast.cache.running import running
from holdfast.cache.statistics import Statistics
from holdfast.cache.telemetry import telemetry
from holdfast.cache.ttls import Ttls
from holdfast.cache.turns import Turns
from holdfast.cache.warming import Warmer
from holdfast.cache.wire import codec_of
from holdfast.cache.write_through import WriteThrough
from holdfast.errors import HoldfastError
from holdfast.journal import Journal
from holdfast.model import Model
from holdfast.store import Store
from holdfast.store.current import current
from holdfast.store.redis import Redis

M = TypeVar("M", bound=Model)

_RENEWAL = 0.25  # the share of `max_staleness` for which a read waits for the journal before it loads


class Cache:
    """The cache of one node.

    Args:
        redis: where nodes share what they have loaded; closed with the cache.
        capacity: the sum of the weights kept in memory; an entry weighs 1 unless its options say otherwise.
        options: for every call that says nothing else.
        ttls: of declared keys, in place of what they say: `shop.price=5s, shop.user=1m`.

    Attributes:
        peek: `peek(key, default)` gives the fresh value that this node holds for `key`: a plain call, nothing is
            loaded and nothing waited for.
        statistics: how it is used, since it was opened.
        warmer: loads what is declared to be kept warm, before somebody asks.

    A value served while loading anew fails or takes too long is told as `stale`; every other one is at most
    `max_staleness` behind the last commit that changed what its tags name.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        models: Iterable[type[Model]],
        *,
        redis: Redis | None = None,
        capacity: int = 100_000,
        options: Options | None = None,
        ttls: str = "",
    ) -> None:
        self.options = options or Options()
        self._ttls = Ttls(ttls)
        models = list(models)
        self._store = store
        self._journal = journal
        self._freshness = Freshness(Marks())
        self._memory = Memory(capacity)
        self.peek: Peek = peeking(self._memory, self._freshness)
        self.statistics = Statistics()
        self._renewal = Renewal(self._freshness, journal, ChangedTags(models), self.statistics)
        self._redis = redis
        self._turns = None if redis is None else Turns(redis)
        self._remote = remote = None if redis is None else Remote(redis, self._freshness.marks)
        self._finder = Finder(self._freshness, self._memory, remote)
        results = None if store.in_memory else Results(store, self._freshness.marks)
        self._loads = Loads(self._finder, self._memory, remote, self._turns, results)
        self._batches = Batches(self._loads)
        self.warmer = Warmer(self)
        self._rows = RowsOfModels(self, store, models)
        self._write_through = WriteThrough(self, store, models)

    def start(self) -> None:
        """Be the cache of functions that name none. The journal is followed from the first use on."""
        running.add(self)
        telemetry.start()
        self._ttls.tell_unknown()

    async def close(self) -> None:
        """Cancel the loads that are under way, and stop following."""
        running.remove(self)
        await self.warmer.close()
        await self._write_through.close()
        await self._loads.close()
        await self._renewal.close()
        if self._turns is not None and self._redis is not None:
            await self._turns.close()
            await self._redis.close()

    async def get(self, key: str, default: Any = None, *, options: Options | None = None, kind: Any = Any) -> Any:
        """The fresh value that is kept for `key`, here or in Redis, or `default`.

        Args:
            options: in place of the cache's.
            kind: the type of the value, as it was given when it was kept.
        """
        value = self.peek(key, SEEK)
        if value.__class__ is not Unfit:
            return value
        asked = self.ask(key, _nothing, options or self.options, (), kind, value)
        kept = await self._found(asked)
        return default if kept is None or kept.fresh is None else kept.fresh.value

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[Load], Awaitable[Any]],
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> Any:
        """The fresh value of `key`, loaded with `await loader(load)` where none is kept.

        Args:
            options: in place of the cache's; `given` replaces single ones, as in `ttl="5m"`.
            tags: what the value depends on, beside what the loader says with `load.tags(…)`.
            kind: the type of the value; without it, it is made of dicts, lists, texts, numbers and bytes.

        Raises:
            Whatever the loader raises, where no older value may be served. TimeoutError: it took longer than
            `hard_timeout`. InvalidValue: the key or a tag is none, or the value cannot be kept for other nodes.
        """
        options = (options or self.options).but(**given)
        seen = None
        if not options.skip_l1:
            seen = self.peek(key, SEEK)
            if seen.__class__ is not Unfit:
                return seen
        return (await self.answer(self.ask(key, loader, options, tags, kind, seen))).value

    async def lookup(
        self,
        key: str,
        loader: Callable[[Load], Awaitable[Any]],
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> Found[Any]:
        """What `get_or_load` does, and how the value was had."""
        options = (options or self.options).but(**given)
        return await self.answer(self.ask(key, loader, options, tags, kind))

    async def refresh(
        self,
        key: str,
        loader: Callable[[Load], Awaitable[Any]],
        *,
        lasting: Duration = math.inf,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> bool:
        """Load the value of `key`, while the one that is kept is served.

        Args:
            lasting: leave it at that where one is kept, here or in Redis, that has so long to its end.
            loader, options, tags, kind, given: as `get_or_load` has them.

        Returns:
            Whether it was loaded. Within a unit that has written it is not, for the value would be the unit's own.

        Raises:
            Whatever the loader raises.
        """
        options = (options or self.options).but(**given)
        asked = self.ask(key, loader, options, tags, kind)
        if await self._ready(options) == "bypass":
            return False
        until = asked.began + (math.inf if lasting == math.inf else seconds(lasting, "lasting"))
        entry = self._memory.get(key)
        if entry is not None and entry.expires >= until and self._finder.may_serve(entry, asked.began):
            return False
        return await self._loads.renew(asked, entry, until)

    async def answer(self, asked: Asked) -> Found[Any]:
        """What is kept for what somebody asks, or loaded."""
        kept = await self._found(asked)
        if kept is None:  # what is loaded now is for this unit alone
            asked.tally.bypassed()
            load = Load(asked.key, asked.options, asked.tags, None, None, False)
            return Found(await asked.loader(load), loaded=True)
        if kept.fresh is not None:
            if _is_due(kept.fresh, asked.began):
                self._loads.refresh(asked, kept.fresh)
            return Found(kept.fresh.value)
        entry, is_stale = await self._loads.load(asked, kept.older, self._sees_own)
        return Found(entry.value, stale=is_stale, loaded=not is_stale)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> None:
        """Keep `value` for `key`. It must be what the database says at the time of the call, not before.

        What may have changed meanwhile is better loaded: `get_or_load`.

        Raises:
            InvalidValue: the key or a tag is none, or the value cannot be kept for other nodes.
        """
        options = (options or self.options).but(**given)
        asked = self.ask(key, _nothing, options, tags, kind)
        self._renewal.start(at_least=options.max_staleness)
        if not self._freshness.epoch or not self._sees_own():
            await self._try_to_renew(options)
        await self._loads.put(asked, value)

    async def get_many(self, keys: Iterable[str], *, kind: Any = Any) -> dict[str, Any]:
        """The fresh values that are kept among `keys`, by key, in their order; one question to Redis for all."""
        order = list(dict.fromkeys(keys))
        found, asked = self._peeked(order, self.options, (), kind)
        if asked and (await self._ready(self.options)) == "use":
            kept = await self._finder.find_many(asked)
            found |= {key: one.fresh.value for key, one in kept.items() if one.fresh is not None}
        return {key: found[key] for key in order if key in found}

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> None:
        """Keep values by key; see `set`."""
        for key, value in values.items():
            await self.set(key, value, options=options, tags=tags, kind=kind, **given)

    async def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[LoadMany], Awaitable[Mapping[str, Any]]],
        *,
        options: Options | None = None,
        tags: Iterable[str] = (),
        kind: Any = Any,
        **given: Any,
    ) -> dict[str, Any]:
        """The fresh values of `keys`, in their order; those that are not kept are loaded by one call of the loader.

        Args:
            loader: `await loader(load)` returns the values of `load.keys` by key; one that it leaves out is None.
            options, tags, kind, given: as `get_or_load` has them.

        Raises:
            As `get_or_load`.
        """
        options = (options or self.options).but(**given)
        order = list(dict.fromkeys(keys))
        found, asked = self._peeked(order, options, tagging.checked(tags), kind)
        if asked:
            found |= await self._rest(asked, loader, options)
        return {key: found[key] for key in order} if asked else found

    async def _rest(self, asked: dict[str, Asked], loader: ManyLoader, options: Options) -> dict[str, Any]:
        ready = await self._ready(options)
        if ready == "bypass":  # what is loaded now is for this unit alone
            for one in asked.values():
                one.tally.bypassed()
            loads = {key: Load(key, options, one.tags, None, None, False) for key, one in asked.items()}
            values = await loader(LoadMany(loads))
            return {key: values.get(key) for key in asked}
        if ready == "use":
            kept = await self._finder.find_many(asked)
        else:
            kept = dict.fromkeys(asked, Kept(None))
            for one in asked.values():
                one.tally.missed()
        found = {key: one.fresh.value for key, one in kept.items() if one.fresh is not None}
        missing = {asked[key]: one.older for key, one in kept.items() if one.fresh is None}
        if missing:
            loaded = await self._batches.load(missing, loader, self._sees_own)
            found |= {key: entry.value for key, (entry, _) in loaded.items()}
        return found

    def _peeked(
        self, keys: Iterable[str], options: Options, tags: tuple[str, ...], kind: Any
    ) -> tuple[dict[str, Any], dict[str, Asked]]:
        """What this node holds for `keys`, and what is to be asked for the others."""
        found: dict[str, Any] = {}
        asked: dict[str, Asked] = {}
        codec, began = codec_of(kind), boottime()
        peek, skips = self.peek, options.skip_l1
        for key in keys:
            value = None if skips else peek(key, SEEK)
            if skips or value.__class__ is Unfit:
                tally = self.statistics.tally(checked_key(key), options)
                asked[key] = Asked(key, _nothing, options, tags, codec, began, tally, value)
            else:
                found[key] = value
        return found, asked

    async def delete(self, *keys: str) -> None:
        """End what is kept for these keys, on every node: by an event in the journal."""
        await self._clear([tagging.of_key(checked_key(key)) for key in keys])

    async def invalidate(self, *tags: str) -> None:
        """End everything that carries one of these tags, on every node, however much it is: by one event."""
        await self._clear(tagging.checked(tags))

    async def clear(self) -> None:
        """End everything, on every node."""
        await self._clear([ALL])

    def namespace(
        self, name: str, *, options: Options | None = None, tags: Iterable[str] = (), **given: Any
    ) -> Namespace:
        """Keys that begin with `name:`, which end together; `options` and `given` are those of its values.

        Raises:
            InvalidValue: the name or a tag is none. ConfigurationError: an option makes no sense.
        """
        checked_key(f"{name}:")
        options = (options or self.options).but(**{"counted_as": f"{name}:*", **given})
        return Namespace(self, name, options, tagging.checked(tags))

    def size(self) -> Size:
        """How much this node keeps in memory."""
        return self._memory.size()

    def report(self, span: Span = "hour") -> CacheReport:
        """How this node's cache is used: figures by template, tier, tag, endpoint and time, and what to look at."""
        declared = ((one.name, shortened(one.template)) for one in registry.all())
        return reported(self.statistics, self.size(), self.redis_state(), span, declared)

    def redis_state(self) -> Literal["none", "ok", "away"]:
        """Whether there is a Redis, and whether it answers."""
        return "none" if self._redis is None else "away" if self._redis.is_away else "ok"

    @contextmanager
    def counted_as(self, endpoint: str) -> Iterator[None]:
        """Count the reads of a block of code for `endpoint` too, such as `"GET /orders"`.

        `holdfast.http` does so for its own routes.
        """
        with self.statistics.counting() as counts:
            try:
                yield
            finally:
                self.statistics.endpoints.add(endpoint, counts)

    @overload
    def __getitem__(self, what: type[M]) -> Rows[M]: ...

    @overload
    def __getitem__(self, what: Key) -> Keyed: ...

    def __getitem__(self, what: type[M] | Key) -> Rows[M] | Keyed:
        """The rows of a model by key, or the values of a declared key by its parts.

        As in `await hold.cache[Agent].get(id)` and `await hold.cache[PRICE].get(symbol="SOL")`.

        Raises:
            InvalidValue: it is neither. ConfigurationError: rows of the model cannot be kept.
        """
        if isinstance(what, Key):
            what.is_used = True
            return Keyed(self, what)
        return self._rows.of(what)

    def options_of(self, declared: Key) -> Options:
        """How the values of a declared key are kept here: as it says, but for the TTLs that settings say."""
        return self._ttls.options_of(declared)

    async def remove_matching(self, pattern: str) -> int:
        """Clean up: drop from Redis what has a key like `pattern` (`*`, `?`, `[…]`), and all of this node's memory.

        It looks at every key in Redis, by SCAN, a thousand at a time, and returns how many it dropped. It is no
        promise: other nodes keep what they have in memory, and what is being loaded is kept afterwards. To end values
        for good give them a tag or a namespace.
        """
        checked_key(pattern)
        self._memory.clear()
        return 0 if self._remote is None else await self._remote.remove_matching(pattern)

    async def renew(self) -> None:
        """Learn of everything that was committed before this call.

        Raises:
            Unavailable: the database cannot be reached.
        """
        await self._renewal.now()

    async def _clear(self, tags: Sequence[str]) -> None:
        if not tags:
            return
        freshness = self._freshness
        # Here it holds at once. The event's tick is a later one than the last, but no mark may be later than that:
        # where nothing else is committed no other tick comes, and nothing with these tags would be fresh again.
        tick = freshness.tick + 1
        async with self._store.unit() as unit:
            await unit.emit(CacheCleared(), tags=tags)
        if ALL in tags:
            freshness.everything_changed(tick)
        else:
            freshness.changed(tags, tick)

    def ask(
        self,
        key: str,
        loader: Callable[[Load], Awaitable[Any]],
        options: Options,
        tags: Iterable[str],
        kind: Any,
        seen: Unfit | None = None,
    ) -> Asked:
        """What somebody wants; see there."""
        tally = self.statistics.tally(checked_key(key), options)
        return Asked(key, loader, options, tagging.checked(tags), codec_of(kind), boottime(), tally, seen)

    async def _found(self, asked: Asked) -> Kept | None:
        """What is kept for a key, by what is known of the journal now; None where the cache is to be left alone."""
        if current.get() is None and self._freshness.is_known(asked.began, asked.options.max_staleness):
            return await self._finder.find(asked)  # which is how it mostly is
        ready = await self._ready(asked.options)
        if ready == "bypass":
            return None
        if ready == "use":
            return await self._finder.find(asked)
        asked.tally.missed()
        return Kept(None)

    async def _ready(self, options: Options) -> Literal["use", "load", "bypass"]:
        """What may be done with the cache now, by what is known of the journal and what this task writes."""
        state = current.get()
        if state is not None and verdict(state, self._freshness.covers) == "bypass":
            return "bypass"
        self._renewal.start(at_least=options.max_staleness)
        if not self._freshness.is_known(boottime(), options.max_staleness) or not self._sees_own():
            await self._try_to_renew(options)
        return "use" if self._sees_own() else "load"

    def _sees_own(self) -> bool:
        """Whether what this task has committed is known here."""
        return sees_own(self._freshness.covers)

    async def _try_to_renew(self, options: Options) -> None:
        try:
            async with asyncio.timeout(options.max_staleness * _RENEWAL):
                await self._renewal.now()
        except (HoldfastError, TimeoutError):
            return  # then it is loaded, from a database that may be there again by then


def _is_due(entry: Entry, now: float) -> bool:
    """XFetch (https://cseweb.ucsd.edu/~avattani/papers/cache_stampede.pdf): whether to load before the end."""
    if now < entry.refresh_from:
        return False
    window = (entry.expires - entry.refresh_from) / SURE
    return now - window * math.log(1.0 - random.random()) >= entry.expires


async def _nothing(load: Load) -> None:
    raise AssertionError("nothing is loaded")
