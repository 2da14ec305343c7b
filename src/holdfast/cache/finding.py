"""Finding what is kept: in memory, then in Redis; and whether it may be served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

from holdfast.cache.asked import Asked, Kept
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.memory import Memory
from holdfast.cache.options import Options
from holdfast.cache.own_writes import sees_own
from holdfast.cache.peeking import Unfit
from holdfast.cache.remote import Remote
from holdfast.cache.statistics import Tally
from holdfast.cache.wire import Codec


class Finder:
    """Finds the entries of one node.

    Args:
        remote: what nodes share; None without Redis.

    Attributes:
        freshness: what this node knows of the journal.
    """

    def __init__(self, freshness: Freshness, memory: Memory, remote: Remote | None) -> None:
        self.freshness = freshness
        self._memory = memory
        self._remote = remote
        self._looking: dict[str, asyncio.Future[Entry | None]] = {}

    def may_serve(self, entry: Entry, began: float, bound: float = math.inf) -> bool:
        """Whether `entry` may be given to who asked at `began`, and asks for no older than `bound` seconds."""
        freshness = self.freshness
        bound = entry.max_staleness if entry.max_staleness < bound else bound
        return began < entry.expires and began - freshness.since <= bound and freshness.is_fresh(entry)

    def older(self, asked: Asked) -> Entry | None:
        """What is in memory and may be served in place of a new value, whatever is known of the journal."""
        return self._still(self.in_memory(asked))

    async def find(self, asked: Asked) -> Kept:
        """What is kept for a key, in memory or in Redis; what is found there is kept in memory too."""
        options = asked.options
        entry = self.in_memory(asked)
        if entry is not None and self._serves(entry, options, asked.began):
            asked.tally.hit()
            return Kept(entry)
        older = entry
        if self._remote is not None and not options.skip_l2:
            entry = await self._look(self._remote, asked)
            if entry is not None and self.may_serve(entry, asked.began, asked.options.max_staleness):
                self.remember(asked.key, entry, options, asked.tally)
                asked.tally.shared(boottime() - asked.began)
                return Kept(entry)
            older = _later(older, entry)
        self._missed(asked.tally, older, asked.began)
        return Kept(None, self._still(older))

    def in_memory(self, asked: Asked) -> Entry | None:
        """What is in memory for a key, fresh or not; looked up once."""
        if asked.seen is not None:
            return asked.seen.entry
        return None if asked.options.skip_l1 else self._memory.get(asked.key)

    def _serves(self, entry: Entry, options: Options, began: float) -> bool:
        """Whether `entry`, of this node's memory, may be given to who asked at `began`."""
        return self.may_serve(entry, began, options.max_staleness) or self._will_do(entry, options, began)

    def _will_do(self, entry: Entry, options: Options, began: float) -> bool:
        """Whether `entry`, though it was changed, was loaded so lately that it need not be loaded anew.

        Its load saw what was committed before it began, so what it lacks is no older than that; and what this task has
        committed it must see at once.
        """
        debounce = min(options.debounce, entry.max_staleness, options.max_staleness)
        return (
            began - entry.began < debounce
            and began < entry.expires
            and entry.epoch == self.freshness.epoch
            and sees_own(entry.sees)
        )

    def _missed(self, tally: Tally, older: Entry | None, began: float) -> None:
        tally.missed(changed=older is not None and began < older.expires and not self.freshness.is_fresh(older))

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
        if entry is None or entry.epoch != self.freshness.epoch or boottime() >= entry.kept:
            return None
        return entry

    async def find_many(
        self,
        missing: Mapping[str, Unfit | None],
        options: Options,
        codec: Codec,
        tally: Callable[[str], Tally],
    ) -> tuple[dict[str, Entry], dict[str, Entry | None]]:
        """The entries of keys that are asked for now with the same options, by one question to Redis.

        Args:
            missing: what was found in memory instead.

        Returns:
            Those that may be served, and for the other keys an older one that may do until it is loaded anew.
        """
        began = boottime()
        found: dict[str, Entry] = {}
        olders: dict[str, Entry | None] = {}
        for key, seen in missing.items():
            entry = None if seen is None else seen.entry
            if entry is not None and self._serves(entry, options, began):
                tally(key).hit()
                found[key] = entry
            else:
                olders[key] = entry
        if self._remote is not None and olders and not options.skip_l2:
            entries = await self._remote.get_many(list(olders), codec)
            served: dict[Tally, int] = {}
            for key, entry in zip(list(olders), entries, strict=True):
                if entry is None:
                    continue
                if self.may_serve(entry, began, options.max_staleness):
                    counted = tally(key)
                    served[counted] = served.get(counted, 0) + 1
                    self.remember(key, entry, options, counted)
                    found[key] = entry
                    del olders[key]
                else:
                    olders[key] = _later(olders[key], entry)
            for counted, number in served.items():
                counted.shared(boottime() - began, number)
        for key, older in olders.items():
            self._missed(tally(key), older, began)
            olders[key] = self._still(older)
        return found, olders

    async def in_remote(self, asked: Asked, until: float) -> Entry | None:
        """The entry in Redis, if it may be served, and does not end before `until`; it is kept in memory too."""
        assert self._remote is not None
        entry = await self._remote.get(asked.key, asked.codec)
        if (
            entry is None
            or entry.expires < until
            or not self.may_serve(entry, asked.began, asked.options.max_staleness)
        ):
            return None
        # What was kept before a commit of the caller's own is fresh as long as nobody here knows of it.
        if not sees_own(self.freshness.covers):
            return None
        self.remember(asked.key, entry, asked.options, asked.tally)
        return entry

    def remember(self, key: str, entry: Entry, options: Options, tally: Tally) -> None:
        """Keep `entry` in this node's memory, unless it is to be left alone."""
        entry.counts = tally.kind.counts
        if not options.skip_l1 and entry.kept > (now := boottime()) and entry.epoch:
            self._memory.put(key, entry, now)


def _later(mine: Entry | None, theirs: Entry | None) -> Entry | None:
    """Of what memory and Redis have, neither of which is fresh: what has seen more."""
    return theirs if mine is None or (theirs is not None and theirs.as_of > mine.as_of) else mine
