"""Handing changes to a handler: together, then one by one, then aside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from holdfast.errors import JournalError, StoreError, Unavailable
from holdfast.journal.changes import Batch, Change, Position
from holdfast.journal.dead_letters import DeadLetters, Key, key_of
from holdfast.journal.leases import Lease, Leases
from holdfast.logs import get_logger
from holdfast.shared import is_cancelled
from holdfast.store import Store, Unit
from holdfast.store.failures import is_retryable

log = get_logger("holdfast.journal")

ATTEMPTS = 5  # before a failing batch is taken apart
MOST_PARKED = 1_000  # beyond this it is not the changes that are wrong


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower asked for.

    Attributes:
        name: unique in the database when durable.
        handler: called with a `Batch`; with the batch and a unit when transactional.
        tables: the tables and topics it wants; None for all. A reset of everything always comes.
        wants: which changes of these, but for resets; None for all.
        durable: its position is kept in the database and one instance runs it; else it lives in this process.
        transactional: effects and position commit together.
        start: "rebuild" begins with a reset of everything, "now" with what comes next.
    """

    name: str
    handler: Any
    tables: tuple[str, ...] | None = None
    wants: Callable[[Change], bool] | None = None
    durable: bool = True
    transactional: bool = False
    start: Literal["rebuild", "now"] = "rebuild"


class HandlerFailed(JournalError):
    """What a handler raised, carried through the unit's own handling of errors."""

    def __init__(self, cause: Exception) -> None:
        # It is kept in the database, which may not hold what an exception says.
        super().__init__(f"{type(cause).__name__}: {cause}".replace("\0", "\\0")[:2_000])
        self.cause = cause

    @property
    def is_the_databases(self) -> bool:
        """Whether the database failed rather than the handler: the same changes will do later."""
        return isinstance(self.cause, Unavailable) or is_retryable(self.cause)


class Delivery:
    """Delivers to one subscription under one lease (None when it is not durable), and keeps its position.

    `moved` is told each position that is kept.
    """

    def __init__(
        self,
        store: Store,
        subscription: Subscription,
        leases: Leases,
        lease: Lease | None,
        moved: Callable[[Position], None],
    ) -> None:
        self._store, self._of, self._leases, self._lease, self._moved = store, subscription, leases, lease, moved
        self._letters = DeadLetters(store, subscription.name)
        self._parked: set[Key] = set()

    async def learn_parked(self) -> None:
        """Know which keys wait for their dead letters."""
        if self._of.durable:
            self._parked = await self._letters.keys()

    async def reset(self, change: Change, position: Position) -> None:
        """Deliver a reset of everything. Nothing else makes sense before it, so a failure is raised, not parked."""
        self._parked.clear()
        await self._hand_over([change], [], position, clear=True)

    async def deliver(
        self, changes: list[Change], position: Position, position_of: Callable[[Change], Position]
    ) -> None:
        """Deliver `changes`, behind which is `position`; a failing one is parked in the end, with its key.

        Raises:
            HandlerFailed: the handler failed for a reset, for a follower that is not durable, or for too many changes.
            LostLease, Unavailable, StoreError: nothing is wrong with the changes; deliver them again later.
        """
        for attempt in range(ATTEMPTS):
            try:
                await self._give(changes, position)
                return
            except HandlerFailed as failed:
                await self._weigh(failed)
                log.info("handler_failed", follower=self._of.name, attempt=attempt + 1, error=str(failed))
                if attempt < ATTEMPTS - 1:
                    await asyncio.sleep(random.uniform(0.5, 1.0) * 0.05 * 3**attempt)
        for i, change in enumerate(changes):
            at = position if i == len(changes) - 1 else position_of(change)
            try:
                await self._give([change], at)
            except HandlerFailed as failed:
                await self._weigh(failed)
                await self._park(change, failed, at)

    async def retry(self, position: Position) -> None:
        """Deliver the dead letters again, in order; what fails again keeps its key parked."""
        assert self._lease is not None
        held: set[Key] = set()
        for letter in await self._letters.letters(limit=10 * MOST_PARKED):
            key = key_of(letter.change)
            if key in held:
                continue
            try:
                await self._again(letter.change, position)
            except HandlerFailed as failed:
                await self._weigh(failed)
                log.info("change_still_fails", follower=self._of.name, table=letter.change.table, key=letter.change.key)
                if key is not None:
                    held.add(key)
        await self.learn_parked()
        await self._leases.retried(self._lease)

    async def _weigh(self, failed: HandlerFailed) -> None:
        if failed.is_the_databases:
            raise failed.cause from failed
        if self._lease is not None:
            await self._leases.failed(self._lease, str(failed))

    async def _give(self, changes: list[Change], position: Position) -> None:
        waiting: list[Change] = []
        ready = changes
        if self._parked:
            waiting = [change for change in changes if key_of(change) in self._parked]
            ready = [change for change in changes if key_of(change) not in self._parked]
        await self._hand_over(ready, waiting, position)

    async def _hand_over(
        self, ready: list[Change], waiting: list[Change], position: Position, *, clear: bool = False
    ) -> None:
        """Hand `ready` to the handler, put `waiting` aside, keep `position`."""
        handled = 0 if clear else len(ready)

        async def settle(unit: Unit) -> None:
            if waiting:
                await self._letters.park(waiting, "an earlier change of the same key is parked", unit)
            if clear:
                await self._letters.clear(unit)
            assert self._lease is not None
            await self._leases.checkpoint(self._lease, position, unit, handled=handled)

        async def together(unit: Unit) -> None:
            if ready:
                await self._call(Batch(ready, position), unit)
            await settle(unit)

        if self._of.transactional:
            await self._store.run(together, confined=False)
        else:
            if ready:
                await self._call(Batch(ready, position))
            if self._lease is not None and (waiting or clear):
                await self._store.run(settle, confined=False)
            elif self._lease is not None:
                await self._leases.checkpoint(self._lease, position, handled=handled)
        self._moved(position)

    async def _park(self, change: Change, failed: HandlerFailed, position: Position) -> None:
        if self._lease is None or change.op == "reset":
            raise failed
        if await self._letters.count() >= MOST_PARKED:
            raise JournalError(
                f"{MOST_PARKED:,} changes are parked already, so it is not the changes ({failed}); mend the handler,"
                f" then run `holdfast journal retry {self._of.name}`"
            ) from failed
        log.error(
            "change_parked",
            follower=self._of.name,
            table=change.table,
            key=change.key,
            seq=change.seq,
            error=str(failed),
        )
        lease = self._lease

        async def park(unit: Unit) -> None:
            await self._letters.park([change], str(failed), unit)
            await self._leases.checkpoint(lease, position, unit)

        await self._store.run(park, confined=False)
        if (key := key_of(change)) is not None:
            self._parked.add(key)
        self._moved(position)

    async def _again(self, change: Change, position: Position) -> None:
        lease = self._lease
        assert lease is not None

        async def together(unit: Unit) -> None:
            if self._of.transactional:
                await self._call(Batch([change], position), unit)
            await self._letters.remove(change.seq, unit)
            await self._leases.checkpoint(lease, position, unit, handled=1)  # nobody else runs this follower

        if not self._of.transactional:
            await self._call(Batch([change], position))
        await self._store.run(together, confined=False)

    async def _call(self, *arguments: Any) -> None:
        try:
            await self._of.handler(*arguments)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            raise HandlerFailed(StoreError("what the handler waited for was cancelled")) from error
        except Exception as error:
            raise HandlerFailed(error) from error
