"""Rows that are deleted and can be restored: gone for every query, there for whoever asks for them."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import aliased, joinedload

from holdfast.errors import Conflict, InvalidValue, NotFound
from holdfast.model import uuid7
from holdfast.store import Query, Store
from tests.store.conftest import statements
from tests.store.office import Base, Country, Folder, Sheet
from tests.store.opening import opened

FOLDERS = Query(Folder).order_by("title")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@pytest.fixture
async def keys(store: Store) -> dict[str, Any]:
    """Folders a, b and c with two sheets each; b and the first sheet of a are deleted."""
    async with store.unit(actor="ada", tenant="t1") as unit:
        country = await unit[Country].add(Country(name="here"))
        made: dict[str, Any] = {"country": country.id}
        for title in "abc":
            folder = await unit[Folder].add(Folder(title=title, country_id=country.id))
            made[title] = folder.id
            for number in "12":
                sheet = await unit[Sheet].add(Sheet(folder_id=folder.id, text=title + number))
                made[title + number] = sheet.id
    async with store.unit(actor="bob", tenant="t1") as unit:
        await unit[Folder].delete(made["b"])
        await unit[Sheet].delete(made["a1"])
    return made


async def test_a_deleted_row_is_left_out_everywhere(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        folders = unit[Folder]
        assert [row.title for row in await folders.list(FOLDERS)] == ["a", "c"]
        assert [row.title async for row in folders.stream(FOLDERS)] == ["a", "c"]
        page = await folders.page(FOLDERS, limit=1, total=True)
        assert (page.items[0].title, page.total) == ("a", 2)
        page = await folders.page(FOLDERS, limit=1, after=page.next, total=True)
        assert (page.items[0].title, page.next, page.total) == ("c", None, 2)
        assert await folders.count() == 2
        assert await folders.exists(FOLDERS.where(title="b")) is False
        assert await folders.exists(FOLDERS.where(title="a")) is True
        assert await folders.first(FOLDERS.where(title="b")) is None
        assert await folders.find(keys["b"]) is None
        assert await folders.find(keys["b"], include=("sheets",)) is None
        assert list(await folders.get_many([keys["a"], keys["b"]])) == [keys["a"]]
        for refused in (folders.get(keys["b"]), folders.update(keys["b"], pages=1), folders.delete(keys["b"])):
            with pytest.raises(NotFound, match=f"there is no Folder with the key {keys['b']}"):
                await refused


async def test_a_deleted_row_is_left_out_where_it_is_included(store: Store, keys: dict[str, Any]) -> None:
    async with store.read(tenant="t1") as unit:
        folder = await unit[Folder].get(keys["a"], include=("sheets", "country.folders.sheets"))
        assert [sheet.text for sheet in folder.sheets] == ["a2"]
        assert folder.country is not None
        assert sorted(other.title for other in folder.country.folders) == ["a", "c"]
        orphan = await unit[Sheet].get(keys["b1"], include=("folder",))
        assert orphan.folder is None
        assert await unit[Sheet].count(Query(Sheet).where(Sheet.folder.has(title="b"))) == 0
        assert await unit[Country].count(Query(Country).where(Country.folders.any(title="b"))) == 0


async def test_statements_of_the_orm_leave_it_out_too(store: Store, keys: dict[str, Any]) -> None:
    other = aliased(Folder)
    async with store.unit(tenant="t1") as unit:
        for statement in (
            select(Folder.title),
            select(other.title),
            select(Folder.title).join(Folder.sheets).distinct(),
            select(Folder.title).join(Sheet, Sheet.folder_id == Folder.id).distinct(),
            select(Folder.title).where(Folder.id.in_(select(Folder.id))),
            select(select(Folder.title).subquery()),
        ):
            assert sorted((await unit.execute(statement)).scalars()) == ["a", "c"]
        assert (await unit.execute(select(func.count()).select_from(Folder))).scalar_one() == 2
        joined = select(Folder).options(joinedload(Folder.sheets)).where(Folder.title == "a")
        (row,) = (await unit.execute(joined)).unique().scalars()
        assert [sheet.text for sheet in row.sheets] == ["a2"]


async def test_with_deleted_and_only_deleted_mean_them(store: Store, keys: dict[str, Any]) -> None:
    async with store.read(tenant="t1") as unit:
        folders = unit[Folder]
        assert [row.title for row in await folders.list(FOLDERS.with_deleted())] == ["a", "b", "c"]
        (only,) = await folders.list(FOLDERS.only_deleted().include("sheets"))
        assert (only.title, only.deleted_by, len(only.sheets)) == ("b", "bob", 2)
        assert only.deleted_at is not None
        assert abs(dt.datetime.now(dt.UTC) - only.deleted_at) < dt.timedelta(minutes=1)
        assert await folders.count(FOLDERS.with_deleted()) == 3
        assert await folders.exists(FOLDERS.only_deleted().where(title="a")) is False
        page = await folders.page(FOLDERS.only_deleted(), total=True)
        assert ([row.title for row in page.items], page.total) == (["b"], 1)
        assert [row.title async for row in folders.stream(FOLDERS.only_deleted())] == ["b"]
        with pytest.raises(InvalidValue, match="rows of Country are deleted for good; declare it with SoftDeleted"):
            Query(Country).with_deleted()


async def test_a_row_that_the_unit_holds_is_gone_once_it_deletes_it(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        await unit[Folder].get(keys["a"])
        await unit[Folder].delete(keys["a"])
        assert await unit[Folder].find(keys["a"]) is None
        restored = await unit[Folder].restore(keys["a"])
        assert await unit[Folder].get(keys["a"]) is restored


async def test_restoring_brings_it_back_as_it_was(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(actor="eve", tenant="t1") as unit:
        row = await unit[Folder].restore(keys["b"])
        assert (row.title, row.deleted_at, row.deleted_by, row.version, row.updated_by) == ("b", None, None, 3, "eve")
        assert row.created_by == "ada"
        for key in (keys["a"], keys["b"], uuid7()):
            with pytest.raises(NotFound, match="there is no Folder with the key"):
                await unit[Folder].restore(key)
        with pytest.raises(InvalidValue, match="rows of Country are deleted for good"):
            await unit[Country].restore(keys["country"])


async def test_deletion_counts_as_a_change_of_the_version(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        folders = unit[Folder]
        for verb in (folders.delete, folders.purge):
            with pytest.raises(Conflict, match="is at version 1, not 7 any more"):
                await verb(keys["a"], expect=7)
        with pytest.raises(Conflict, match="is at version 2, not 1 any more"):
            await folders.restore(keys["b"], expect=1)
        await folders.delete(keys["a"], expect=1)
        assert (await folders.restore(keys["a"], expect=2)).version == 3
        with pytest.raises(InvalidValue, match="Sheet has no version to expect"):
            await unit[Sheet].delete(keys["a2"], expect=1)


async def test_purging_really_deletes_deleted_or_not(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        for key in (keys["a1"], keys["a2"]):
            await unit[Sheet].purge(key)
            with pytest.raises(NotFound):
                await unit[Sheet].purge(key)
        assert await unit[Sheet].count(Query(Sheet).with_deleted()) == 4
        with pytest.raises(Conflict):  # its sheets point at it
            async with unit.savepoint():
                await unit[Folder].purge(keys["b"])
        await unit[Country].add(gone := Country(name="gone"))
        await unit[Country].delete(gone.id)  # a model without soft deletion
        assert await unit[Country].find(gone.id) is None
        with pytest.raises(NotFound):
            await unit[Country].delete(gone.id)


async def test_what_is_unique_is_so_among_the_rows_that_are_not_deleted(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        with pytest.raises(Conflict):
            async with unit.savepoint():
                await unit[Folder].add(Folder(title="a"))
        again = await unit[Folder].add(Folder(title="b"))
        with pytest.raises(Conflict):
            async with unit.savepoint():
                await unit[Folder].restore(keys["b"])
        assert await unit[Folder].upsert_many([{"title": "b", "pages": 7}], on=("title",)) == 1
        await unit.session.refresh(again)
        assert again.pages == 7


async def test_an_upsert_leaves_a_deleted_row_alone(store: Store, keys: dict[str, Any]) -> None:
    async with store.unit(tenant="t1") as unit:
        row = {"id": keys["b"], "title": "other", "pages": 9}
        assert await unit[Folder].upsert_many([row]) == 0
        (deleted,) = await unit[Folder].list(FOLDERS.only_deleted())
        assert (deleted.title, deleted.pages) == ("b", 0)


async def test_leaving_deleted_rows_out_takes_no_further_statement(store: Store, keys: dict[str, Any]) -> None:
    async with store.read(tenant="t1") as unit:
        with statements(store) as sent:
            await unit[Country].list(Query(Country).include("folders.sheets"))
        assert len(sent) == 3
    async with store.read(tenant="t1") as unit:
        with statements(store) as sent:
            await unit[Folder].page(FOLDERS.include("country", "sheets"), total=True)
        assert len(sent) == 3
