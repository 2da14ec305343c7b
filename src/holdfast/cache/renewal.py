"""Keeping a node's freshness up to date: by the journal, when woken and at the latest every quarter of the bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from holdfast.cache.changes import MEMORY, ChangedTags
from holdfast.cache.clock import boottime
from holdfast.cache.freshness import Freshness
from holdfast.cache.statistics import Statistics
from holdfast.errors import HoldfastError, Unavailable
from holdfast.journal import Journal, Position
from holdfast.logs import get_logger
from holdfast.shared import Coalesced
from holdfast.store.current import newest_commit

log = get_logger("holdfast.cache")

_REPLAYED = 200_000  # changes of before its start that a node reads at most
_LONGEST_PAUSE = 1.0  # seconds between attempts while the database cannot be reached


class Renewal:
    """Follows the journal for the cache of one node, four times as often as the least `max_staleness` in use.

    Args:
        forget: drops what the node has in memory.
    """

    def __init__(
        self,
        freshness: Freshness,
        journal: Journal,
        tags: ChangedTags,
        statistics: Statistics,
        forget: Callable[[], None],
    ) -> None:
        self._freshness = freshness
        self._journal = journal
        self._tags = tags
        self._statistics = statistics
        self._forget = forget
        self._every = 60.0  # seconds
        self._now = Coalesced(self._renew)
        self._task: asyncio.Task[None] | None = None
        self._replaying: asyncio.Task[None] | None = None
        self._closed = False

    def start(self, *, at_least: float) -> None:
        """Follow from now on, in the background, so often that a bound of `at_least` seconds can be kept.

        Raises:
            Unavailable: the cache is closed.
        """
        self.check_open()
        self._every = min(self._every, at_least / 4)
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="cache renewal")

    async def close(self) -> None:
        """Stop."""
        self._closed = True
        if self._replaying is not None:
            self._replaying.cancel()
            await asyncio.gather(self._replaying, return_exceptions=True)
        self._freshness.know_nothing()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def now(self) -> None:
        """Learn of everything that was committed before this call.

        Raises:
            Unavailable: the database cannot be reached, or the cache is closed. JournalError: it has no journal.
        """
        self.check_open()
        await self._now.get()

    async def replayed(self) -> None:
        """Learn of what changed before this node began too, as far as the journal goes back.

        Raises:
            As `now`.
        """
        await self.now()
        if self._replaying is not None:
            await asyncio.shield(self._replaying)

    def check_open(self) -> None:
        """Raise `Unavailable` where the cache is closed."""
        if self._closed:
            raise Unavailable("this cache is closed, with its data layer; open another with Holdfast.open(…)")

    async def _follow(self) -> None:
        waiter = self._journal.listen()
        failures = 0
        try:
            while True:
                waiter.clear()
                self._statistics.turn()
                try:
                    await self._now.get()
                    failures = 0
                except Exception as error:  # noqa: BLE001  readers go to the database meanwhile, and it may come back
                    if failures in (0, 10) or failures % 100 == 0:
                        log.warning("cache_not_renewed", reason=str(error), again=failures)
                    failures += 1
                    await asyncio.sleep(min(_LONGEST_PAUSE, self._every * 2 ** min(failures, 6)))
                    continue
                await waiter.wait(at_most=self._every)
        finally:
            self._journal.stop_listening(waiter)

    async def _renew(self) -> None:
        began, commit = boottime(), newest_commit()
        upto = await self._journal.make_tick()
        freshness = self._freshness
        if upto.epoch != freshness.epoch:
            freshness.begin(upto.epoch, upto.tick)
            self._replaying = asyncio.create_task(self._replay(upto), name="cache replay")
        elif upto.tick > freshness.tick:
            await self._note(Position(upto.epoch, freshness.tick), upto)
        if not self._closed:
            freshness.renewed(upto.tick, began, commit)

    async def _replay(self, upto: Position) -> None:
        """Note what changed before this node began, so that what others have loaded by then may be served here."""
        freshness = self._freshness
        try:
            oldest = await self._journal.oldest()
            floor, count = oldest.tick, 0
            async for page in self._journal.read(oldest, upto):
                if page.lost or freshness.epoch != upto.epoch:
                    return
                for change in page.changes:
                    touched = self._tags.of(change)
                    if touched is None:
                        floor = change.tick
                    else:
                        freshness.changed(touched, change.tick)
                count += len(page.changes)
                if count > _REPLAYED:
                    return
            freshness.replayed(floor, upto.tick)
        except HoldfastError as error:
            log.info("cache_not_replayed", reason=str(error))

    async def _note(self, after: Position, upto: Position) -> None:
        freshness = self._freshness
        async for page in self._journal.read(after, upto):
            if (
                page.lost
            ):  # pruned away while this node slept; or another life of the database, which the next tick tells
                freshness.everything_changed(upto.tick)
                return
            for change in page.changes:
                touched = self._tags.of(change)
                if touched is None:
                    freshness.everything_changed(change.tick)
                else:
                    freshness.changed(touched, change.tick)
                    self._statistics.changed(touched)
                    if MEMORY in touched:
                        self._forget()
