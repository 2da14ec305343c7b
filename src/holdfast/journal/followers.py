"""Followers: each named one gets every change, in order, at least once; a transactional one exactly once."""

from __future__ import annotations

import asyncio
import random
import time

from holdfast.errors import Unavailable
from holdfast.journal.changes import Change, Position, reset_everything
from holdfast.journal.delivery import Delivery, HandlerFailed, Subscription
from holdfast.journal.feed import Feed, Page
from holdfast.journal.leases import Lease, Leases, LostLease
from holdfast.journal.wakeups import Waiter
from holdfast.logs import get_logger
from holdfast.shared import Coalesced
from holdfast.store import Store

log = get_logger("holdfast.journal")

PAGE = 512  # rows of the journal
BATCH = 1_000  # changes a handler gets at most
LONGEST_PAUSE = 5.0  # seconds between two attempts after failures
IDLE_CHECKPOINT = 1.0  # seconds between checkpoints which only say that nothing of interest came


class Follower:
    """Runs one subscription until it is cancelled: through lost leases, failing handlers and a database that is gone.

    Attributes:
        position: how far it got; None before it began.
    """

    def __init__(
        self,
        store: Store,
        feed: Feed,
        ticks: Coalesced[Position],
        leases: Leases,
        waiter: Waiter,
        subscription: Subscription,
    ) -> None:
        self._store, self._feed, self._ticks, self._leases, self.waiter = store, feed, ticks, leases, waiter
        self.subscription = subscription
        self.position: Position | None = None
        self._lease: Lease | None = None
        self._delivery = self._new_delivery()
        self._retry = False
        self._kept: Position | None = None
        self._kept_at = 0.0

    async def run(self) -> None:
        """Follow for ever."""
        failures = 0
        while True:
            before = self.position
            try:
                if await self._take():
                    await self._follow()
                else:
                    await asyncio.sleep(self._leases.ttl / 3 * random.uniform(0.8, 1.2))
            except LostLease as lost:
                log.warning("lease_lost", follower=self.subscription.name, reason=str(lost))
            except Exception as error:  # noqa: BLE001
                # Whatever it is, others rely on this follower: say it, wait, begin again from what was kept.
                failures = 0 if self.position != before else failures
                if failures in (0, 5) or failures % 50 == 0:
                    log.warning(
                        "follower_interrupted", follower=self.subscription.name, error=repr(error), again=failures
                    )
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))
                failures += 1
            finally:
                await self._leave()

    async def _take(self) -> bool:
        if not self.subscription.durable:
            return True
        taken = await self._leases.acquire(self.subscription.name)
        if taken is None:
            return False
        self._lease, self._retry = taken
        self.position = self._kept = self._lease.position
        self._delivery = self._new_delivery()
        await self._delivery.learn_parked()
        return True

    async def _leave(self) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            async with asyncio.timeout(3):
                if self.position is not None and self.position != self._kept:
                    await self._leases.checkpoint(lease, self.position)
                await self._leases.release(lease)
        except Exception as error:  # noqa: BLE001  the lease ends by itself, and less was kept than could have been
            log.info("lease_not_released", follower=self.subscription.name, reason=str(error))

    async def _follow(self) -> None:
        tasks = {asyncio.create_task(self._pursue())}
        if self._lease is not None:
            tasks.add(asyncio.create_task(self._keep_lease(self._lease)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_lease(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._leases.ttl / 3)
            try:
                if await self._leases.renew(lease):
                    self._retry = True
                    self.waiter.wake()
            except Unavailable as error:
                log.info("lease_not_renewed", follower=self.subscription.name, reason=str(error))

    async def _pursue(self) -> None:
        while True:
            self.waiter.clear()
            upto = await self._ticks.get()
            if self.position is None and self.subscription.start == "now":
                self._moved(upto)
            if self.position is None or self.position.epoch != upto.epoch:
                await self._rebuild(upto)
            if self._retry and self._lease is not None and self.position is not None:
                self._retry = False
                await self._delivery.retry(self.position)
            await self._catch_up(upto)
            await self.waiter.wait()

    async def _catch_up(self, upto: Position) -> None:
        more = True
        while more and self.position is not None:
            page = await self._feed.page(self.position, upto, self.subscription.tables, PAGE)
            if page.lost:
                log.warning("history_lost", follower=self.subscription.name, position=str(self.position), now=str(upto))
                await self._rebuild(await self._ticks.get())
                return
            try:
                await self._deliver(page)
            except HandlerFailed:
                if self.subscription.durable:
                    raise
                # It has nowhere to put a change aside: it starts again from nothing instead.
                await self._rebuild(await self._ticks.get())
                return
            self.position, more = page.position, page.more
            await self._checkpoint_idle()

    async def _deliver(self, page: Page) -> None:
        epoch = page.position.epoch

        def position_of(change: Change) -> Position:
            return self._feed.position_of(change, epoch)

        wants, wanted = self.subscription.wants, page.changes
        if wants is not None:
            wanted = [change for change in wanted if change.op == "reset" or wants(change)]
        for start in range(0, len(wanted), BATCH):
            changes = wanted[start : start + BATCH]
            is_last = start + BATCH >= len(wanted)
            position = page.position if is_last else position_of(changes[-1])
            await self._delivery.deliver(changes, position, position_of)

    async def _checkpoint_idle(self) -> None:
        """Keep, now and then, a position that moved only over what was not wanted: pruning waits for the slowest."""
        if self._lease is None or self.position is None or self.position == self._kept:
            return
        if time.monotonic() - self._kept_at >= IDLE_CHECKPOINT:
            await self._leases.checkpoint(self._lease, self.position)
            self._moved(self.position)

    async def _rebuild(self, upto: Position) -> None:
        log.info("follower_rebuilds", follower=self.subscription.name, position=str(upto))
        await self._delivery.reset(reset_everything(upto.tick), upto)

    def _new_delivery(self) -> Delivery:
        return Delivery(self._store, self.subscription, self._leases, self._lease, self._moved)

    def _moved(self, position: Position) -> None:
        self.position = self._kept = position
        self._kept_at = time.monotonic()
