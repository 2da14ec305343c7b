"""What the accounts no longer keep is deleted, and nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from holdfast import ALL, Holdfast, Unit
from holdfast.apps import accounts
from holdfast.apps.accounts import ApiKey, Session, UsageLog, User, retention
from holdfast.operate import registered
from holdfast.store.partitions import Month, make_partitions
from tests.backends import settings_for

NOW = dt.datetime.now(dt.UTC)


def ago(days: float) -> dt.datetime:
    return NOW - dt.timedelta(days=days)


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=accounts.metadata) as hold:
        if hold.store.dialect == "postgresql":
            async with hold.store.connect(write=True) as connection:
                await make_partitions(connection, "usage_logs", "created_at", {Month.of(ago(731)), Month.of(ago(729))})
        yield hold


class Turn:
    """A run of the schedule."""

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        return self._hold.unit(actor="schedule:accounts.retention", tenant=ALL)


async def test_what_was_kept_for_long_enough_goes_and_the_rest_stays(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 3)
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="ada"))
        ends = {"dead": ago(91), "recent": ago(89), "alive": None}
        for name, end in ends.items():
            key = (await hold.keys.create(unit, name=name, user_id=ada.id)).row
            session = (await hold.sessions.begin(unit, ada.id)).row
            if end is not None:
                await unit[ApiKey].update(key.id, revoked_at=end)
            if name == "dead":
                await unit[Session].update(session.id, revoked_at=ago(31))
        asked: dict[str, Any] = {"user_id": ada.id, "endpoint": "/v1/agents", "method": "GET", "status_code": 200}
        for _ in range(7):
            unit.add(UsageLog(created_at=ago(731), **asked))
        unit.add(UsageLog(created_at=ago(729), **asked), UsageLog(created_at=NOW, **asked))
    before = await hold.journal.make_tick()
    await retention.forget(hold, Turn(hold))  # type: ignore[arg-type]
    async with hold.read(tenant=ALL) as unit:
        assert {key.name for key in await unit[ApiKey].list()} == {"recent", "alive"}
        assert await unit[Session].count() == 2
        assert {log.created_at for log in await unit[UsageLog].list()} == {ago(729), NOW}
    after = await hold.journal.make_tick()
    gone = [change async for page in hold.journal.read(before, after, tables=["usage_logs"]) for change in page.changes]
    assert [change.op for change in gone].count("retired") == 7


def test_it_is_done_each_night() -> None:
    schedule = registered.get("accounts.retention")
    assert schedule is not None
    assert schedule.tenant is ALL
