"""Whether what belongs on the audit trail gets there, and whether that its end was cut off would be found."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable

from sqlalchemy import func, select

from holdfast.guard.audit.checkpoint import CHECKPOINT
from holdfast.guard.audit.tables import Tables
from holdfast.guard.audit.trail import FOLLOWER
from holdfast.journal.status import FollowerStatus, status
from holdfast.model import Model
from holdfast.operate.findings import Finding
from holdfast.store import Store

LATE = 60.0  # seconds that a change may wait for its seal
OLD = dt.timedelta(days=7)
"""How old the last checkpoint may be."""


async def examine_trail(store: Store, models: Iterable[type[Model]]) -> AsyncIterator[Finding]:
    """What is to be said of the trail; nothing where no model keeps one."""
    tables = Tables.of(models)
    if tables is None:
        return
    followers = {follower.name: follower for follower in (await status(store)).followers}
    yield of_follower(followers.get(FOLLOWER))
    columns = tables.records.c
    asked = select(func.max(columns.created_at)).where(columns.tenant == "", columns.action == CHECKPOINT)
    async with store.connect() as connection:
        yield of_checkpoint((await connection.execute(asked)).scalar_one(), dt.datetime.now(dt.UTC))


def of_follower(follower: FollowerStatus | None) -> Finding:
    """What is to be said of who seals."""
    if follower is None:
        told = "the journal is not kept for the trail, so that what is changed may be on no record"
        return Finding.wrong("audit sealing", told, "run `holdfast migrate up`, then whatever follows: `holdfast work`")
    if problems := follower.problems():
        return Finding.wrong("audit sealing", "; ".join(problems), "see `holdfast journal status`")
    waiting = f"{follower.lag_changes:,} changes of the journal wait, the oldest for {follower.lag_seconds:,.0f} s"
    if follower.lag_changes and follower.holder is None:
        return Finding.note("audit sealing", f"{waiting}, and nobody seals", "run `holdfast up` or `holdfast work`")
    if follower.lag_seconds > LATE:
        told = f"{waiting}: it does not keep up"
        return Finding.note("audit sealing", told, "see what its process and the database are busy with")
    return Finding.ok("audit sealing", waiting if follower.lag_changes else "nothing waits to be sealed")


def of_checkpoint(last: dt.datetime | None, now: dt.datetime) -> Finding:
    """What is to be said of the last checkpoint that is on record."""
    do = "have `holdfast audit checkpoint FILE` run each day, the file where who has the database cannot write"
    if last is None:
        return Finding.note("audit checkpoint", "none is on record: that an end was cut off would not be found", do)
    if now - last > OLD:
        told = f"the last is of {last:%Y-%m-%d}: that an end was cut off since would not be found"
        return Finding.note("audit checkpoint", told, do)
    return Finding.ok("audit checkpoint", f"the last is of {last:%Y-%m-%d}")
