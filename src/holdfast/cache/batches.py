"""Loading several values by one call of the loader."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from holdfast.cache.asked import Asked
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry, made_entry
from holdfast.cache.flights import within
from holdfast.cache.keys import named
from holdfast.cache.loader import Load, Loader, Loading, ManyLoader, NotModified, values_of
from holdfast.cache.loads import Loads, is_put_off, turn_of
from holdfast.cache.own_writes import leaves_alone
from holdfast.errors import InvalidValue
from holdfast.logs import get_logger
from holdfast.store.current import keeping, newest_commit

log = get_logger("holdfast.cache")


class Batches:
    """Loads several entries of one node at a time."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    async def load(self, missing: Mapping[Asked, Entry | None], loader: ManyLoader) -> dict[str, tuple[Entry, bool]]:
        """Values that are loaded by one call of the loader, but for those of which a load is under way already.

        Args:
            missing: what is asked for, and the older entry of each.
        """
        begin = ((one, older) for one, older in missing.items() if not is_put_off(one, older))
        mine = {one.key: (one, older) for one, older in begin if one.key not in self._loads.flights}
        begun: dict[str, asyncio.Task[Entry]] = {}
        if mine:
            # It begins to run when all are begun.
            batch = asyncio.create_task(self._fly(mine, loader, begun), name=f"cache load of {len(mine)}")
            for key, (one, _) in mine.items():
                begun[key] = self._loads.flights.joined(key, partial(_part, batch, key), one.options.lease)[0]
        # Each waits, and fails, as if it were alone.
        alone = [(msgspec.structs.replace(one, loader=_one_of(loader)), older) for one, older in missing.items()]
        waits = (self._loads.load(one, older, begun.get(one.key)) for one, older in alone)
        return dict(zip((one.key for one, _ in alone), await asyncio.gather(*waits), strict=True))

    async def _fly(
        self,
        wanted: Mapping[str, tuple[Asked, Entry | None]],
        loader: ManyLoader,
        begun: Mapping[str, asyncio.Task[Entry]],
    ) -> dict[str, Entry]:
        """One load of several keys; of those that other processes load, what they have loaded.

        Args:
            wanted: what is asked for, and the older entry of each, by key.
            begun: the loads of single keys that it is.
        """
        within(begun.values())
        asked = {key: one for key, (one, _) in wanted.items()}
        options = next(iter(asked.values())).options
        tokens: dict[str, str | None] = dict.fromkeys(asked)
        turns, remote = self._loads.turns, self._loads.remote
        others: set[str] = set()
        if turns is not None and remote is not None and not options.skip_l2:
            names = {key: turn_of(remote, one) for key, one in asked.items()}
            taken = await turns.take_many(list(names.values()), options.lease)
            tokens = {key: taken.get(name) for key, name in names.items()}
            others = {key for key, name in names.items() if name in taken and taken[name] is None}
        mine = {key: one for key, one in asked.items() if key not in others}
        entries: dict[str, Entry] = {}
        try:
            if mine:
                entries = await self._loads.in_results(mine)
            if left := {key: one for key, one in mine.items() if key not in entries}:
                loaded = await self._load({key: wanted[key] for key in left}, loader)
                self._loads.into_results(left, loaded)
                entries |= loaded
        finally:
            if turns is not None and remote is not None and not options.skip_l2:
                self._loads.later(self._share(mine, entries, tokens))
        waiting = [(msgspec.structs.replace(asked[key], loader=_one_of(loader)), wanted[key][1]) for key in others]
        found = await asyncio.gather(*(self._loads.fly(one, older) for one, older in waiting))
        return entries | dict(zip(others, found, strict=True))

    async def _load(self, wanted: Mapping[str, tuple[Asked, Entry | None]], loader: ManyLoader) -> dict[str, Entry]:
        freshness = self._loads.freshness
        seen = (freshness.epoch, freshness.tick, newest_commit())  # before the loader begins to read
        loads = {key: Loading(key, one.options, one.tags, older) for key, (one, older) in wanted.items()}
        began = boottime()
        keeping.set(True)  # in the task of this load, which ends with it
        try:
            values = await values_of(loader, loads)
        except BaseException:
            next(iter(wanted.values()))[0].tally.failed(boottime() - began)
            raise
        if leaves_alone(freshness.covers):
            seen = (0, 0, 0)  # as for a single one
        entries: dict[str, Entry] = {}
        for key, (one, _) in wanted.items():
            load, value = loads[key], values[key]
            if not load.options.skip_l2:
                value = one.codec.checked(value)
            entry = made_entry(freshness.marks, key, value, load.options, load.found_tags, seen, began, load.kept_note)
            one.tally.loaded(entry.cost / len(wanted), load.found_tags, partial(one.codec.size, value))
            self._loads.finder.remember(key, entry, one.options, one.tally)
            entries[key] = entry
        return entries

    async def _share(
        self, asked: Mapping[str, Asked], entries: Mapping[str, Entry], tokens: Mapping[str, str | None]
    ) -> None:
        remote, turns = self._loads.remote, self._loads.turns
        assert remote is not None
        assert turns is not None
        now = boottime()
        kept = {key: entry for key, entry in entries.items() if entry.kept > now and entry.epoch}
        try:
            if kept:
                await remote.put(kept, asked[next(iter(kept))].codec)
        except InvalidValue as error:  # of a note: the values were checked
            log.warning("cache_values_not_shared", keys=named(kept), reason=str(error))
        finally:
            for key, token in tokens.items():
                if token is not None:
                    await turns.give_back(turn_of(remote, asked[key]), token, asked[key].options.lease)


def _one_of(loader: ManyLoader) -> Loader:
    """A loader of many keys as one of a single key."""

    async def load_one(load: Load) -> Any:
        value = (await values_of(loader, {load.key: load}))[load.key]
        if load.is_as_it_was:
            raise NotModified
        return value

    return load_one


async def _part(batch: asyncio.Task[dict[str, Entry]], key: str) -> Entry:
    return (await asyncio.shield(batch))[key]
