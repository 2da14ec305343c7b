"""Loading a value: once over all who ask, for as long as they may wait, with the older value where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec

from holdfast.cache import tags as tagging
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.flights import Flights
from holdfast.cache.freshness import Freshness
from holdfast.cache.loader import Load, Loader, LoadMany, ManyLoader, NotModified
from holdfast.cache.memory import Memory
from holdfast.cache.options import Options
from holdfast.cache.remote import Remote
from holdfast.cache.turns import Turns
from holdfast.cache.wire import Codec
from holdfast.logs import get_logger
from holdfast.store.redis import Away

log = get_logger("holdfast.cache")

_SHARING = 1.0  # seconds that closing waits for what is being shared
SURE = 20.0  # -ln of a chance of two in a billion: before that many loads' time is left, no read refreshes ahead


class Asked(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What somebody wants of one key.

    Attributes:
        began: when he asked: what was committed before that, he must see, but for `max_staleness`.
    """

    key: str
    loader: Loader
    options: Options
    tags: tuple[str, ...]
    codec: Codec
    began: float


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What is kept for a key: a fresh entry, or else an older one that may do until it is loaded anew."""

    fresh: Entry | None
    older: Entry | None = None


class Loads:
    """Finds and loads the entries of one node.

    Args:
        remote, turns: what nodes share, and whose turn it is; None without Redis.
    """

    def __init__(self, freshness: Freshness, memory: Memory, remote: Remote | None, turns: Turns | None) -> None:
        self._freshness = freshness
        self._memory = memory
        self._remote = remote
        self._turns = turns
        self._flights: Flights[Entry] = Flights()
        self._looking: dict[str, asyncio.Future[Entry | None]] = {}
        self._shares: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Cancel the loads that are under way; what is loaded is still shared, for a moment."""
        await self._flights.close()
        if self._shares:
            await asyncio.wait(self._shares, timeout=_SHARING)
        for task in self._shares:
            task.cancel()

    def may_serve(self, entry: Entry, began: float) -> bool:
        """Whether `entry` may be given to who asked at `began`."""
        freshness = self._freshness
        return began < entry.expires and freshness.is_known(began, entry.max_staleness) and freshness.is_fresh(entry)

    async def find(self, asked: Asked) -> Kept:
        """What is kept for a key, in memory or in Redis; what is found there is kept in memory too."""
        options = asked.options
        entry = None if options.skip_l1 else self._memory.get(asked.key)
        if entry is not None and self.may_serve(entry, asked.began):
            return Kept(entry)
        older = entry
        if self._remote is not None and not options.skip_l2:
            entry = await self._look(self._remote, asked)
            if entry is not None and self.may_serve(entry, asked.began):
                self._remember(asked, entry)
                return Kept(entry)
            if older is None or (entry is not None and entry.as_of > older.as_of):
                older = entry
        return Kept(None, self._still(older))

    async def _look(self, remote: Remote, asked: Asked) -> Entry | None:
        """The entry in Redis, by one question for all who ask for it at the same time."""
        looking = self._looking.get(asked.key)
        if looking is not None:
            return await asyncio.shield(looking)
        looking = self._looking[asked.key] = asyncio.get_running_loop().create_future()
        entry = None
        try:
            entry = await remote.get(asked.key, asked.codec)
        finally:
            del self._looking[asked.key]
            looking.set_result(entry)
        return entry

    def _still(self, entry: Entry | None) -> Entry | None:
        """An older entry, if it may be served in place of a new one."""
        if entry is None or entry.epoch != self._freshness.epoch or boottime() >= entry.kept:
            return None
        return entry

    def refresh(self, asked: Asked, entry: Entry) -> None:
        """Load anew what is served meanwhile."""
        task, is_new = self._flights.joined(asked.key, lambda: self._fly(asked, entry, shared=False))
        if is_new:
            task.add_done_callback(lambda done: _log_failure(asked.key, done))

    async def load(
        self,
        asked: Asked,
        older: Entry | None,
        must_see: Callable[[], bool],
        begun: asyncio.Task[Entry] | None = None,
    ) -> tuple[Entry, bool]:
        """A value that is loaded, and whether it is the older one in place of it.

        Args:
            must_see: whether this node knows of what the caller has committed.
            begun: a load that was begun for the caller.

        Raises:
            TimeoutError: it took longer than `hard_timeout`. Whatever the loader raises.
        """
        if older is not None and _is_put_off(asked, older):
            return older, True
        options = asked.options
        limit = options.hard_timeout if older is None or options.soft_timeout is None else options.soft_timeout
        while True:
            if begun is not None:
                (task, is_mine), begun = (begun, True), None
            else:
                task, is_mine = self._flights.joined(asked.key, lambda: self._fly(asked, older, shared=True))
            try:
                async with asyncio.timeout(limit):
                    entry = await asyncio.shield(task)
            except TimeoutError as error:
                if older is not None and (options.soft_timeout is not None or options.fail_safe):
                    return older, True
                if task.done() and task.exception() is error:
                    raise  # the loader's own
                raise TimeoutError(f"loading {asked.key!r} took longer than hard_timeout={limit:g} s") from None
            except Exception as error:
                if older is None or not options.fail_safe:
                    raise
                now = boottime()
                older.retry_from = now + options.fail_safe_pause
                self._memory.put(asked.key, older, now)  # where the next one finds that it is not to be tried
                log.warning("cache_load_failed", key=asked.key, error=repr(error))
                return older, True
            # One that others began earlier may have read before what this caller must see.
            if is_mine or entry.began >= asked.began or (must_see() and self.may_serve(entry, asked.began)):
                return entry, False

    async def _fly(self, asked: Asked, older: Entry | None, *, shared: bool) -> Entry:
        """One load over all processes, or what another process has loaded meanwhile."""
        remote, turns = self._remote, self._turns
        if remote is None or turns is None or asked.options.skip_l2:
            return await self._load(asked, older)
        turn = _turn(remote, asked)
        token: str | None = None
        try:
            while token is None:
                token = await turns.take(turn, asked.options.lease)
                if token is None:
                    await turns.wait(turn, asked.options.lease)
                elif not shared:
                    break
                # Others may have loaded it since we looked.
                if (entry := await self._from_remote(asked)) is not None:
                    if token is not None:
                        self._later(turns.give_back(turn, token))
                    return entry
        except Away:
            pass
        try:
            entry = await self._load(asked, older)
        except BaseException:
            if token is not None:
                self._later(turns.give_back(turn, token))
            raise
        self._later(self._share(asked, entry, turn, token))
        return entry

    async def find_many(self, asked: Mapping[str, Asked]) -> dict[str, Kept]:
        """What is kept for keys that are all asked for with the same options; one question to Redis."""
        found: dict[str, Kept] = {}
        for key, one in asked.items():
            entry = None if one.options.skip_l1 else self._memory.get(key)
            fresh = entry is not None and self.may_serve(entry, one.began)
            found[key] = Kept(entry) if fresh else Kept(None, self._still(entry))
        missing = [key for key, kept in found.items() if kept.fresh is None]
        if self._remote is not None and missing and not asked[missing[0]].options.skip_l2:
            entries = await self._remote.get_many(missing, asked[missing[0]].codec)
            for key, entry in zip(missing, entries, strict=True):
                if entry is not None and self.may_serve(entry, asked[key].began):
                    self._remember(asked[key], entry)
                    found[key] = Kept(entry)
        return found

    async def load_many(
        self, missing: Mapping[Asked, Entry | None], loader: ManyLoader, must_see: Callable[[], bool]
    ) -> dict[str, tuple[Entry, bool]]:
        """Values that are loaded by one call of the loader, but for those of which a load is under way already.

        Args:
            missing: what is asked for, and the older entry of each.
        """
        mine = {one.key: one for one in missing if one.key not in self._flights and not _is_put_off(one, missing[one])}
        begun: dict[str, asyncio.Task[Entry]] = {}
        if mine:
            batch = asyncio.create_task(self._fly_many(mine, loader), name=f"cache load of {len(mine)}")
            begun = {key: self._flights.joined(key, partial(_part, batch, key))[0] for key in mine}
        # Each waits, and fails, as if it were alone.
        alone = [(msgspec.structs.replace(one, loader=_one_of(loader)), older) for one, older in missing.items()]
        waits = (self.load(one, older, must_see, begun.get(one.key)) for one, older in alone)
        return dict(zip((one.key for one, _ in alone), await asyncio.gather(*waits), strict=True))

    async def _fly_many(self, asked: Mapping[str, Asked], loader: ManyLoader) -> dict[str, Entry]:
        """One load of several keys; of those that other processes load, what they have loaded."""
        options = next(iter(asked.values())).options
        tokens: dict[str, str | None] = dict.fromkeys(asked)
        turns, remote = self._turns, self._remote
        others: set[str] = set()
        if turns is not None and remote is not None and not options.skip_l2:
            names = {key: _turn(remote, one) for key, one in asked.items()}
            with contextlib.suppress(Away):
                taken = await turns.take_many(list(names.values()), options.lease)
                tokens = {key: taken[name] for key, name in names.items()}
                others = {key for key, token in tokens.items() if token is None}
        mine = {key: one for key, one in asked.items() if key not in others}
        entries: dict[str, Entry] = {}
        try:
            if mine:
                entries = await self._load_many(mine, loader)
        finally:
            if turns is not None and remote is not None and not options.skip_l2:
                self._later(self._share_many(mine, entries, tokens))
        waiting = {key: msgspec.structs.replace(asked[key], loader=_one_of(loader)) for key in others}
        found = await asyncio.gather(*(self._fly(one, None, shared=True) for one in waiting.values()))
        return entries | dict(zip(waiting, found, strict=True))

    async def _load_many(self, asked: Mapping[str, Asked], loader: ManyLoader) -> dict[str, Entry]:
        seen = (self._freshness.epoch, self._freshness.tick)  # before the loader begins to read
        loads = {key: Load(key, one.options, one.tags, None, None, False) for key, one in asked.items()}
        began = boottime()
        values = await loader(LoadMany(loads))
        entries: dict[str, Entry] = {}
        for key, one in asked.items():
            load, value = loads[key], values.get(key)
            if not load.options.skip_l2:
                value = one.codec.checked(value)
            entries[key] = self.entry(key, value, load.options, load.found_tags, seen, began)
            self._remember(one, entries[key])
        return entries

    async def _share_many(
        self, asked: Mapping[str, Asked], entries: Mapping[str, Entry], tokens: Mapping[str, str | None]
    ) -> None:
        assert self._remote is not None
        assert self._turns is not None
        now = boottime()
        kept = {key: entry for key, entry in entries.items() if entry.kept > now and entry.epoch}
        if kept:
            await self._remote.put(kept, asked[next(iter(kept))].codec)
        for key, token in tokens.items():
            if token is not None:
                await self._turns.give_back(_turn(self._remote, asked[key]), token)

    async def _from_remote(self, asked: Asked) -> Entry | None:
        """The entry in Redis, if it may be served; it is kept in memory too."""
        assert self._remote is not None
        entry = await self._remote.get(asked.key, asked.codec)
        if entry is None or not self.may_serve(entry, asked.began):
            return None
        self._remember(asked, entry)
        return entry

    async def _load(self, asked: Asked, older: Entry | None) -> Entry:
        freshness = self._freshness
        seen = (freshness.epoch, freshness.tick)  # before the loader begins to read
        load = Load(
            asked.key,
            asked.options,
            asked.tags,
            None if older is None else older.value,
            None if older is None else older.note,
            older is not None,
        )
        began = boottime()
        try:
            value, note = await asked.loader(load), load.kept_note
            if not load.options.skip_l2:
                value = asked.codec.checked(value)
        except NotModified:
            assert older is not None
            value, note = older.value, older.note if load.kept_note is None else load.kept_note
        entry = self.entry(asked.key, value, load.options, load.found_tags, seen, began, note)
        self._remember(asked, entry)
        return entry

    def entry(
        self,
        key: str,
        value: Any,
        options: Options,
        tags: tuple[str, ...],
        seen: tuple[int, int],
        began: float,
        note: Any = None,
    ) -> Entry:
        """The entry of a value that was loaded from `began` on, when everything up to `seen` was committed."""
        now = boottime()
        ttl = options.negative_ttl if value is None else options.ttl
        ttl *= 1.0 - options.jitter * random.random()
        ahead = options.refresh_ahead * (now - began)
        hashes = tuple(tagging.hashed(tag) for tag in (tagging.of_key(key), *tags))
        return Entry(
            value=value,
            epoch=seen[0],
            as_of=seen[1],
            buckets=self._freshness.marks.buckets(hashes),
            hashes=hashes,
            began=began,
            max_staleness=options.max_staleness,
            refresh_from=now + max(0.0, ttl - SURE * ahead),
            expires=now + ttl,
            kept=now + ttl + options.fail_safe,
            cost=now - began,
            weight=options.weight,
            note=note,
        )

    async def put(self, asked: Asked, value: Any) -> None:
        """Keep a value that is given, as of now."""
        options, seen = asked.options, (self._freshness.epoch, self._freshness.tick)
        if not options.skip_l2:
            value = asked.codec.checked(value)
        entry = self.entry(asked.key, value, options, asked.tags, seen, asked.began)
        self._remember(asked, entry)
        if self._remote is not None and not options.skip_l2 and entry.epoch:
            await self._remote.put({asked.key: entry}, asked.codec)

    def _remember(self, asked: Asked, entry: Entry) -> None:
        now = boottime()
        if not asked.options.skip_l1 and entry.kept > now and entry.epoch:
            self._memory.put(asked.key, entry, now)

    async def _share(self, asked: Asked, entry: Entry, turn: str, token: str | None) -> None:
        assert self._remote is not None
        assert self._turns is not None
        if entry.kept > boottime() and entry.epoch:
            await self._remote.put({asked.key: entry}, asked.codec)
        if token is not None:
            await self._turns.give_back(turn, token)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while the caller goes on with its value."""
        task = asyncio.create_task(work)
        self._shares.add(task)
        task.add_done_callback(self._shares.discard)


def _is_put_off(asked: Asked, older: Entry | None) -> bool:
    """Whether loading failed a moment ago, and the older value must do."""
    return older is not None and asked.began < older.retry_from


def _turn(remote: Remote, asked: Asked) -> str:
    """The name of the lease for loading a key."""
    return f"{remote.key(asked.key, asked.codec)}:turn"


def _one_of(loader: ManyLoader) -> Loader:
    """A loader of many keys as one of a single key."""

    async def load_one(load: Load) -> Any:
        return (await loader(LoadMany({load.key: load}))).get(load.key)

    return load_one


async def _part(batch: asyncio.Task[dict[str, Entry]], key: str) -> Entry:
    return (await asyncio.shield(batch))[key]


def _log_failure(key: str, task: asyncio.Task[Entry]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("cache_refresh_failed", key=key, error=repr(error))
