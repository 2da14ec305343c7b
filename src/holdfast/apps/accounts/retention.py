"""What the accounts keep for how long: dead keys for 90 days, sessions that are over for 30, usage for two years."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from holdfast.apps.accounts.models import ApiKey, Session, UsageLog
from holdfast.journal import retiring
from holdfast.operate import Run, scheduled
from holdfast.store import ALL

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

USAGE = dt.timedelta(days=730)
"""How long usage is kept."""

_BATCH = 5_000  # rows a transaction


@scheduled("30 3 * * *", name="accounts.retention", tenant=ALL, models=(ApiKey, Session, UsageLog))
async def forget(hold: Holdfast, run: Run) -> None:
    """Delete what was kept for long enough: each night, in transactions of at most some thousand rows."""
    async with run.unit() as unit:
        await hold.keys.delete_dead(unit, after="90d")
        await hold.sessions.delete_over(unit, after="30d")
    before = dt.datetime.now(dt.UTC) - USAGE
    old = select(UsageLog.id).where(UsageLog.created_at < before).limit(_BATCH)
    while True:
        async with run.unit() as unit, retiring(unit):
            ids = list((await unit.execute(old)).scalars())
            # By time as well, so that on PostgreSQL no other partition is looked at.
            await unit.execute(delete(UsageLog).where(UsageLog.id.in_(ids), UsageLog.created_at < before))
        if len(ids) < _BATCH:
            return
