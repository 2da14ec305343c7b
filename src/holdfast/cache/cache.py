"""`Cache`: what is kept near, and never older than its bound after a commit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

from holdfast.cache import tags as tagging
from holdfast.cache.answers import Answers
from holdfast.cache.asked import Asked
from holdfast.cache.changes import ALL, MEMORY, CacheCleared, ChangedTags
from holdfast.cache.declared import Key
from holdfast.cache.durations import Duration, seconds
from holdfast.cache.finding import Finder
from holdfast.cache.found import Found
from holdfast.cache.freshness import Freshness
from holdfast.cache.keyed import Keyed
from holdfast.cache.keys import checked_key, distinct, shortened
from holdfast.cache.loader import Load, LoadMany, checked_loader
from holdfast.cache.loads import Loads
from holdfast.cache.marks import Marks
from holdfast.cache.memory import Memory, Size
from holdfast.cache.namespace import Namespace
from holdfast.cache.options import DEFAULT, Options, chosen
from holdfast.cache.peeking import SEEK, Peek, Unfit, peeking
from holdfast.cache.plain import Reach, reached_by
from holdfast.cache.registry import registry
from holdfast.cache.remote import Remote
from holdfast.cache.renewal import Renewal
from holdfast.cache.report import CacheReport, Span, reported
from holdfast.cache.results import Results
from holdfast.cache.rows import Rows, RowsOfModels
from holdfast.cache.running import running
from holdfast.cache.statistics import Statistics
from holdfast.cache.telemetry import offer_counts
from holdfast.cache.ttls import Ttls
from holdfast.cache.turns import Turns
from holdfast.cache.warming import Warmer
from holdfast.cache.wire import codec_of
from holdfast.cache.write_through import WriteThrough
from holdfast.errors import InvalidValue
from holdfast.journal import Journal
from holdfast.model import Model
from holdfast.store import Store
from holdfast.store.current import own_unit
from holdfast.store.redis import Redis

M = TypeVar("M", bound=Model)

_BOUND = DEFAULT.max_staleness


class Cache:
    """The cache of one node.

    Args:
        redis: where nodes share what they have loaded; closed with the cache.
        capacity: the sum of the weights kept in memory; an entry weighs 1 unless its options say otherwise.
        ttls: of declared keys, in place of what they say: `shop.price=5s, shop.user=1m`.

    Attributes:
        peek: `peek(key, default)` gives the fresh value that this node holds for `key`: a plain call, nothing is
            loaded and nothing waited for.
        statistics: how it is used, since it was opened.
        warmer: loads what is declared to be kept warm, before somebody asks.
        answers: what is behind the methods, for the other parts of this room.
        reach: how plain code reaches it, where it was opened by the blocking face.

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
        ttls: str = "",
    ) -> None:
        self._ttls = Ttls(ttls)
        models = list(models)
        self._store = store
        self._journal = journal
        self._freshness = Freshness(Marks())
        self._memory = Memory(capacity)
        self.peek: Peek = peeking(self._memory, self._freshness)
        self.statistics = Statistics()
        self._renewal = Renewal(self._freshness, journal, ChangedTags(models), self.statistics, self._memory.clear)
        self._redis = redis
        self._turns = None if redis is None else Turns(redis)
        self._remote = remote = None if redis is None else Remote(redis, self._freshness.marks)
        finder = Finder(self._freshness, self._memory, remote)
        self._results = None if store.in_memory else Results(store, self._freshness.marks)
        self._loads = Loads(finder, self._memory, remote, self._turns, self._results)
        self.answers = Answers(self.peek, finder, self._loads, self._renewal, self.statistics)
        self.warmer = Warmer(self)
        self.reach: Reach | None = None
        self._rows = RowsOfModels(self, store, models)
        self._write_through = WriteThrough(self, store, models)

    def start(self) -> None:
        """Be the cache of functions that name none. The journal is followed from the first use on."""
        self.reach = reached_by.get()
        running.add(self)
        offer_counts()
        self._ttls.tell_unknown()

    async def close(self) -> None:
        """Cancel the loads that are under way, and stop following.

        After that nothing is kept or served: `peek` finds nothing, and the other methods raise `Unavailable`. In a unit
        that is still open and has written, values are loaded for it alone, as before.
        """
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
            options: in place of the usual ones.
            kind: the type of the value, as it was given when it was kept.
        """
        if options is None:
            value = self.peek(key, SEEK, _BOUND)
        else:
            value = SEEK if chosen(options, {}).skip_l1 else self.peek(key, SEEK, options.max_staleness)
        if value.__class__ is not Unfit:
            return value
        return await self.answers.get(key, default, options or DEFAULT, kind, value)

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
            options: in place of the usual ones; `given` replaces single ones, as in `ttl="5m"`.
            tags: what the value depends on, beside what the loader says with `load.tags(…)`.
            kind: the type of the value; without it, it is made of dicts, lists, texts, numbers and bytes.

        Raises:
            Whatever the loader raises, where no older value may be served. TimeoutError: it took longer than
            `hard_timeout`. InvalidValue: the key or a tag is none, or the value cannot be kept for other nodes.
        """
        options = chosen(options, given)
        seen = None
        if not options.skip_l1:
            seen = self.peek(key, SEEK, options.max_staleness)
            if seen.__class__ is not Unfit:
                return seen
        return (
            await self.answers.answer(self.answers.ask(key, checked_loader(loader), options, tags, kind, seen))
        ).value

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
        options = chosen(options, given)
        return await self.answers.answer(self.answers.ask(key, checked_loader(loader), options, tags, kind))

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
        options = chosen(options, given)
        asked = self.answers.ask(key, checked_loader(loader), options, tags, kind)
        until = asked.began + (math.inf if lasting == math.inf else seconds(lasting, "lasting"))
        return await self.answers.refresh(asked, until)

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
        options = chosen(options, given)
        await self.answers.put([(self.answers.ask(key, None, options, tags, kind), value)])

    async def get_many(self, keys: Iterable[str], *, options: Options | None = None, kind: Any = Any) -> dict[str, Any]:
        """The fresh values that are kept among `keys`, by key, in their order; one question to Redis for all."""
        options, order = chosen(options, {}), distinct(keys)
        found, missing = self.answers.peek_many(order, options)
        if missing:
            found |= await self.answers.kept_many(missing, options, codec_of(kind))
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
        """Keep values by key, all of them or none, by one question to Redis; see `set`."""
        options, carried = chosen(options, given), tagging.checked(tags)
        given_values = [(self.answers.ask(key, None, options, carried, kind), value) for key, value in values.items()]
        if given_values:
            await self.answers.put(given_values)

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
        options = chosen(options, given)
        order, carried = distinct(keys), tagging.checked(tags)
        found, missing = self.answers.peek_many(order, options)
        if not missing:
            return found

        def ask(key: str, seen: Unfit | None) -> Asked:
            return self.answers.ask(key, None, options, carried, kind, seen)

        found |= await self.answers.answer_many(missing, ask, checked_loader(loader), options, codec_of(kind))
        return {key: found[key] for key in order}

    async def delete(self, *keys: str) -> None:
        """End what is kept for these keys, on every node: by an event in the journal.

        Within a unit of this task that may write, the event is committed or undone with it; so it is for `invalidate`
        and `clear`.
        """
        await self.end([tagging.of_key(checked_key(key)) for key in keys])

    async def invalidate(self, *tags: str) -> None:
        """End everything that carries one of these tags, on every node, however much it is: by one event."""
        await self.end(tagging.checked(tags))

    async def clear(self) -> None:
        """End everything, on every node."""
        await self.end([ALL])

    def namespace(
        self, name: str, *, options: Options | None = None, tags: Iterable[str] = (), **given: Any
    ) -> Namespace:
        """Keys that begin with `name:`, which end together; `options` and `given` are those of its values.

        Raises:
            InvalidValue: the name or a tag is none. ConfigurationError: an option makes no sense.
        """
        if ":" in checked_key(name):
            raise InvalidValue(
                f"the namespace {name!r} has a colon, and could meet another one; write {name.replace(':', '.')!r}"
            )
        options = chosen(options, {"counted_as": f"{name}:*", **given})
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

        Raises:
            Unavailable: Redis did not answer, or refused; it says how many were dropped until then.
        """
        checked_key(pattern)
        self._renewal.check_open()
        self._memory.clear()
        return 0 if self._remote is None else await self._remote.remove_matching(pattern)

    async def sweep(self) -> int:
        """Remove for good what may never be served again: from Redis, from the table of results, from every memory.

        What ended is served by nobody, and yet lies there until its time is over or room is wanted. It looks at every
        entry of Redis and of the table, and returns how many it removed. All nodes drop the whole of what they have in
        memory. A node that has only just begun removes what was loaded before the journal begins too, for it cannot
        know of it.

        Raises:
            Unavailable: the database or Redis did not answer, or the cache is closed.
        """
        await self._renewal.replayed()
        swept = 0 if self._remote is None else await self._remote.sweep(self._freshness)
        swept += 0 if self._results is None else await self._results.sweep(self._freshness)
        await self.end([MEMORY])
        self._memory.clear()
        return swept

    def forget(self, *keys: str) -> None:
        """Clean up: drop these keys from the memory of this node. Nothing ends: what lies elsewhere stays there."""
        self._memory.remove(keys)

    async def renew(self) -> None:
        """Learn of everything that was committed before this call.

        Raises:
            Unavailable: the database cannot be reached, or the cache is closed.
        """
        await self._renewal.now()

    async def end(self, tags: Sequence[str]) -> None:
        """End what carries these tags, those of keys and rows too; within a unit that may write, with its commit."""
        if not tags:
            return
        # Here it holds at once. The event's tick is a later one than the last, but no mark may be later than that:
        # where nothing else is committed no other tick comes, and nothing with these tags would be fresh again.
        tick = self._freshness.tick + 1
        mine = own_unit(self._store)
        if mine is not None:
            await mine.emit(CacheCleared(), tags=tags)
            mine.after_commit(lambda: self._ended(tags, tick))
            return
        async with self._store.unit() as unit:
            await unit.emit(CacheCleared(), tags=tags)
        self._ended(tags, tick)

    def _ended(self, tags: Sequence[str], tick: int) -> None:
        if ALL in tags:
            self._freshness.everything_changed(tick)
        else:
            self._freshness.changed(tags, tick)
