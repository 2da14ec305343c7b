"""`Rollups`: the follower that marks buckets dirty, and the loop that computes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

from holdfast.errors import HoldfastError
from holdfast.journal import EVERYTHING, Batch, Journal
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.rollup.buckets import dirty_buckets
from holdfast.rollup.definition import Rollup
from holdfast.rollup.refresh import BATCH, adopt, mark, mark_all, refresh
from holdfast.store import Store, Unit

FOLLOWER = "rollups"
TOPIC = "rollups.refreshed"
_GATHER = 0.1  # seconds to let marks gather: a bulk load dirties the same buckets batch after batch
_RETRY = 1.0  # seconds after a refresh failed
_SWEEP = 5.0  # seconds between looks for marks that another instance set and, having died, does not compute

log = get_logger("holdfast.rollup")


class Rollups:
    """Keeps every declared rollup equal to its base rows.

    Marking is a transactional follower: the marks and the follower's checkpoint commit together. Computing
    is a loop in the instance that runs the follower; it finds the marks that a crash left behind.
    """

    def __init__(self, store: Store, journal: Journal, models: Sequence[type[Model]]) -> None:
        self.store = store
        self.journal = journal
        self.rollups = [rollup for model in models for rollup in model.__policy__.all(Rollup)]
        self._by_table: dict[str, list[Rollup]] = {}
        for rollup in self.rollups:
            self._by_table.setdefault(rollup.base().name, []).append(rollup)
        self._marked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow the journal and refresh, until `close`."""
        if self._task is not None or not self.rollups:
            return
        await self.journal.subscribe(FOLLOWER, self._follow, tables=tuple(self._by_table), transactional=True)
        for rollup in self.rollups:
            await self.store.run(partial(adopt, rollup=rollup), actor=FOLLOWER, confined=False)
        self._marked.set()  # marks may be there from before
        self._task = asyncio.create_task(self._loop())

    async def close(self) -> None:
        """Stop refreshing; marks that are left are computed by the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh_all(self) -> int:
        """Compute everything that is dirty now; returns how many buckets there were."""
        total = 0
        dirty = self.rollups
        while dirty:  # in turn: one that is written to all the time must not keep the others waiting
            counts = [await refresh(self.store, rollup) for rollup in dirty]
            dirty = [rollup for rollup, count in zip(dirty, counts, strict=True) if count == BATCH]
            total += sum(counts)
        if total:
            await self.store.run(lambda unit: unit.emit(TOPIC, data={"buckets": total}), actor=FOLLOWER, confined=False)
        return total

    async def rebuild(self) -> int:
        """Mark every bucket dirty and compute them all; returns how many there were."""
        for rollup in self.rollups:
            await self.store.run(partial(mark_all, rollup=rollup), actor=FOLLOWER, confined=False)
        return await self.refresh_all()

    async def _follow(self, batch: Batch, unit: Unit) -> None:
        for table, rollups in self._by_table.items():
            # What retention takes away is in an archive, and counts as before.
            changes = [c for c in batch.changes if c.table in (table, EVERYTHING) and c.op != "retired"]
            if not changes:
                continue
            for rollup in rollups:
                if any(c.op == "reset" for c in changes):
                    await mark_all(unit, rollup)
                else:
                    await mark(unit, rollup, dirty_buckets(rollup, ((c.old, c.new) for c in changes)))
        unit.after_commit(self._wake)

    async def _wake(self) -> None:
        self._marked.set()

    async def _loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP):
                    await self._marked.wait()
            self._marked.clear()
            try:
                await self.refresh_all()
            except HoldfastError as error:
                log.warning("refresh_failed", reason=str(error), retry_in=_RETRY)
            except Exception:
                log.exception("refresh_failed", retry_in=_RETRY)
            else:
                await asyncio.sleep(_GATHER)
                continue
            # Whatever went wrong, the marks are still there.
            self._marked.set()
            await asyncio.sleep(_RETRY)
