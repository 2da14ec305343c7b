"""Who made a row and who changed it last, whichever way it was written."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.model import uuid7
from holdfast.store import Query, Store
from tests.store.office import Base, Folder
from tests.store.opening import opened


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def who(store: Store) -> dict[str, tuple[Any, Any]]:
    async with store.read(tenant="t1") as unit:
        return {row.title: (row.created_by, row.updated_by) for row in await unit[Folder].list()}


async def test_every_way_of_inserting_names_the_actor(store: Store) -> None:
    async with store.unit(actor="ada", tenant="t1") as unit:
        await unit[Folder].add(Folder(title="add"))
        unit.add(Folder(title="unit"))
        await unit[Folder].add_many([{"title": "many"}, Folder(title="instance")])
        await unit[Folder].upsert_many([{"title": "upsert"}])
        await unit[Folder].add_many([{"title": "imported", "created_by": "old", "updated_by": "older"}])
    found = await who(store)
    assert found.pop("imported") == ("old", "older")
    assert set(found) == {"add", "unit", "many", "instance", "upsert"}
    assert set(found.values()) == {("ada", "ada")}


async def test_every_way_of_changing_names_the_last_actor_only(store: Store) -> None:
    keys = {title: uuid7() for title in ("update", "flush", "upsert", "same", "deleted", "nobody")}
    async with store.unit(actor="ada", tenant="t1") as unit:
        await unit[Folder].add_many([{"id": key, "title": title} for title, key in keys.items()])
    async with store.unit(actor="bob", tenant="t1") as unit:
        await unit[Folder].update(keys["update"], pages=1)
        (await unit[Folder].get(keys["flush"])).pages = 1
        rows = [{"id": keys[title], "title": title, "pages": n} for title, n in (("upsert", 1), ("same", 0))]
        assert await unit[Folder].upsert_many(rows) == 1
        await unit[Folder].delete(keys["deleted"])
        await unit[Folder].restore(keys["deleted"])
        (await unit[Folder].get(keys["same"])).pages = 0  # no change
    async with store.unit(tenant="t1") as unit:
        await unit[Folder].update(keys["nobody"], pages=1)
    found = await who(store)
    assert found.pop("same") == ("ada", "ada")
    assert found.pop("nobody") == ("ada", None)
    assert set(found.values()) == {("ada", "bob")}


async def test_a_query_may_ask_for_it(store: Store) -> None:
    async with store.unit(actor="ada", tenant="t1") as unit:
        await unit[Folder].add(Folder(title="hers"))
        assert await unit[Folder].count(Query(Folder).where(created_by="ada")) == 1
