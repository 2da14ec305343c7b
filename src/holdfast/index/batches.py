"""From a stream of records to committed batches: idempotent writes, bad records set aside, the rest kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from holdfast.errors import Conflict, InvalidValue, MalformedRecord, Unavailable
from holdfast.index.rejected import Rejected, reject
from holdfast.logs import get_logger
from holdfast.store import Store, Unit
from holdfast.store.failures import is_connection_loss

R = TypeVar("R")
R_in = TypeVar("R_in", contravariant=True)
BATCH = 2_000  # records a transaction
_PATIENCE = 1.0  # seconds after which a batch is stored though it is not full: a pipe may bring few records
_OUTAGE = 30.0  # seconds that a database may be gone, as it is while it restarts, before a run gives up
_TOLD = 100

log = get_logger("holdfast.index")


@dataclass(frozen=True, slots=True)
class Item(Generic[R]):
    """One record from outside, or why it is none, and where it stood."""

    file: str
    place: str  # where in the file; "" for the file as a whole
    record: R | MalformedRecord


class Sink(Protocol[R_in]):
    """Writes records so that writing one again changes nothing."""

    async def write(self, unit: Unit, records: Sequence[R_in]) -> None:
        """Write `records` in `unit`.

        Raises:
            InvalidValue, Conflict: a record cannot be kept; the batch is then narrowed down to it.
        """


class Indexer(Generic[R]):
    """Copies a source into the store in batches, each one transaction.

    Parsing the next batch overlaps with storing the one before, so that a second core is used where there is one.
    """

    def __init__(
        self, store: Store, source: str, sink: Sink[R], *, batch: int = BATCH, actor: str | None = None
    ) -> None:
        self.store = store
        self.source = source
        self.sink = sink
        self.batch = batch
        self.actor = actor or f"index:{source}"
        self.rejected = 0
        self.first_rejected: list[Rejected] = []  # the first of them, to be told at once

    async def run(self, items: Iterator[Item[R]], *, after_batch: Callable[[], None] | None = None) -> None:
        """Index all of `items`; `after_batch` is called as each batch is committed.

        Raises:
            Unavailable: the database is gone, and not back within half a minute; what was committed before stays, and
                a second run goes on from there.
        """
        part = await asyncio.to_thread(self._take, items)
        while part:
            storing = asyncio.ensure_future(self._store(part))
            try:
                part = await asyncio.to_thread(self._take, items)
            finally:
                await storing
            if after_batch is not None:
                after_batch()

    def _take(self, items: Iterator[Item[R]]) -> list[Item[R]]:
        part: list[Item[R]] = []
        deadline = time.monotonic() + _PATIENCE
        for item in items:
            part.append(item)
            if len(part) == self.batch or time.monotonic() > deadline:
                break
        return part

    async def _store(self, part: list[Item[R]]) -> None:
        bad = [(item, item.record) for item in part if isinstance(item.record, MalformedRecord)]
        good = [item for item in part if not isinstance(item.record, MalformedRecord)]
        for items, refused in await self._write(good):
            bad.extend((item, refused) for item in items)
        if bad:
            self.rejected += len(bad)
            letters = [Rejected(source=self.source, file=i.file, place=i.place, reason=str(e)) for i, e in bad]
            self.first_rejected.extend(letters[: _TOLD - len(self.first_rejected)])
            await self._commit(lambda unit: reject(unit, letters))

    async def _write(self, items: list[Item[R]]) -> list[tuple[list[Item[R]], MalformedRecord]]:
        """Write `items` in one unit, or in halves when one of them is refused; returns the refused."""
        if not items:
            return []
        records = [item.record for item in items if not isinstance(item.record, MalformedRecord)]
        try:
            await self._commit(lambda unit: self.sink.write(unit, records))
        except (InvalidValue, Conflict) as error:
            if len(items) == 1:
                log.warning("record_refused", file=items[0].file, place=items[0].place, reason=str(error))
                return [(items, MalformedRecord(str(error)))]
            middle = len(items) // 2
            return [*await self._write(items[:middle]), *await self._write(items[middle:])]
        return []

    async def _commit(self, work: Callable[[Unit], Awaitable[None]]) -> None:
        """Do `work` in a unit, again while the database restarts; it may have been done when its answer was lost."""
        gone_since: float | None = None
        while True:
            try:
                return await self.store.run(work, actor=self.actor, confined=False)
            except Unavailable as error:
                now = time.monotonic()
                gone_since = gone_since or now
                if not is_connection_loss(error) or now - gone_since > _OUTAGE:
                    raise
                log.warning("database_gone", reason=str(error), gone_for=round(now - gone_since, 1))
                await asyncio.sleep(min(2.0, 0.1 + (now - gone_since) / 4))
