"""Is everything as it must be, and if not, what to do: what `doctor` and the overview page answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import func, select

from holdfast.errors import HoldfastError, Unavailable
from holdfast.index.rejected import list_rejected, rejected
from holdfast.journal import Journal, JournalStatus
from holdfast.migrate import Difference
from holdfast.operate.findings import Finding, Report
from holdfast.operate.redis import examine_redis
from holdfast.operate.schedule_table import ScheduleState, ScheduleTable
from holdfast.shared import Kept
from holdfast.store import Store
from holdfast.store.redis import Redis

PING_LIMIT = 2.0  # seconds after which a database that does not answer counts as down
_SCHEMA_KEPT = 5.0  # seconds for which what is pending is not looked up again
_REDIS_KEPT = 2.0  # seconds for which Redis is not asked again how it fares
_LATE = 300_000  # milliseconds that a schedule may wait for a worker
_NAMED = 5  # of what is missing
_MIGRATE = "run `holdfast migrate up`"


class Examiner:
    """Looks at one data layer, and changes nothing.

    Args:
        pending: what a migration would make now.
        captured: the number of captured tables.
        is_followed: whether it has what some process must follow the journal for.
        redis: where the cache shares what it has loaded; None where that is nowhere.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        pending: Callable[[], Awaitable[Difference]],
        *,
        captured: int,
        is_followed: bool,
        redis: Redis | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._captured = captured
        self._is_followed = is_followed
        self._redis = None if redis is None else Kept(lambda: examine_redis(redis), _REDIS_KEPT)
        self.pending: Kept[Difference] = Kept(pending, _SCHEMA_KEPT)

    async def ping(self) -> float:
        """Seconds that the database took to answer.

        Raises:
            Unavailable: it did not, within `PING_LIMIT` seconds.
        """
        try:
            async with asyncio.timeout(PING_LIMIT):
                return await self._store.ping()
        except TimeoutError:
            raise Unavailable(f"{self._store.place} does not answer within {PING_LIMIT:g} s") from None

    async def examine(self) -> Report:
        """What is wrong and what is worth knowing.

        Never raises for a database or a Redis that is gone: that is a finding.
        """
        file = self._store.file
        if file is not None and not file.exists():
            return Report.of([_database_wrong(f"there is no file {file}", "make it: holdfast migrate up")])
        findings: list[Finding] = []
        try:
            findings.append(_database(self._store.dialect, await self.ping()))
            difference = await self.pending.get()
            findings += _schema(difference, self._captured)
            if not difference.tables:
                findings.append(_followers(await self._journal.status(), self._is_followed))
                findings += await self._rejected()
                findings += _schedules(await ScheduleTable(self._store).states())
        except HoldfastError as error:
            findings.append(_database_wrong(*_advised(error)))
        if self._redis is not None:
            findings += (await self._redis.get()).findings
        return Report.of(findings)

    async def _rejected(self) -> list[Finding]:
        async with self._store.read(confined=False) as unit:
            number = (await unit.execute(select(func.count()).select_from(rejected))).scalar_one()
            newest = await list_rejected(unit, limit=1) if number else []
        if not newest:
            return []
        record = newest[0]
        detail = (
            f"{number:,} could not be read; the newest: {record.file}, {record.place or 'the whole'}: {record.reason}"
        )
        advice = "mend the file and index it again; what was indexed already is left alone"
        return [Finding(check="rejected records", state="note", detail=detail[:500], do=advice)]


def _database(dialect: str, seconds: float) -> Finding:
    # Coarse: `/health` has the figure, and a page need not change because it did.
    limit = next(limit for limit in (0.01, 0.1, 1.0, float("inf")) if seconds < limit)
    words = "slowly" if limit > 1 else f"within {limit * 1000:g} ms"
    return Finding(check="database", state="ok", detail=f"{dialect}, answers {words}")


def _database_wrong(detail: str, do: str) -> Finding:
    return Finding(check="database", state="wrong", detail=detail, do=do)


def _advised(error: HoldfastError) -> tuple[str, str]:
    """What is wrong, and what to do."""
    if isinstance(error, Unavailable):
        return str(error), "see that the database runs and that URL and login are right; a service recovers by itself"
    detail, _, advice = str(error).rpartition("; ")
    return (detail, advice) if detail else (advice, "see the log of the process, or run it with -v")


def _schema(difference: Difference, captured: int) -> list[Finding]:
    lacking = [
        *(f"table {name}" for name in difference.tables),
        *(f"column {name}" for name in difference.columns),
        *(f"index {name}" for name in difference.indexes),
        *(f"migration {name}" for name in difference.migrations),
    ]
    if lacking:
        detail = f"the database lacks {_first(lacking, ', ')}"
        found = [Finding(check="migrations", state="wrong", detail=detail, do=_MIGRATE)]
    else:
        found = [Finding(check="migrations", state="ok", detail="none pending")]
    if difference.tables or difference.migrations:
        return found  # what is not there cannot be captured either
    if difference.capture:
        detail = f"{_first(difference.capture, '; ')}; changes made meanwhile are in no journal"
        advice = f"{_MIGRATE}, then `holdfast journal rebuild FOLLOWER` for each: it missed what was written"
        return [*found, Finding(check="capture", state="wrong", detail=detail, do=advice)]
    return [*found, Finding(check="capture", state="ok", detail=f"whole: {captured} tables")]


def _followers(status: JournalStatus, is_followed: bool) -> Finding:
    wrong = [problem for follower in status.followers for problem in follower.problems()]
    if wrong:
        advice = "see `holdfast journal status` and `holdfast journal parked FOLLOWER`"
        return Finding(check="journal", state="wrong", detail="; ".join(wrong), do=advice)
    if is_followed and not status.followers:
        detail = "nobody follows it: the figures that are derived from it are not kept up to date"
        return Finding(check="journal", state="note", detail=detail, do="run `holdfast up`, or open with follow=True")
    behind = ", ".join(f"{f.name} {f.lag_changes:,} behind" for f in status.followers) or "no followers"
    return Finding(check="journal", state="ok", detail=f"at {status.position}; {behind}")


def _schedules(states: list[ScheduleState]) -> list[Finding]:
    if not states:
        return []
    failed = [problem for state in states if (problem := state.problem()) is not None]
    if failed:
        advice = "see `holdfast work history NAME`; it is tried again by itself, or now with `holdfast work run NAME`"
        return [Finding(check="schedules", state="wrong", detail=_first(failed, "; "), do=advice)]
    late = [state.name for state in states if state.late > _LATE]
    if late:
        detail = f"nobody runs what has been due for over {_LATE // 60_000} minutes: {_first(late, ', ')}"
        advice = "run `holdfast work`, or `holdfast work forget NAME` for what no code declares any more"
        return [Finding(check="schedules", state="note", detail=detail, do=advice)]
    paused = sum(not state.enabled for state in states)
    detail = f"{len(states)}, none failed" + (f", {paused} paused" if paused else "")
    return [Finding(check="schedules", state="ok", detail=detail)]


def _first(names: list[str], between: str) -> str:
    return between.join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
