"""Runs of schedules: under a lease, within their time, recorded however they end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from holdfast.errors import HoldfastError, NotFound, StoreError, Unavailable
from holdfast.logs import get_logger
from holdfast.operate.rhythm import Turn, retry_after, time_of, turn
from holdfast.operate.schedule_table import PastRun, ScheduleTable, State, Taken
from holdfast.operate.schedules import Schedule, Schedules
from holdfast.operate.worker import Piece
from holdfast.store import Unit
from holdfast.store.cancellation import to_the_end
from holdfast.store.failures import translate

log = get_logger("holdfast.work")

_LONGEST = 500  # characters of an error that are kept


class LostSchedule(StoreError):
    """Another instance runs this schedule now; what this one did since has not been kept."""


class Run:
    """One run, as the work sees it.

    Attributes:
        name: the schedule's.
        planned: the turn it runs for, UTC; with `catch_up="once"` the newest that was missed.
        attempt: 1, and one more for every time that this turn has failed.
    """

    def __init__(self, table: ScheduleTable, schedule: Schedule, taken: Taken, planned: int) -> None:
        self._table, self._schedule, self._taken = table, schedule, taken
        self.name = schedule.name
        self.planned: dt.datetime = time_of(planned)
        self.attempt = taken.failures + 1

    @asynccontextmanager
    async def unit(self, **context: Any) -> AsyncIterator[Unit]:
        """A unit of the schedule's tenant, with `schedule:NAME` as its actor, that commits only under the lease.

        Raises:
            LostSchedule: another instance has taken the schedule meanwhile; nothing of this unit is kept.
        """
        given = {"actor": f"schedule:{self.name}", "tenant": self._schedule.tenant, "confined": False, **context}
        async with self._table.store.unit(**given) as unit:
            yield unit
            await unit.flush()
            if not await self._table.is_held(self._taken, unit):
                raise LostSchedule(f"another instance runs the schedule {self.name!r} now; this one's unit is undone")


class ScheduleRunner:
    """A source of due work: the schedules that this process knows.

    Args:
        host: what the work gets as its first argument.
        ended: told of every run that ended, after it was recorded.
    """

    def __init__(
        self,
        table: ScheduleTable,
        schedules: Schedules,
        host: Any,
        *,
        ended: Callable[[PastRun], None] | None = None,
    ) -> None:
        self._table, self._schedules, self._host, self._ended = table, schedules, host, ended
        self._registered: dict[str, str] = {}

    async def take(self, room: int) -> list[Piece]:
        """Take what is due and nobody runs."""
        await self._register()
        pieces: list[Piece] = []
        for name in await self._table.due():
            schedule = self._schedules.get(name)
            if schedule is None:
                continue  # another program's
            if len(pieces) == room:
                break
            if (taken := await self._table.take(name)) is not None:
                pieces.append(partial(self._run_turn, schedule, taken))
        return pieces

    async def wait(self) -> float | None:
        """Seconds until the next of them is due."""
        seconds = await self._table.wait({schedule.name for schedule in self._schedules})
        if seconds is None:
            self._registered = {}  # all are paused; or the database was emptied, and they must be made again
        return seconds

    async def run_now(self, name: str) -> PastRun:
        """Run a schedule now, also when it is paused; its own turns stay as they are.

        Raises:
            NotFound: this process knows none of this name. StoreError: another instance runs it just now.
        """
        schedule = self._schedules.get(name)
        if schedule is None:
            known = ", ".join(sorted(schedule.name for schedule in self._schedules)) or "none"
            raise NotFound(f"no module that is imported declares a schedule {name!r} (known: {known})")
        await self._register()
        taken = await self._table.take(name, by_hand=True)
        if taken is None:
            raise StoreError(f"another instance runs {name!r} just now; see `holdfast work list`, and try again later")
        alone = Taken(name=name, token=taken.token, due=taken.due, failures=0, now=taken.now)
        await self._run(schedule, alone, Turn(taken.now, taken.due), by_hand=True)
        return (await self._table.history(name, 1))[0]

    async def _register(self) -> None:
        wanted = {schedule.name: str(schedule.rhythm) for schedule in self._schedules}
        if wanted != self._registered:
            await self._table.register(list(self._schedules))
            self._registered = wanted

    async def _run_turn(self, schedule: Schedule, taken: Taken) -> None:
        await self._run(schedule, taken, turn(schedule.rhythm, schedule.catch_up, taken.due, taken.now))

    async def _run(self, schedule: Schedule, taken: Taken, now: Turn, *, by_hand: bool = False) -> None:
        if now.planned is None:
            await self._table.began(taken, taken.due)
            await self._table.ended(taken, "skipped", "it was missed, and catch_up is skip", next_at=now.following)
            return
        try:
            await self._table.began(taken, now.planned, by_hand=by_hand)
            run = Run(self._table, schedule, taken, now.planned)
            state, error = await self._under_lease(taken, self._work(schedule, run))
        except asyncio.CancelledError:
            # Nobody's fault: the turn is not used up, and whoever comes next takes it.
            await to_the_end(self._record(schedule, taken, "cancelled", "the worker was stopped", taken.due, by_hand))
            raise
        await to_the_end(self._record(schedule, taken, state, error, now.following, by_hand))

    async def _record(
        self, schedule: Schedule, taken: Taken, state: State, error: str | None, following: int, by_hand: bool
    ) -> None:
        failures, wait, next_at = 0, 0, following
        if state == "failed" and not by_hand:
            failures = taken.failures + 1
            wait = retry_after(failures)
            if failures < schedule.attempts:
                next_at = taken.due
            else:
                failures = 0
        elif state == "cancelled":
            failures, wait = taken.failures, 0
        if not await self._table.ended(taken, state, error, next_at=next_at, failures=failures, wait=wait):
            log.warning("schedule_lost", schedule=schedule.name, state=state)
            return
        if state == "failed":
            log.warning("schedule_failed", schedule=schedule.name, attempt=taken.failures + 1, error=error)
        else:
            log.info("schedule_ended", schedule=schedule.name, state=state)
        if self._ended is not None:
            self._ended((await self._table.history(schedule.name, 1))[0])

    async def _work(self, schedule: Schedule, run: Run) -> tuple[State, str | None]:
        try:
            async with asyncio.timeout(schedule.timeout) as limit:
                await schedule.work(self._host, run)
        except LostSchedule:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is this run's failure
            if isinstance(error, TimeoutError) and limit.expired():
                return "failed", f"took longer than its {schedule.timeout:g} s"
            return "failed", told(error, self._table.store.place)
        return "done", None

    async def _under_lease(
        self, taken: Taken, work: Coroutine[Any, Any, tuple[State, str | None]]
    ) -> tuple[State, str | None]:
        """Do `work` while the lease is kept; cancelled when it is lost."""
        working = asyncio.create_task(work)
        keeping = asyncio.create_task(self._keep(taken))
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        except LostSchedule as lost:
            return "abandoned", str(lost)
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
        return "abandoned", "another instance has taken the schedule"

    async def _keep(self, taken: Taken) -> None:
        """Return when the lease is lost."""
        while True:
            await asyncio.sleep(self._table.ttl / 3)
            with contextlib.suppress(Unavailable):  # it may be back before the lease ends
                if not await self._table.renew(taken):
                    return


def told(error: Exception, place: str) -> str:
    """What `error` says, where it is one that quotes no values; else its kind and where it was raised.

    A message from elsewhere may hold a password or somebody's data, and the history is for everybody who operates.
    """
    meaning = error if isinstance(error, HoldfastError) else translate(error, place)
    if meaning is not None:
        return f"{type(meaning).__name__}: {meaning}"[:_LONGEST]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"[:_LONGEST]
