"""The rollups of an open database keep themselves equal to their rows."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest
from sqlalchemy import delete, text

from holdfast import Holdfast
from holdfast.errors import Unavailable
from holdfast.rollup import TOPIC, runner
from holdfast.rollup.refresh import adopt, dirty, known, refresh
from tests.rollup.conftest import Followed, assert_equal_to_the_batch, computed, kept
from tests.rollup.declared import BY_SHOP, DAILY, Base, Sale

DAY = dt.datetime(2025, 5, 1, tzinfo=dt.UTC)


def sale(day: int = 0, **values: Any) -> dict[str, Any]:
    return {"shop": "a", "buyer": "x", "sold_at": DAY + dt.timedelta(days=day), "amount": 7, **values}


async def sell(hold: Holdfast, *rows: dict[str, Any]) -> None:
    async with hold.unit() as unit:
        await unit[Sale].add_many([{"status": "settled", **row} for row in rows])


async def until_equal(hold: Holdfast) -> None:
    """Wait for the background to have computed what is written."""
    deadline = time.monotonic() + 20
    for rollup in (DAILY, BY_SHOP):
        while await kept(hold, rollup) != await computed(hold, rollup):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_figures_follow_what_is_written_by_whomever(hold: Holdfast) -> None:
    await hold.follow()
    await sell(hold, sale(), sale(1))
    await until_equal(hold)
    async with hold.store.raw() as other:  # another program
        await other.execute("UPDATE sales SET shop = 'b', status = 'failed'")
    await until_equal(hold)
    assert {(row[1], row[3]) for row in await kept(hold, DAILY)} == {("b", 0)}
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM sales")
    await until_equal(hold)
    assert await kept(hold, DAILY) == []


async def test_rows_that_were_there_before_anyone_followed_count(hold: Holdfast) -> None:
    await sell(hold, sale(), sale(1), sale(2, sold_at=None))
    await hold.follow()
    await until_equal(hold)
    assert sum(row[-1] for row in await kept(hold, DAILY)) == 2


async def test_a_rollup_that_is_declared_later_becomes_complete(database_url: str) -> None:
    async with await Holdfast.open(database_url, metadata=Base.metadata, follow=True) as hold:
        await sell(hold, sale(), sale(1))
        await until_equal(hold)
    async with await Holdfast.open(database_url, metadata=Base.metadata) as hold:
        async with hold.unit() as unit:  # as if it had not been known
            await unit.execute(delete(BY_SHOP.results()))
            await unit.execute(delete(known).where(known.c.name == BY_SHOP.name))
        await hold.follow()
        await until_equal(hold)
        assert len(await kept(hold, BY_SHOP)) == 2


async def test_a_rollup_that_is_declared_otherwise_is_computed_anew(hold: Holdfast) -> None:
    await sell(hold, sale())
    async with hold.unit() as unit:
        assert await adopt(unit, DAILY)
        assert not await adopt(unit, DAILY)
    assert await refresh(hold.store, DAILY) == 1
    async with hold.unit() as unit:
        await unit.execute(known.update().where(known.c.name == DAILY.name).values(definition="another"))
        assert await adopt(unit, DAILY)
    assert await refresh(hold.store, DAILY) == 1


async def test_marks_that_a_crash_left_are_computed_by_the_next_start(database_url: str) -> None:
    async with await Holdfast.open(database_url, metadata=Base.metadata, follow=True) as hold:
        await sell(hold, sale())
        await until_equal(hold)
    async with await Holdfast.open(database_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, sale())
        await followed.follow()  # marked and kept as followed, and then it dies
    async with await Holdfast.open(database_url, metadata=Base.metadata, follow=True) as hold:
        await until_equal(hold)
        assert [row[-1] for row in await kept(hold, DAILY)] == [2]


async def test_marks_that_another_instance_left_are_computed_by_one_that_runs(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_SWEEP", 0.2)
    await hold.follow()
    await until_equal(hold)
    await sell(hold, sale())
    await until_equal(hold)
    async with hold.unit() as unit:  # nothing is written that the follower would see
        await unit.execute(DAILY.results().update().values(gross=1))
        await unit.execute(dirty.insert().values(rollup=DAILY.name, day=DAY, key='["a","x"]', since=DAY))
    await until_equal(hold)


async def test_a_refresh_that_fails_is_tried_again(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [Unavailable("the disk is full"), RuntimeError("a bug")]
    monkeypatch.setattr(runner, "_RETRY", 0.05)

    async def failing(*arguments: Any, **options: Any) -> int:
        if failures:
            raise failures.pop()
        return await refresh(*arguments, **options)

    monkeypatch.setattr(runner, "refresh", failing)
    await hold.follow()
    await sell(hold, sale())
    await until_equal(hold)
    assert not failures


async def test_those_who_show_figures_are_told_when_they_changed(hold: Holdfast) -> None:
    start = await hold.journal.make_tick()
    await sell(hold, sale())
    assert await hold.rollups.rebuild() == 2
    events = [
        change.new
        async for page in hold.journal.read(start, await hold.journal.make_tick(), tables=[TOPIC])
        for change in page.changes
    ]
    assert [event["data"] for event in events if event] == [{"buckets": 2}]
    assert await hold.rollups.refresh_all() == 0


async def test_a_rebuild_mends_figures_that_were_tampered_with(hold: Holdfast) -> None:
    await sell(hold, sale(), sale(1))
    await hold.rollups.rebuild()
    async with hold.unit() as unit:
        await unit.execute(text("UPDATE sales_daily SET rows = 99"))
        await unit.execute(
            DAILY.results()
            .insert()
            .values(day=DAY, shop="gone", buyer="", volume=1, gross=1, settled=1, sales=1, rows=1)
        )
    await hold.rollups.rebuild()
    await assert_equal_to_the_batch(hold)
