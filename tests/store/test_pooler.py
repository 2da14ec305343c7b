"""Behind a pooler that hands each transaction another connection: nothing is kept in the session."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.errors import Conflict, StoreError
from holdfast.model import uuid7
from holdfast.store import Query, Store
from holdfast.store.copying import LEAST
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture
async def store(pgbouncer_url: str) -> AsyncIterator[Store]:
    async with opened(pgbouncer_url, Base.metadata, statement_timeout=5, pool_max=20) as store:
        yield store


async def test_units_work_whatever_connection_they_are_given(store: Store) -> None:
    async def work(number: int) -> None:
        async with store.unit() as unit:
            maker = await unit[Maker].add(Maker(name=f"{number}"))
            await unit[Part].add_many([{"title": f"{number} {n}", "maker_id": maker.id} for n in range(3)])
            await asyncio.sleep(0)
            await unit[Part].upsert_many([{"title": f"{number} more", "maker_id": maker.id}])
        async with store.read() as unit:
            query = Query(Part).where(maker_id=maker.id).order_by("title").include("maker")
            page = await unit[Part].page(query, limit=3, total=True)
            assert page.total == 4
            assert [part.maker.name for part in page.items if part.maker] == [f"{number}"] * 3
            assert (await unit[Maker].get(maker.id)).name == f"{number}"
        async with store.unit(isolation="serializable") as unit:
            assert (await unit.execute("SHOW transaction_isolation")).scalar_one() == "serializable"
        with pytest.raises(Conflict):
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name=f"{number}"))

    for start in range(0, 60, 15):
        await asyncio.gather(*(work(number) for number in range(start, start + 15)))
    async with store.read() as unit:
        assert [part.title async for part in unit[Part].stream(Query(Part).order_by("title"), batch=7)] == sorted(
            f"{number} {n}" for number in range(60) for n in (0, 1, 2, "more")
        )


async def test_nothing_stays_behind_in_the_servers_session(store: Store) -> None:
    async def look() -> tuple[Any, Any, Any]:
        async with store.unit() as unit:
            await unit[Maker].add_many([{"name": str(uuid7())} for _ in range(LEAST)])  # by COPY
            prepared = (
                await unit.execute("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql")
            ).scalar_one()
            timeout = (await unit.execute("SHOW statement_timeout")).scalar_one()
            await unit.execute("SELECT 1")
            return prepared, timeout, (await unit.execute("SELECT pg_backend_pid()")).scalar_one()

    seen = await asyncio.gather(*(look() for _ in range(30)))
    assert [prepared for prepared, _, _ in seen] == [0] * 30
    assert {timeout for _, timeout, _ in seen} == {"5s"}


async def test_the_limit_of_a_statement_ends_with_its_transaction(store: Store) -> None:
    async with opened(store.settings.database_url, statement_timeout=0.1) as limited:
        with pytest.raises(StoreError, match="took too long"):
            async with limited.unit() as unit:
                await unit.execute("SELECT pg_sleep(3)")
        async with limited.raw() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "0"
