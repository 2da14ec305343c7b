"""One run of a backfill: whose turn it is, the loop over pages, how fast it may go, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import Conflict, InvalidValue, MigrationError, StoreError, Unavailable
from holdfast.logs import get_logger
from holdfast.migrate.additive import make_missing
from holdfast.migrate.backfills.asked import Asked, refused
from holdfast.migrate.backfills.ledger import Ledger, Taken, metadata
from holdfast.migrate.backfills.neighbours import Neighbours
from holdfast.migrate.backfills.pace import Pace
from holdfast.migrate.backfills.place import Batch, Place, prepare
from holdfast.migrate.backfills.report import Failure, Progress, Report
from holdfast.migrate.backfills.sample import Sample
from holdfast.migrate.backfills.source import Key, Source, source_of
from holdfast.migrate.backfills.writing import Updating, Written
from holdfast.store import ALL, Query, Store
from holdfast.store.failures import is_retryable, sqlstate

log = get_logger("holdfast.migrate")

OnError = Literal["stop", "skip"]
Told = Callable[[Progress], None]

_PENDING = 5_000  # rows that may be outstanding before the next page waits for them
_LOOK = 1.0  # seconds between looks at what others wait for, and how far behind replicas are
_CANCELLED = "57014"


class Runner:
    """One run of one backfill."""

    def __init__(
        self,
        store: Store,
        asked: Asked,
        *,
        on_error: OnError,
        give_up: float,
        lease: float,
        told: Told | None,
        max_replica_lag: float,
        max_follower_lag: float | None,
    ) -> None:
        if on_error not in ("stop", "skip"):
            raise InvalidValue(f"on_error is 'stop' or 'skip', not {on_error!r}")
        self._store = store
        self._asked = asked
        self._source: Source = asked.source
        self._stops = on_error == "stop"
        self._give_up = give_up
        self._lease = lease
        self._told = told
        self._concurrent = store.dialect != "sqlite"
        self._pace = Pace(asked.batch, bound=asked.max_lock, duty=asked.duty)
        self._ledger = Ledger(asked.name, store.dialect, ttl=lease)
        self._place = Place.of(asked.source, Progress())
        self._neighbours = Neighbours(store, max_replica_lag=max_replica_lag, max_follower_lag=max_follower_lag)
        self._sample = Sample(asked.source)
        self._batch: list[Key] = []
        self._reader: AsyncConnection | None = None
        self._began = 0.0
        self._looked = 0.0

    async def run(self, verify: Query[Any] | None, *, again: bool, wait: float) -> Report:
        taken = await self._take(again, wait)
        self._place = Place.of(self._source, taken.progress)
        resumed = taken.progress.batches > 0
        try:
            if taken.state != "done":
                await self._work(resumed)
            return await self._report(verify, resumed)
        finally:
            await asyncio.shield(self._let_go())

    async def _take(self, again: bool, wait: float) -> Taken:
        summed = self._asked.checksum()
        async with self._store.connect(write=True) as connection:
            await connection.run_sync(make_missing, [metadata])
        began = time.monotonic()
        while True:
            async with self._store.connect(write=True) as connection:
                await self._ledger.begin(connection, self._source.table.name, summed, anew=again)
                taken = await self._ledger.acquire(connection)
                holder = "" if taken else await self._ledger.holder(connection)
            if taken is not None:
                break
            if time.monotonic() - began >= wait:
                raise Unavailable(
                    f"the backfill {self._asked.name!r} is being run by {holder}; wait for it, or for its lease to end"
                )
            await asyncio.sleep(min(0.2, self._lease / 4))
        if taken.checksum != summed:
            await self._let_go()
            raise MigrationError(
                f"the backfill {self._asked.name!r} was begun with another source, other columns or another target;"
                " ask for the same, give it another name, or say again=True to begin anew"
            )
        return taken

    async def _let_go(self) -> None:
        async with self._store.connect(write=True) as connection:
            await self._ledger.release(connection)

    async def _work(self, resumed: bool) -> None:
        if not resumed:
            async with self._store.connect() as connection:
                total = (await connection.execute(self._source.count())).scalar_one()
            self._place = Place.of(self._source, msgspec.structs.replace(self._place.progress, total=total))
        self._began = time.monotonic()
        log.info("backfill_begins", name=self._asked.name, place=self._store.place, rows=self._place.progress.total)
        async with contextlib.AsyncExitStack() as stack:
            if self._concurrent:  # each page sees what is committed by then, and keeps no transaction open
                reader = await stack.enter_async_context(self._store.connect())
                self._reader = await reader.execution_options(isolation_level="AUTOCOMMIT")
            while await self._step(pending=False):
                if len(self._place.pending) >= _PENDING:
                    await self._settle()
            await self._settle()
        async with self._store.connect(write=True) as connection:
            await self._ledger.move(connection, self._place.progress, "done")

    async def _settle(self) -> None:
        """Deal with the rows that others held; they are waited for, not the locks."""
        began, attempt = time.monotonic(), 0
        while self._place.pending:
            before = len(self._place.pending)
            await self._step(pending=True)
            if len(self._place.pending) < before:
                began, attempt = time.monotonic(), 0
                continue
            if time.monotonic() - began > self._give_up:
                raise MigrationError(
                    f"{len(self._place.pending)} rows of {self._source.table.name} are held by others for more than"
                    f" {self._give_up:g} s (see pg_stat_activity); end that transaction and run the backfill"
                    f" {self._asked.name!r} again, which goes on from here"
                )
            await self._rest(min(1.0, 0.02 * 2.0**attempt) * random.uniform(0.5, 1.5))
            attempt = min(attempt + 1, 10)

    async def _step(self, *, pending: bool) -> bool:
        """One batch; returns whether there may be more."""
        size = self._pace.size
        began = time.monotonic()
        try:
            if self._concurrent:
                assert self._reader is not None
                rows = await self._read(self._reader, size, pending)
                if not rows and not pending:
                    return False
            else:
                rows = None
            with _no_collection():
                held, count = await self._write(rows, size, pending)
        except (Conflict, InvalidValue) as error:
            if len(self._batch) > 1:
                self._pace.halve()
                return True
            key = ", ".join(map(str, self._source.encode(self._batch[0])))
            failure = Failure(key, f"{type(error).__name__}: {error}"[:300])
            if self._stops:
                raise MigrationError(refused(self._asked, failure)) from error
            held, count = await self._pass_by(failure, pending)
        except StoreError as error:
            if not (sqlstate(error) == _CANCELLED or is_retryable(error)):
                raise
            self._pace.halve()
            return True
        if not count and not pending:
            return False
        await self._look()
        self._pace.took(count, held, waiting=self._neighbours.waiting)
        if self._told is not None:
            self._told(self._place.progress)
        if rest := self._pace.rest(time.monotonic() - began):
            await self._rest(rest)
        return True

    async def _read(self, connection: AsyncConnection, size: int, pending: bool) -> Sequence[Any]:
        versions = self._concurrent and self._asked.work.reads
        if pending:
            statement = self._source.again(self._place.pending[:size], versions=versions)
        else:
            statement = self._source.page(self._place.last, size, versions=versions)
        rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    async def _write(self, rows: Sequence[Any] | None, size: int, pending: bool) -> tuple[float, int]:
        """Write a page and how far it came, in one transaction; returns for how long locks were held, and the rows.

        Args:
            rows: the page; None to read it in the transaction.
        """
        batch = None if rows is None else self._prepare(rows)
        async with self._store.unit(actor=f"backfill:{self._asked.name}", tenant=ALL) as unit:
            connection = await unit.connection()
            if self._concurrent and (limit := self._pace.limit):
                bound = text("SELECT set_config('statement_timeout', :limit, true)")
                await connection.execute(bound, {"limit": str(max(1, round(limit * 1_000)))})
            held = time.monotonic()
            if batch is None:
                batch = self._prepare(await self._read(connection, size, pending))
            written = Written(set(), 0, held)
            if batch.items:
                with unit.translated():
                    written = await self._asked.work.write(connection, batch.items)
                held = written.since if self._concurrent else held
            after = self._place.after(batch, written.keys, written.count, back=size if pending else 0)
            await self._ledger.move(connection, after.progress)
        seconds = time.monotonic() - held
        self._moved(after, seconds)
        if isinstance(self._asked.work, Updating):
            self._sample.remember(batch.items, written.keys)
        return seconds, len(batch.keys)

    async def _pass_by(self, failure: Failure, pending: bool) -> tuple[float, int]:
        """Note that the one row of the batch was refused, and go on behind it."""
        after = self._place.after(Batch(self._batch, [], [failure]), set(), 0, back=1 if pending else 0)
        async with self._store.connect(write=True) as connection:
            await self._ledger.move(connection, after.progress)
        self._moved(after, 0.0)
        return 0.0, 1

    def _moved(self, after: Place, seconds: float) -> None:
        now = time.monotonic()
        self._place, self._began = after.taking(now - self._began, seconds), now

    def _prepare(self, rows: Sequence[Any]) -> Batch:
        batch = prepare(self._asked, rows, versioned=self._concurrent and self._asked.work.reads, stops=self._stops)
        self._batch = batch.keys
        return batch

    async def _look(self) -> None:
        """See, now and then, whether somebody waits for a lock; wait for replicas and followers that are behind."""
        if time.monotonic() - self._looked < _LOOK:
            return
        while True:
            self._looked = time.monotonic()
            behind = await self._neighbours.behind()
            if not behind:
                return
            log.info("backfill_waits", name=self._asked.name, behind=behind)
            await self._rest(0.5)
            await self._renew()

    async def _rest(self, seconds: float) -> None:
        """Sleep, and stay the runner meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._lease / 3))
            if seconds > self._lease / 3:
                await self._renew()

    async def _renew(self) -> None:
        async with self._store.connect(write=True) as connection:
            await self._ledger.renew(connection)

    async def _report(self, verify: Query[Any] | None, resumed: bool) -> Report:
        remaining: int | None = None
        async with self._store.connect() as connection:
            if verify is not None:
                found = source_of(verify, (), ())
                remaining = (await connection.execute(found.count())).scalar_one()
            differing = await self._sample.differing(connection)
        done = self._place.progress
        report = Report(
            name=self._asked.name,
            total=done.total,
            read=done.read,
            written=done.written,
            skipped=done.skipped,
            failed=done.failed,
            failures=done.failures,
            batches=done.batches,
            seconds=round(done.seconds, 3),
            rows_per_second=round(done.read / done.seconds, 1) if done.seconds else 0.0,
            slowest=round(done.slowest, 4),
            remaining=remaining,
            sampled=len(self._sample),
            differing=differing,
            verified=verify is None or remaining == 0,
            resumed=resumed,
        )
        log.info("backfill_ended", name=report.name, written=report.written, failed=report.failed)
        return report


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Put the collection of garbage off: in a large process it takes a tenth of a second, and others wait meanwhile."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
