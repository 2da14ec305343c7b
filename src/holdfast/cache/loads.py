"""Loading a value: once over all who ask, for as long as they may wait, with the older value where there is none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from holdfast.cache.asked import Asked
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry, made_entry
from holdfast.cache.finding import Finder
from holdfast.cache.flights import Flights
from holdfast.cache.loader import Load, LoadFailed, NotModified
from holdfast.cache.memory import Memory
from holdfast.cache.own_writes import leaves_alone, sees_own
from holdfast.cache.remote import Remote
from holdfast.cache.results import FROM, Results
from holdfast.cache.turns import Turns
from holdfast.errors import InvalidValue
from holdfast.logs import get_logger
from holdfast.shared import is_cancelled
from holdfast.store.current import keeping, newest_commit
from holdfast.store.redis import Away

log = get_logger("holdfast.cache")

_SHARING = 1.0  # seconds that closing waits for what is being shared


class Loads:
    """Loads the entries of one node.

    Args:
        remote, turns: what nodes share, and whose turn it is; None without Redis.
        results: what lies in the database; None where that is in memory too.
    """

    def __init__(
        self, finder: Finder, memory: Memory, remote: Remote | None, turns: Turns | None, results: Results | None = None
    ) -> None:
        self.finder = finder
        self.freshness = finder.freshness
        self.remote = remote
        self.turns = turns
        self.results = results
        self.flights: Flights[Entry] = Flights()
        self._memory = memory
        self._shares: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Cancel the loads that are under way; what is loaded is still shared, for a moment."""
        await self.flights.close()
        if self._shares:
            await asyncio.wait(self._shares, timeout=_SHARING)
        for task in self._shares:
            task.cancel()

    def refresh(self, asked: Asked, entry: Entry) -> None:
        """Load anew what is served meanwhile."""
        task, is_new = self.flights.joined(
            asked.key, lambda: self.fly(asked, entry, until=math.inf), asked.options.lease
        )
        if is_new:
            task.add_done_callback(lambda done: _log_failure(asked.key, done))

    async def load(
        self,
        asked: Asked,
        older: Entry | None,
        begun: asyncio.Task[Entry] | None = None,
    ) -> tuple[Entry, bool]:
        """A value that is loaded, and whether it is the older one in place of it.

        Args:
            begun: a load that was begun for the caller.

        Raises:
            TimeoutError: it took longer than `hard_timeout`. Whatever the loader raises.
        """
        if older is not None and is_put_off(asked, older):
            asked.tally.stale()
            return older, True
        options = asked.options
        limit = options.hard_timeout if older is None or options.soft_timeout is None else options.soft_timeout
        while True:
            if begun is not None:
                (task, is_mine), begun = (begun, True), None
            else:
                task, is_mine = self.flights.joined(asked.key, lambda: self.fly(asked, older), options.lease)
            try:
                async with asyncio.timeout(limit):
                    entry = await _awaited(task, asked.key)
            except TimeoutError as error:
                if older is not None and (options.soft_timeout is not None or options.fail_safe):
                    asked.tally.stale()
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
                asked.tally.stale()
                return older, True
            # One that others began earlier may have read before what this caller must see.
            if (
                is_mine
                or entry.began >= asked.began
                or (
                    sees_own(self.freshness.covers) and self.finder.may_serve(entry, asked.began, options.max_staleness)
                )
            ):
                return entry, False

    async def renew(self, asked: Asked, older: Entry | None, until: float) -> bool:
        """Load, unless another process has loaded what may be served until then; whether it was loaded."""
        task, _ = self.flights.joined(asked.key, lambda: self.fly(asked, older, until=until), asked.options.lease)
        return (await _awaited(task, asked.key)).began >= asked.began

    async def fly(self, asked: Asked, older: Entry | None, *, until: float = 0.0) -> Entry:
        """One load over all processes, or what another has loaded meanwhile, if that does not end before `until`."""
        remote, turns = self.remote, self.turns
        if remote is None or turns is None or asked.options.skip_l2:
            return await self._had(asked, older, until)
        turn = turn_of(remote, asked)
        token: str | None = None
        try:
            gives_up = boottime() + 2 * asked.options.lease  # whoever has it does not let go of it in the usual way
            while token is None and boottime() < gives_up:
                token = await turns.take(turn, asked.options.lease)
                if token is None:
                    await turns.wait(turn, asked.options.lease)
                # Others may have loaded it since we looked.
                if until < math.inf and (entry := await self.finder.in_remote(asked, until)) is not None:
                    if token is not None:
                        self.later(turns.give_back(turn, token, asked.options.lease))
                    return entry
        except Away:
            pass
        try:
            entry = await self._had(asked, older, until)
        except BaseException:
            if token is not None:
                self.later(turns.give_back(turn, token, asked.options.lease))
            raise
        self.later(self._share(asked, entry, turn, token))
        return entry

    async def _had(self, asked: Asked, older: Entry | None, until: float) -> Entry:
        """What the table of results has, if that does not end before `until`, or else what is loaded."""
        one = {asked.key: asked}
        if until < math.inf and (entry := (await self.in_results(one, until)).get(asked.key)) is not None:
            return entry
        entry = await self._load(asked, older)
        self.into_results(one, {asked.key: entry})
        return entry

    async def in_results(self, asked: Mapping[str, Asked], until: float = 0.0) -> dict[str, Entry]:
        """The entries in the table of results that may be served, and do not end before `until`, by key.

        They are kept in memory too.
        """
        first = next(iter(asked.values()))
        if self.results is None or not self.results.takes(first.options):
            return {}
        entries = await self.results.get(list(asked), first.codec)
        if not sees_own(self.freshness.covers):
            return {}
        fresh = {
            key: entry
            for key, entry in entries.items()
            if entry.expires >= until
            and self.finder.may_serve(entry, asked[key].began, asked[key].options.max_staleness)
        }
        for key, entry in fresh.items():
            self.finder.remember(key, entry, asked[key].options, asked[key].tally)
        return fresh

    def into_results(self, asked: Mapping[str, Asked], entries: Mapping[str, Entry]) -> None:
        """Keep in the table of results what belongs there, while the caller goes on."""
        first = next(iter(asked.values()))
        if self.results is not None and not first.options.skip_l2 and not first.options.skip_l3:
            now = boottime()
            lasting = {key: entry for key, entry in entries.items() if entry.epoch and entry.expires - now > FROM}
            if lasting and self.results.keep(lasting, first.codec):
                self.later(self.results.write())

    async def _load(self, asked: Asked, older: Entry | None) -> Entry:
        freshness = self.freshness
        seen = (freshness.epoch, freshness.tick, newest_commit())  # before the loader begins to read
        load = Load(asked.key, asked.options, asked.tags, older)
        began = boottime()
        keeping.set(True)  # in the task of this load, which ends with it
        try:
            value = await asked.loader(load)
            if not load.options.skip_l2:
                value = asked.codec.checked(value)
        except NotModified:
            value = load.older
        except BaseException:
            asked.tally.failed(boottime() - began)
            raise
        if leaves_alone(freshness.covers):
            seen = (0, 0, 0)  # the loader wrote, in a unit that is open: what it has read is not for others
        entry = made_entry(
            self.freshness.marks, asked.key, value, load.options, load.found_tags, seen, began, load.kept_note
        )
        asked.tally.loaded(entry.cost, load.found_tags, lambda: asked.codec.size(value))
        self.finder.remember(asked.key, entry, asked.options, asked.tally)
        return entry

    async def put(self, given: Sequence[tuple[Asked, Any]]) -> None:
        """Keep values that are given, as of now, with the options of the first; all of them or none."""
        first, freshness = given[0][0], self.freshness
        seen = (freshness.epoch, freshness.tick, newest_commit())
        if not first.options.skip_l2:
            given = [(asked, asked.codec.checked(value)) for asked, value in given]
        entries: dict[str, Entry] = {}
        for asked, value in given:
            entry = made_entry(freshness.marks, asked.key, value, asked.options, asked.tags, seen, asked.began)
            entries[asked.key] = entry
            self.finder.remember(asked.key, entry, asked.options, asked.tally)
        self.into_results({asked.key: asked for asked, _ in given}, entries)
        if self.remote is not None and not first.options.skip_l2 and seen[0]:
            await self.remote.put(entries, first.codec)

    async def _share(self, asked: Asked, entry: Entry, turn: str, token: str | None) -> None:
        assert self.remote is not None
        assert self.turns is not None
        try:
            if entry.kept > boottime() and entry.epoch:
                await self.remote.put({asked.key: entry}, asked.codec)
        except InvalidValue as error:  # of its note: the value was checked
            log.warning("cache_value_not_shared", key=asked.key, reason=str(error))
        finally:
            if token is not None:
                await self.turns.give_back(turn, token, asked.options.lease)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while the caller goes on with its value."""
        task = asyncio.create_task(work)
        self._shares.add(task)
        task.add_done_callback(self._shares.discard)


async def _awaited(task: asyncio.Task[Entry], key: str) -> Entry:
    """What a load gives. One that was cancelled, by itself or not, has failed: who waits for it was not."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled() or is_cancelled():
            raise
        raise LoadFailed(f"the load of {key!r} was cancelled") from None


def is_put_off(asked: Asked, older: Entry | None) -> bool:
    """Whether loading failed a moment ago, and the older value must do."""
    return older is not None and asked.began < older.retry_from


def turn_of(remote: Remote, asked: Asked) -> str:
    """The name of the lease for loading a key."""
    return f"{remote.key(asked.key, asked.codec)}:turn"


def _log_failure(key: str, task: asyncio.Task[Entry]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("cache_refresh_failed", key=key, error=repr(error))
