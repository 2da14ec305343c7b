"""Is everything as it must be, and if not, what to do: the first thing the overview answers."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from sqlalchemy import func, select

from holdfast.errors import HoldfastError, Unavailable
from holdfast.hold import Holdfast
from holdfast.http.shared import Kept
from holdfast.index.rejected import list_rejected, rejected
from holdfast.journal import JournalStatus
from holdfast.migrate import Difference
from holdfast.migrate.failures import explained

PING_LIMIT = 2.0  # seconds after which a database that does not answer counts as down
_SCHEMA_KEPT = 5.0  # seconds for which what is pending is not looked up again


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. A note is worth knowing, and nothing is broken."""

    check: str
    state: Literal["ok", "note", "wrong"]
    detail: str
    do: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at; ok where nothing is wrong."""

    ok: bool
    findings: list[Finding]


class Examiner:
    """Looks at one `Holdfast`."""

    def __init__(self, hold: Holdfast) -> None:
        self.hold = hold
        self.pending: Kept[Difference] = Kept(hold.pending, _SCHEMA_KEPT)

    async def ping(self) -> float:
        """Seconds that the database took to answer.

        Raises:
            Unavailable: it did not, within `PING_LIMIT` seconds.
        """
        try:
            return await asyncio.wait_for(self.hold.store.ping(), PING_LIMIT)
        except TimeoutError:
            raise Unavailable(f"{self.hold.store.place} does not answer within {PING_LIMIT:g} s") from None

    async def journal(self) -> JournalStatus:
        """Where the journal and its followers are.

        Raises:
            Unavailable: the database cannot be reached. StoreError: it has no journal.
        """
        with explained(self.hold.store.place):
            return await self.hold.journal.status()

    async def examine(self) -> Status:
        """What is wrong and what is worth knowing. Never raises for a database that is gone: that is a finding."""
        findings: list[Finding] = []
        try:
            findings.append(_database(self.hold.store.dialect, await self.ping()))
            difference = await self.pending.get()
            findings += _schema(difference, sum(model.__policy__.capture for model in self.hold.models))
            if not difference.tables:
                findings.append(_journal(await self.journal(), bool(self.hold.rollups.rollups)))
                findings += await self._rejected()
        except HoldfastError as error:
            advice = "see that the database runs and that this machine reaches it; this recovers by itself"
            findings.append(Finding(check="database", state="wrong", detail=str(error), do=advice))
        return Status(ok=all(finding.state != "wrong" for finding in findings), findings=findings)

    async def _rejected(self) -> list[Finding]:
        async with self.hold.read() as unit:
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


def _schema(difference: Difference, captured: int) -> list[Finding]:
    advice = "run `holdfast migrate up`"
    lacking = [*difference.tables, *difference.columns, *difference.indexes]
    if lacking:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        found = [Finding(check="migrations", state="wrong", detail=f"the database lacks {shown}", do=advice)]
    else:
        found = [Finding(check="migrations", state="ok", detail="none pending")]
    if difference.tables:
        return found  # what is not there cannot be captured either
    if difference.capture:
        detail = "; ".join(difference.capture[:5]) + "; changes made meanwhile are in no journal"
        return [*found, Finding(check="capture", state="wrong", detail=detail, do=advice)]
    return [*found, Finding(check="capture", state="ok", detail=f"whole: {captured} tables")]


def _journal(status: JournalStatus, has_rollups: bool) -> Finding:
    wrong = [problem for follower in status.followers for problem in follower.problems()]
    if wrong:
        detail, _, advice = "; ".join(wrong).partition("; ")
        return Finding(check="journal", state="wrong", detail=detail, do=advice or "see `holdfast journal status`")
    if has_rollups and not status.followers:
        detail = "nobody follows it: the figures below are not kept up to date"
        return Finding(check="journal", state="note", detail=detail, do="run `holdfast up`, or open with follow=True")
    behind = ", ".join(f"{f.name} {f.lag_changes:,} behind" for f in status.followers) or "no followers"
    return Finding(check="journal", state="ok", detail=f"at {status.position}; {behind}")
