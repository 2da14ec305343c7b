"""Finding what is kept: in memory, then in Redis; and whether it may be served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from holdfast.cache.asked import Asked, Kept
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.memory import Memory
from holdfast.cache.own_writes import sees_own
from holdfast.cache.remote import Remote


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

    def may_serve(self, entry: Entry, began: float) -> bool:
        """Whether `entry` may be given to who asked at `began`."""
        freshness = self.freshness
        return began < entry.expires and freshness.is_known(began, entry.max_staleness) and freshness.is_fresh(entry)

    async def find(self, asked: Asked) -> Kept:
        """What is kept for a key, in memory or in Redis; what is found there is kept in memory too."""
        options = asked.options
        entry = self._in_memory(asked)
        if entry is not None and (self.may_serve(entry, asked.began) or self._will_do(entry, asked)):
            asked.tally.hit()
            return Kept(entry)
        older = entry
        if self._remote is not None and not options.skip_l2:
            entry = await self._look(self._remote, asked)
            if entry is not None and self.may_serve(entry, asked.began):
                self.remember(asked, entry)
                asked.tally.shared(boottime() - asked.began)
                return Kept(entry)
            if older is None or (entry is not None and entry.as_of > older.as_of):
                older = entry
        self._missed(asked, older)
        return Kept(None, self._still(older))

    def _in_memory(self, asked: Asked) -> Entry | None:
        if asked.seen is not None:
            return asked.seen.entry
        return None if asked.options.skip_l1 else self._memory.get(asked.key)

    def _will_do(self, entry: Entry, asked: Asked) -> bool:
        """Whether `entry`, though it was changed, was loaded so lately that it need not be loaded anew.

        Its load saw what was committed before it began, so what it lacks is no older than that; and what this task has
        committed it must see at once.
        """
        debounce = min(asked.options.debounce, entry.max_staleness)
        return (
            asked.began - entry.began < debounce
            and asked.began < entry.expires
            and entry.epoch == self.freshness.epoch
            and sees_own(entry.sees)
        )

    def _missed(self, asked: Asked, older: Entry | None) -> None:
        changed = older is not None and asked.began < older.expires and not self.freshness.is_fresh(older)
        asked.tally.missed(changed=changed)

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

    async def find_many(self, asked: Mapping[str, Asked]) -> dict[str, Kept]:
        """What is kept for keys that are all asked for with the same options; one question to Redis."""
        found: dict[str, Kept] = {}
        olders: dict[str, Entry | None] = {}
        for key, one in asked.items():
            entry = self._in_memory(one)
            if entry is not None and (self.may_serve(entry, one.began) or self._will_do(entry, one)):
                one.tally.hit()
                found[key] = Kept(entry)
            else:
                found[key], olders[key] = Kept(None, self._still(entry)), entry
        missing = list(olders)
        if self._remote is not None and missing and not asked[missing[0]].options.skip_l2:
            entries = await self._remote.get_many(missing, asked[missing[0]].codec)
            for key, entry in zip(missing, entries, strict=True):
                if entry is not None and self.may_serve(entry, asked[key].began):
                    self.remember(asked[key], entry)
                    asked[key].tally.shared(boottime() - asked[key].began)
                    found[key] = Kept(entry)
                elif entry is not None and olders[key] is None:
                    olders[key] = entry
        for key, older in olders.items():
            if found[key].fresh is None:
                self._missed(asked[key], older)
        return found

    async def in_remote(self, asked: Asked, until: float) -> Entry | None:
        """The entry in Redis, if it may be served, and does not end before `until`; it is kept in memory too."""
        assert self._remote is not None
        entry = await self._remote.get(asked.key, asked.codec)
        if entry is None or entry.expires < until or not self.may_serve(entry, asked.began):
            return None
        # What was kept before a commit of the caller's own is fresh as long as nobody here knows of it.
        if not sees_own(self.freshness.covers):
            return None
        self.remember(asked, entry)
        return entry

    def remember(self, asked: Asked, entry: Entry) -> None:
        """Keep `entry` in this node's memory, unless it is to be left alone."""
        now = boottime()
        entry.counts = asked.tally.kind.counts
        if not asked.options.skip_l1 and entry.kept > now and entry.epoch:
            self._memory.put(asked.key, entry, now)
