"""Whatever is written, and however marks and refreshes fall between the writes, the figures equal the batch."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from holdfast import Holdfast, Query
from holdfast.model.types import U256_MAX
from holdfast.rollup.refresh import dirty
from holdfast.store.store import Store
from tests.rollup.conftest import Followed, assert_equal_to_the_batch
from tests.rollup.declared import BY_SHOP, DAILY, Sale

MIDNIGHTS = [dt.datetime(2025, 3, day, tzinfo=dt.UTC) for day in (29, 30, 31)]
EDGES = [dt.timedelta(microseconds=n) for n in (-1, 0, 1)] + [dt.timedelta(hours=h) for h in (4, 12, 20)]

times = st.none() | st.builds(lambda midnight, off: midnight + off, st.sampled_from(MIDNIGHTS), st.sampled_from(EDGES))
amounts = st.sampled_from([0, 1, 10**9 - 1, 10**9, 2**64 - 1, U256_MAX - 1, U256_MAX]) | st.integers(0, U256_MAX)
columns: dict[str, st.SearchStrategy[Any]] = {
    "shop": st.sampled_from(["a", "b", ""]),
    "buyer": st.sampled_from([None, "", "x", 'é"\\']),
    "sold_at": times,
    "status": st.sampled_from(["settled", "failed"]),
    "amount": amounts,
}
sales = st.fixed_dictionaries(columns)
changes = st.fixed_dictionaries({}, optional=columns).filter(bool)
numbers = st.integers(0, 50)

writes = st.one_of(
    st.tuples(st.just("add"), st.lists(sales, min_size=1, max_size=3)),
    st.tuples(st.just("add_many"), st.lists(sales, min_size=1, max_size=8)),
    st.tuples(st.just("raw_insert"), sales),
    st.tuples(st.just("roll_back"), sales),
    st.tuples(st.just("change"), numbers, changes),
    st.tuples(st.just("update"), numbers, changes),
    st.tuples(st.just("raw_update"), columns["shop"], st.sampled_from(["shop", "buyer", "status"])),
    st.tuples(st.just("upsert"), numbers, sales),
    st.tuples(st.just("replace"), numbers, sales),
    st.tuples(st.just("delete"), numbers),
    st.tuples(st.just("raw_delete"), columns["shop"]),
    st.tuples(st.just("truncate")),
    st.tuples(st.just("reset")),
)
# After a write: not followed, followed in part, or wholly; then so many buckets of each rollup computed.
between = st.tuples(st.sampled_from([0, 1, 3, None]), st.sampled_from([0, 1, 2, 200]))


class Shop:
    """Carries the steps out."""

    def __init__(self, hold: Holdfast, followed: Followed) -> None:
        self.hold = hold
        self.followed = followed

    async def empty(self) -> None:
        async with self.hold.unit() as unit:
            for table in (Sale.__table__, DAILY.results(), BY_SHOP.results(), dirty):
                await unit.execute(delete(table))
        await self.followed.begin()

    async def ids(self) -> list[Any]:
        async with self.hold.read() as unit:
            return list((await unit.execute(select(Sale.id).order_by(Sale.id))).scalars())

    async def one(self, number: int) -> Any:
        ids = await self.ids()
        return ids[number % len(ids)] if ids else None

    async def add(self, rows: list[dict[str, Any]]) -> None:
        async with self.hold.unit() as unit:
            unit.add(*(Sale(**row) for row in rows))

    async def add_many(self, rows: list[dict[str, Any]]) -> None:
        async with self.hold.unit() as unit:
            await unit[Sale].add_many(rows)

    async def raw_insert(self, row: dict[str, Any]) -> None:
        async with self.hold.unit() as unit:
            await unit.execute(
                "INSERT INTO sales (shop, buyer, sold_at, status, amount)"
                " VALUES (:shop, :buyer, :sold_at, :status, :amount)",
                raw(self.hold.store, row),
            )

    async def roll_back(self, row: dict[str, Any]) -> None:
        try:
            async with self.hold.unit() as unit:
                await unit[Sale].add(Sale(**row))
                raise LookupError
        except LookupError:
            pass

    async def change(self, number: int, change: dict[str, Any]) -> None:
        if (key := await self.one(number)) is not None:
            async with self.hold.unit() as unit:
                sale = await unit[Sale].get(key)
                for name, value in change.items():
                    setattr(sale, name, value)

    async def update(self, number: int, change: dict[str, Any]) -> None:
        if (key := await self.one(number)) is not None:
            async with self.hold.unit() as unit:
                await unit[Sale].update(key, **change)

    async def raw_update(self, shop: str, column: str) -> None:
        value = "failed" if column == "status" else "b"
        async with self.hold.unit() as unit:
            await unit.execute(f"UPDATE sales SET {column} = :value WHERE shop = :shop", {"value": value, "shop": shop})

    async def upsert(self, number: int, row: dict[str, Any]) -> None:
        key = await self.one(number)
        async with self.hold.unit() as unit:
            await unit[Sale].upsert_many([{**row, **({"id": key} if key else {})}], on=("id",))

    async def replace(self, number: int, row: dict[str, Any]) -> None:
        key = await self.one(number)
        if self.hold.store.dialect != "sqlite" or key is None:
            return
        async with self.hold.unit() as unit:
            await unit.execute(
                "INSERT OR REPLACE INTO sales (id, shop, buyer, sold_at, status, amount)"
                " VALUES (:id, :shop, :buyer, :sold_at, :status, :amount)",
                {"id": key.hex, **raw(self.hold.store, row)},
            )

    async def delete(self, number: int) -> None:
        if (key := await self.one(number)) is not None:
            async with self.hold.unit() as unit:
                await unit.session.delete(await unit[Sale].get(key))

    async def raw_delete(self, shop: str) -> None:
        async with self.hold.unit() as unit:
            await unit.execute("DELETE FROM sales WHERE shop = :shop", {"shop": shop})

    async def truncate(self) -> None:
        async with self.hold.unit() as unit:
            await unit.execute("DELETE FROM sales" if self.hold.store.dialect == "sqlite" else "TRUNCATE sales")

    async def reset(self) -> None:
        await self.followed.reset()


def raw(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """The values as a program without Holdfast has to write them."""
    if store.dialect != "sqlite":
        return row
    sold_at = row["sold_at"]
    return {
        **row,
        "amount": str(row["amount"]).zfill(78),
        "sold_at": sold_at and sold_at.replace(tzinfo=None).isoformat(" ", "microseconds"),
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(played=st.lists(st.tuples(writes, between), min_size=2, max_size=15))
async def test_any_writes_with_marks_and_refreshes_between_them_give_the_batch(
    hold: Holdfast, followed: Followed, played: list[tuple[tuple[Any, ...], tuple[int | None, int]]]
) -> None:
    shop = Shop(hold, followed)
    await shop.empty()
    for (name, *arguments), (followed_changes, computed_buckets) in played:
        await getattr(shop, name)(*arguments)
        if followed_changes != 0:
            await followed.follow(followed_changes)
        if computed_buckets:
            await followed.refresh(computed_buckets)
    await followed.settle()
    await assert_equal_to_the_batch(hold)
    assert await followed.refresh() == 0
    async with hold.read() as unit:
        assert await unit[Sale].count(Query(Sale)) == len(await shop.ids())


async def test_bit_for_bit_where_the_session_of_postgresql_is_in_another_time_zone(postgres_url: str) -> None:
    from tests.rollup.declared import Base

    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as first, first.unit() as unit:
        name = postgres_url.rpartition("/")[2]
        await unit.execute(f"ALTER DATABASE \"{name}\" SET timezone TO 'America/New_York'")
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:
        async with hold.read() as unit:
            assert (await unit.execute("SHOW timezone")).scalar() == "America/New_York"
        followed = Followed(hold)
        await followed.begin()
        rows = [
            # Summer time begins on 9 March 2025: that day has 23 hours in New York, and 24 in UTC.
            {"shop": "a", "buyer": None, "sold_at": dt.datetime(2025, 3, day, tzinfo=dt.UTC) + off, "amount": 2**number}
            for number, (day, off) in enumerate((day, off) for day in (8, 9, 10, 11) for off in EDGES)
        ]
        async with hold.unit() as unit:
            await unit[Sale].add_many(rows)
        await followed.settle()
        await assert_equal_to_the_batch(hold)
        async with hold.read() as unit:
            days = list((await unit.execute(select(DAILY.results().c.day, DAILY.results().c.gross))).all())
        expected: dict[dt.date, int] = {}
        for row in rows:
            expected[row["sold_at"].date()] = expected.get(row["sold_at"].date(), 0) + row["amount"]
        assert {day.date(): gross for day, gross in days} == expected
