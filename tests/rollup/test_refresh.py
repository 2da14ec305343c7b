"""Refreshing: what is read and written for a dirty bucket, and what happens beside it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select

from holdfast import Holdfast
from holdfast.errors import StoreError
from holdfast.rollup.refresh import _refresh, dirty, mark_all
from holdfast.rollup.statements import batch_statement
from tests.rollup.conftest import Followed, assert_equal_to_the_batch, computed, kept
from tests.rollup.declared import BY_SHOP, DAILY, Base, Sale

DAY = dt.datetime(2025, 5, 1, tzinfo=dt.UTC)
SETTLED = {"status": "settled", "amount": 7}


def sale(day: int = 0, shop: str = "a", **values: Any) -> dict[str, Any]:
    return {"shop": shop, "buyer": "x", "sold_at": DAY + dt.timedelta(days=day, hours=1), **SETTLED, **values}


async def sell(hold: Holdfast, *rows: dict[str, Any]) -> None:
    async with hold.unit() as unit:
        await unit[Sale].add_many(rows)


@contextlib.contextmanager
def statements(hold: Holdfast) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile, with its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        sent.append((statement, parameters))

    engine = hold.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def lookups_of(hold: Holdfast, followed: Followed) -> list[tuple[str, Any]]:
    """The statements by which a refresh of what is dirty reads base rows."""
    with statements(hold) as sent:
        await followed.refresh()
    return [(text, parameters) for text, parameters in sent if "wanted" in text]


async def large_table(hold: Holdfast, followed: Followed, rows: int) -> None:
    """`rows` sales over 50 days, two shops and 19 buyers, all computed, with statistics as after a while."""
    async with hold.unit() as unit:
        if hold.store.dialect == "sqlite":
            await unit.execute(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
                " INSERT INTO sales (shop, buyer, sold_at, status, amount) SELECT iif(i % 2, 'a', 'b'), 'x' || i % 19,"
                " strftime('%Y-%m-%d %H:%M:%f000', '2025-05-01', '+' || (i % 50) || ' days', '+' || i || ' seconds'),"
                " 'settled', printf('%078d', i) FROM n",
                {"last": rows - 1},
            )
        else:
            await unit.execute(
                "INSERT INTO sales (shop, buyer, sold_at, status, amount)"
                " SELECT CASE i % 2 WHEN 1 THEN 'a' ELSE 'b' END, 'x' || i % 19,"
                " timestamptz '2025-05-01 00:00+00' + i % 50 * interval '24 hours' + i * interval '1 second',"
                " 'settled', i FROM generate_series(0, CAST(:last AS integer)) AS i",
                {"last": rows - 1},
            )
    await followed.settle()
    async with hold.store.raw() as connection:
        await connection.execute("ANALYZE sales")


async def test_a_dirty_bucket_is_computed_by_the_index_of_its_dimensions_and_time(
    hold: Holdfast, followed: Followed
) -> None:
    await large_table(hold, followed, 2_000)
    await sell(hold, sale())
    await followed.follow()
    plans = []
    for text, parameters in await lookups_of(hold, followed):
        async with hold.store.raw() as connection:
            if hold.store.dialect == "sqlite":
                rows = await connection.execute_fetchall(f"EXPLAIN QUERY PLAN {text}", parameters)
                plans.append([row[3] for row in rows])
            else:
                rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {text}", *parameters)
                plans.append([row[0].strip() for row in rows])
    daily, by_shop = plans
    if hold.store.dialect == "sqlite":
        index = "SEARCH sales USING INDEX"
        assert f"{index} ix_sales_shop_buyer_sold_at (shop=? AND buyer=? AND sold_at>? AND sold_at<?)" in daily
        assert f"{index} ix_sales_shop_sold_at (shop=? AND sold_at>? AND sold_at<?)" in by_shop
    else:
        for plan, name in ((daily, "ix_sales_shop_buyer_sold_at"), (by_shop, "ix_sales_shop_sold_at")):
            assert any(name in line and "Index" in line for line in plan), plan
            assert not any("Filter" in line or "Seq Scan on sales" in line for line in plan), plan


async def test_a_dirty_bucket_reads_its_own_rows_however_many_others_there_are(
    hold: Holdfast, followed: Followed
) -> None:
    read = []
    for rows in (2_000, 18_000):
        await large_table(hold, followed, rows)
        await sell(hold, *(sale(day=200, shop=shop) for shop in "aabb"))
        await followed.follow()
        (text, parameters), _ = await lookups_of(hold, followed)
        read.append(await work(hold, text, parameters))
        if hold.store.dialect == "postgresql":
            own = await own_rows(hold)
            assert read[-1] == own, f"{read[-1]} rows were read for {own}"
    if hold.store.dialect == "sqlite":
        # The second time there are twice as many rows in the buckets, and ten times as many in the table.
        assert read[1] < 2 * read[0]


async def own_rows(hold: Holdfast) -> int:
    async with hold.read() as unit:
        since = DAY + dt.timedelta(days=200)
        return int(
            (await unit.execute("SELECT count(*) FROM sales WHERE sold_at >= :since", {"since": since})).scalar()
        )  # type: ignore[arg-type]


async def work(hold: Holdfast, text: str, parameters: Any) -> int:
    """On PostgreSQL the base rows that the statement reads; on SQLite the steps of its virtual machine."""
    async with hold.store.raw() as connection:
        if hold.store.dialect == "sqlite":
            steps = 0

            def count() -> int:
                nonlocal steps
                steps += 1
                return 0

            await connection.set_progress_handler(count, 1)
            await connection.execute_fetchall(text, parameters)
            return steps
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *parameters)
        return rows_of_sales(json.loads(plan)[0]["Plan"])


def rows_of_sales(node: dict[str, Any]) -> int:
    """The rows that a plan's nodes on `sales` looked at, in all their loops."""
    looked_at = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    own = round(looked_at * node["Actual Loops"]) if node.get("Relation Name") == "sales" else 0
    return own + sum(rows_of_sales(below) for below in node.get("Plans", []))


async def test_many_dirty_buckets_take_a_fixed_number_of_statements(hold: Holdfast, followed: Followed) -> None:
    async def used(days: range) -> int:
        await sell(hold, *(sale(day) for day in days))
        await followed.follow()
        with statements(hold) as sent:
            assert await followed.refresh() == 2 * len(days)
        return len(sent)

    assert await used(range(1)) == await used(range(100, 190))


async def test_refreshing_twice_changes_nothing(hold: Holdfast, followed: Followed) -> None:
    await sell(hold, sale(), sale(1, buyer=None))
    await followed.settle()
    before = await kept(hold, DAILY)
    assert await followed.refresh() == 0
    async with hold.unit() as unit:
        await mark_all(unit, DAILY)
    assert await followed.refresh() == 2
    assert await kept(hold, DAILY) == before


async def test_marking_a_bucket_again_is_one_mark(hold: Holdfast, followed: Followed) -> None:
    for _ in range(3):
        await sell(hold, sale())
        await followed.follow()
    async with hold.unit() as unit:
        assert len((await unit.execute(select(dirty))).all()) == 2  # of each rollup one
        await mark_all(unit, DAILY)
        assert len((await unit.execute(select(dirty))).all()) == 2


async def test_figures_of_a_bucket_whose_rows_are_gone_are_removed(hold: Holdfast, followed: Followed) -> None:
    await sell(hold, sale(), sale(1))
    await followed.settle()
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM sales WHERE sold_at < :day", {"day": text_of(hold, DAY + dt.timedelta(days=1))})
    await followed.settle()
    assert [row[0] for row in await kept(hold, DAILY)] == [DAY + dt.timedelta(days=1)]


def text_of(hold: Holdfast, moment: dt.datetime) -> Any:
    return moment if hold.store.dialect == "postgresql" else moment.replace(tzinfo=None).isoformat(" ", "microseconds")


async def test_truncate_empties_the_figures(postgres_url: str) -> None:
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, sale(), sale(1))
        await followed.settle()
        assert len(await kept(hold, DAILY)) == 2
        async with hold.unit() as unit:
            await unit.execute("TRUNCATE sales")
        await sell(hold, sale(5))
        await followed.settle()
        assert [row[0] for row in await kept(hold, DAILY)] == [DAY + dt.timedelta(days=5)]


async def test_a_reset_finds_rows_that_came_and_went_unseen(hold: Holdfast, followed: Followed) -> None:
    await sell(hold, sale(), sale(1))
    await followed.settle()
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM sales")
        await unit[Sale].add_many([sale(2)])
    await followed.reset()
    while await followed.refresh():
        pass
    await assert_equal_to_the_batch(hold)
    assert len(await kept(hold, DAILY)) == 1


async def test_what_retention_deletes_stays_in_the_figures(hold: Holdfast, followed: Followed) -> None:
    from holdfast.journal import retiring

    await sell(hold, sale(), sale(1))
    await followed.settle()
    before = await kept(hold, DAILY)
    async with hold.unit() as unit, retiring(unit):
        await unit.execute("DELETE FROM sales")
    await followed.settle()
    assert await kept(hold, DAILY) == before


async def test_the_last_day_of_the_calendar_has_a_bucket(hold: Holdfast, followed: Followed) -> None:
    last = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    await sell(hold, sale(sold_at=last), sale(sold_at=dt.datetime(1, 1, 2, tzinfo=dt.UTC)))
    await followed.settle()
    await assert_equal_to_the_batch(hold)
    assert [row[0].year for row in await kept(hold, DAILY)] == [1, 9999]


async def test_a_write_that_commits_while_a_refresh_runs_is_not_lost(postgres_url: str) -> None:
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, sale())
        await followed.follow()
        async with hold.unit() as refreshing:
            assert await _refresh(refreshing, DAILY, 200) == 1  # computed, and not committed yet
            await sell(hold, sale())
            following = asyncio.create_task(followed.follow())
            await asyncio.sleep(0.3)
            assert not following.done()  # its mark waits for the one that the refresh has taken
        await following
        assert [row[-1] for row in await kept(hold, DAILY)] == [1]
        await followed.settle()
        await assert_equal_to_the_batch(hold)


async def test_a_write_that_commits_between_taking_the_mark_and_computing_is_not_lost(postgres_url: str) -> None:
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, sale())
        await followed.follow()
        async with hold.unit() as writing:
            await writing.execute("LOCK TABLE sales IN ACCESS EXCLUSIVE MODE")
            refreshing = asyncio.create_task(followed.refresh())
            await asyncio.sleep(0.3)  # by now it has taken the mark and waits to read the table
            await writing[Sale].add_many([sale()])
        await refreshing
        await followed.settle()
        await assert_equal_to_the_batch(hold)


async def test_a_server_that_isolates_more_strictly_by_default_loses_nothing(postgres_url: str) -> None:
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as first, first.unit() as unit:
        name = postgres_url.rpartition("/")[2]
        await unit.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation TO 'repeatable read'")
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, sale())
        await followed.follow()
        with pytest.raises(StoreError, match="lost against a concurrent one"):  # so that hold.run takes it again
            async with hold.unit() as refreshing:
                await refreshing.execute("SELECT 1")  # where its snapshot is taken
                await sell(hold, sale())
                await followed.follow()  # the mark is there already
                await _refresh(refreshing, DAILY, 200)
        await followed.settle()
        await assert_equal_to_the_batch(hold)


async def test_two_who_refresh_at_once_share_the_work(postgres_url: str) -> None:
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        await sell(hold, *(sale(day) for day in range(300)))
        await followed.follow()
        async with hold.unit() as one, hold.unit() as other:
            assert await _refresh(one, DAILY, 100) == 100
            assert await _refresh(other, DAILY, 1_000) == 200
        await followed.settle()
        await assert_equal_to_the_batch(hold)


async def test_times_as_other_programs_write_them_on_sqlite(sqlite_url: str) -> None:
    async with await Holdfast.open(sqlite_url, metadata=Base.metadata) as hold:
        followed = Followed(hold)
        await followed.begin()
        texts = ["2025-05-01", "2025-05-01 00:00:00", "2025-05-01T00:00:00Z", "2025-05-01 23:59:59.9", "2025-05-02"]
        nonsense = ["", "soon", "2025-05", "2025-02-30 00:00:00", "20250501"]
        async with hold.store.raw() as connection:
            for text in [*texts, *nonsense]:
                await connection.execute(
                    "INSERT INTO sales (shop, buyer, sold_at, status, amount) VALUES ('a', 'x', ?, 'settled', ?)",
                    (text, "7".zfill(78)),
                )
        await followed.settle()
        await assert_equal_to_the_batch(hold)
        assert [(row[0].day, row[-1]) for row in await kept(hold, DAILY)] == [(1, 4), (2, 1)]
        await followed.reset()  # which looks at every row
        while await followed.refresh():
            pass
        await assert_equal_to_the_batch(hold)


async def test_the_batch_is_what_plain_addition_gives(hold: Holdfast) -> None:
    amounts = [2**256 - 1, 2**255, 10**9 - 1, 10**9, 0]
    rows = [sale(status="settled" if n % 2 else "failed", amount=amount) for n, amount in enumerate(amounts)]
    await sell(hold, *rows, sale(sold_at=None))
    settled = [row["amount"] for row in rows if row["status"] == "settled"]
    assert await computed(hold, DAILY) == [
        (DAY, "a", "x", sum(settled), sum(amounts), len(settled), len(rows), len(rows))
    ]
    assert await computed(hold, BY_SHOP) == [(DAY, "a", sum(amounts), len(rows))]
    assert "sum" in str(batch_statement(BY_SHOP, hold.store.dialect)).lower()
