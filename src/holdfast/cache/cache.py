"""`Cache`: what is kept near, and never older than its bound after a commit."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

import msgspec

from holdfast.cache import tags as tagging
from holdfast.cache.changes import ALL, EVENT, ChangedTags
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.flights import Flights
from holdfast.cache.freshness import Freshness
from holdfast.cache.keys import checked_key
from holdfast.cache.loader import Load, Loader, NotModified
from holdfast.cache.marks import Marks
from holdfast.cache.memory import Memory
from holdfast.cache.options import Options
from holdfast.cache.own_writes import verdict
from holdfast.cache.peeking import peeking
from holdfast.cache.renewal import Renewal
from holdfast.cache.running import running
from holdfast.errors import HoldfastError
from holdfast.journal import Journal
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.store import Store
from holdfast.store.current import Current, current

log = get_logger("holdfast.cache")

T = TypeVar("T")

_SURE = 20.0  # -ln of a chance of two in a billion: before that many loads' time is left, no read refreshes ahead
_RENEWAL = 0.25  # the share of `max_staleness` for which a read waits for the journal before it loads


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a look-up gives where nothing fresh is kept."""


class Found(msgspec.Struct, Generic[T], frozen=True):
    """A value, and how it was had.

    Attributes:
        value: what was asked for.
        stale: whether it may be older than `max_staleness` allows: loading anew failed or took too long.
        loaded: whether it was loaded for this call.
    """

    value: T
    stale: bool = False
    loaded: bool = False


class Cache:
    """The cache of one node.

    Args:
        capacity: the sum of the weights kept in memory; an entry weighs 1 unless its options say otherwise.
        options: for every call that says nothing else.

    Attributes:
        peek: `peek(key, default)` gives the fresh value that this node holds for `key`: a plain call, nothing is
            loaded and nothing waited for.

    A value served while loading anew fails or takes too long is told as `stale`; every other one is at most
    `max_staleness` behind the last commit that changed what its tags name.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        models: Iterable[type[Model]],
        *,
        capacity: int = 100_000,
        options: Options | None = None,
    ) -> None:
        self.options = options or Options()
        self._store = store
        self._journal = journal
        self._freshness = Freshness(Marks())
        self._memory = Memory(capacity)
        self._look = self._memory.get
        self.peek = peeking(self._memory, self._freshness)
        self._renewal = Renewal(self._freshness, journal, ChangedTags(models))
        self._flights: Flights[Entry] = Flights()

    def start(self) -> None:
        """Be the cache of functions that name none. The journal is followed from the first use on."""
        running.add(self)

    async def close(self) -> None:
        """Cancel the loads that are under way, and stop following."""
        running.remove(self)
        await self._flights.close()
        await self._renewal.close()

    async def get(self, key: str, default: Any = None) -> Any:
        """The fresh value that is kept for `key`, or `default`."""
        value = self.peek(key, MISSING)
        if value is not MISSING:
            return value
        entry = await self._kept(key, self.options)
        return default if entry is None else entry.value

    async def get_or_load(
        self, key: str, loader: Loader, *, options: Options | None = None, tags: Iterable[str] = (), **given: Any
    ) -> Any:
        """The fresh value of `key`, loaded with `await loader(load)` where none is kept.

        Args:
            options: in place of the cache's; `given` replaces single ones, as in `ttl="5m"`.
            tags: what the value depends on, beside what the loader says with `load.tags(…)`.

        Raises:
            Whatever the loader raises, where no older value may be served. TimeoutError: it took longer than
            `hard_timeout`. InvalidValue: the key or a tag is none.
        """
        value = self.peek(key, MISSING)
        if value is not MISSING:
            return value
        return (await self.lookup(key, loader, options=options, tags=tags, **given)).value

    async def lookup(
        self, key: str, loader: Loader, *, options: Options | None = None, tags: Iterable[str] = (), **given: Any
    ) -> Found[Any]:
        """What `get_or_load` does, and how the value was had."""
        options = (options or self.options).but(**given)
        checked_key(key)
        tags = tagging.checked(tags)
        began = boottime()
        state = current.get()
        if state is not None and verdict(state, self._freshness.covers) == "bypass":
            return Found(await self._aside(key, loader, options, tags), loaded=True)
        entry = await self._kept(key, options)
        if entry is not None and not self._is_due(entry, began):
            return Found(entry.value)
        if entry is not None:  # fresh: whoever asks has it, and the next one is loaded meanwhile
            self._flights.joined(key, lambda: self._load(key, loader, options, tags, entry))
            return Found(entry.value)
        return await self._loaded(key, loader, options, tags, began)

    async def set(
        self, key: str, value: Any, *, options: Options | None = None, tags: Iterable[str] = (), **given: Any
    ) -> None:
        """Keep `value` for `key`. It must be what the database says at the time of the call, not before.

        What may have changed meanwhile is better loaded: `get_or_load`.
        """
        options = (options or self.options).but(**given)
        checked_key(key)
        freshness = self._freshness
        seen = (freshness.epoch, freshness.tick)
        entry = self._entry(key, value, options, tagging.checked(tags), seen, boottime())
        self._keep(key, entry, options)

    async def delete(self, *keys: str) -> None:
        """End what is kept for these keys, on every node: by an event in the journal."""
        for key in keys:
            checked_key(key)
        await self._clear([_own_tag(key) for key in keys])

    async def invalidate(self, *tags: str) -> None:
        """End everything that carries one of these tags, on every node, however much it is: by one event."""
        await self._clear(tagging.checked(tags))

    async def clear(self) -> None:
        """End everything, on every node."""
        await self._clear([ALL])

    async def _clear(self, tags: Iterable[str]) -> None:
        tags = list(tags)
        if not tags:
            return
        async with self._store.unit() as unit:
            await unit.emit(EVENT, tags=tags)
        await self._renewal.now()

    async def renew(self) -> None:
        """Learn of everything that was committed before this call.

        Raises:
            Unavailable: the database cannot be reached.
        """
        await self._renewal.now()

    async def _kept(self, key: str, options: Options) -> Entry | None:
        """The fresh entry of `key`, wherever it is kept."""
        now = boottime()
        self._renewal.start(at_least=options.max_staleness)
        state = current.get()
        if state is not None and verdict(state, self._freshness.covers) == "bypass":
            return None
        if not self._freshness.is_known(now, options.max_staleness) or not self._sees_own(state):
            await self._try_to_renew(options)
            if not self._sees_own(state):
                return None
        entry = None if options.skip_l1 else self._look(key)
        return entry if entry is not None and self._may_serve(entry, now) else None

    def _may_serve(self, entry: Entry, now: float) -> bool:
        freshness = self._freshness
        return now < entry.expires and freshness.is_known(now, entry.max_staleness) and freshness.is_fresh(entry)

    def _sees_own(self, state: Current | None) -> bool:
        """Whether what this task has committed is known."""
        return state is None or state.commit <= self._freshness.covers

    async def _try_to_renew(self, options: Options) -> None:
        try:
            async with asyncio.timeout(options.max_staleness * _RENEWAL):
                await self._renewal.now()
        except (HoldfastError, TimeoutError):
            return  # then it is loaded, from a database that may be there again by then

    def _is_due(self, entry: Entry, now: float) -> bool:
        """XFetch (https://cseweb.ucsd.edu/~avattani/papers/cache_stampede.pdf): whether to load before the end."""
        if now < entry.refresh_from:
            return False
        window = (entry.expires - entry.refresh_from) / _SURE
        return now - window * math.log(1.0 - random.random()) >= entry.expires

    async def _loaded(
        self, key: str, loader: Loader, options: Options, tags: tuple[str, ...], began: float
    ) -> Found[Any]:
        older = None if options.skip_l1 else self._look(key)
        if older is not None and (older.epoch != self._freshness.epoch or boottime() >= older.kept):
            older = None
        if older is not None and began < older.retry_from:
            return Found(older.value, stale=True)
        while True:
            task, is_mine = self._flights.joined(key, lambda: self._load(key, loader, options, tags, older))
            soft = options.soft_timeout if older is not None else None
            limit = options.hard_timeout if soft is None else soft
            try:
                async with asyncio.timeout(limit):
                    entry = await asyncio.shield(task)
            except TimeoutError:
                if older is not None:
                    return Found(older.value, stale=True)
                raise TimeoutError(f"loading {key!r} took longer than hard_timeout={limit:g} s") from None
            except Exception:
                if older is None or options.fail_safe <= 0:
                    raise
                older.retry_from = boottime() + options.fail_safe_pause
                log.warning("cache_load_failed", key=key, exc_info=True)
                return Found(older.value, stale=True)
            # One that others began earlier may have read before what this caller must see.
            if is_mine or entry.began >= began or (self._may_serve(entry, began) and self._sees_own(current.get())):
                return Found(entry.value, loaded=True)

    async def _aside(self, key: str, loader: Loader, options: Options, tags: tuple[str, ...]) -> Any:
        """Load for a unit that must not share what it reads."""
        try:
            return await loader(Load(key, options, tags, None, None, False))
        except NotModified:
            raise AssertionError("said of no older value") from None

    async def _load(
        self, key: str, loader: Loader, options: Options, tags: tuple[str, ...], older: Entry | None
    ) -> Entry:
        freshness = self._freshness
        seen = (freshness.epoch, freshness.tick)  # before the loader begins to read
        load = Load(
            key,
            options,
            tags,
            None if older is None else older.value,
            None if older is None else older.note,
            older is not None,
        )
        began = boottime()
        try:
            value, note = await loader(load), load.kept_note
        except NotModified:
            assert older is not None
            value, note = older.value, older.note if load.kept_note is None else load.kept_note
        entry = self._entry(key, value, load.options, load.found_tags, seen, began, note)
        self._keep(key, entry, load.options)
        return entry

    def _entry(
        self,
        key: str,
        value: Any,
        options: Options,
        tags: tuple[str, ...],
        seen: tuple[int, int],
        began: float,
        note: Any = None,
    ) -> Entry:
        now = boottime()
        cost = now - began
        ttl = options.negative_ttl if value is None else options.ttl
        ttl *= 1.0 - options.jitter * random.random()
        ahead = options.refresh_ahead * cost
        hashes = tuple(tagging.hashed(tag) for tag in (_own_tag(key), *tags))
        return Entry(
            value,
            epoch=seen[0],
            as_of=seen[1],
            buckets=self._freshness.marks.buckets(hashes),
            hashes=hashes,
            began=began,
            max_staleness=options.max_staleness,
            refresh_from=now + max(0.0, ttl - _SURE * ahead),
            expires=now + ttl,
            kept=now + ttl + options.fail_safe,
            cost=cost,
            weight=options.weight,
            note=note,
        )

    def _keep(self, key: str, entry: Entry, options: Options) -> None:
        now = boottime()
        if not options.skip_l1 and entry.kept > now:
            self._memory.put(key, entry, now)


def _own_tag(key: str) -> str:
    """The tag by which a key alone is ended; no tag of a user's begins so."""
    return f"={key}"
