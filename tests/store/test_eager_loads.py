"""Relationships that a model always joins: collections, chains of them, other tenants' rows behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast.model import NAMING, Model, Policy
from holdfast.store import Query, Repository, Searchable, Store
from tests.store.opening import opened


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Shelf(Base):
    """Brings its books, and the desk that it stands at."""

    __tablename__ = "shelves"
    __policy__ = Policy(Searchable("name"))

    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(lazy="joined", order_by="Book.title", viewonly=True)
    desk: Mapped[Desk | None] = relationship(lazy=False)
    desk_id: Mapped[UUID | None] = mapped_column(ForeignKey("desks.id"))


class Desk(Base):
    """Brings the drawers that it has, which are an organisation's."""

    __tablename__ = "desks"

    drawers: Mapped[list[Drawer]] = relationship(lazy=False, order_by="Drawer.name")


class Drawer(Base):
    """An organisation's."""

    __tablename__ = "drawers"
    __policy__ = Policy(tenant="org")

    org: Mapped[str]
    name: Mapped[str]
    desk_id: Mapped[UUID] = mapped_column(ForeignKey("desks.id"))
    desk: Mapped[Desk] = relationship(lazy="joined", back_populates="drawers", viewonly=True)


class Book(Base):
    """On a shelf."""

    __tablename__ = "books"

    title: Mapped[str]
    shelf_id: Mapped[UUID] = mapped_column(ForeignKey("shelves.id"))
    shelf: Mapped[Shelf] = relationship(lazy="joined", viewonly=True)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@pytest.fixture
async def keys(store: Store) -> list[UUID]:
    """Three shelves at one desk, two books each; a drawer of it for either organisation, two for `one`."""
    async with store.unit() as unit:
        desk = await unit[Desk].add(Desk())
        shelves = [Shelf(name=f"shelf {n}", desk_id=desk.id) for n in range(3)]
        for shelf in shelves:
            await unit[Shelf].add(shelf)
        books = [{"title": f"{shelf.name} {letter}", "shelf_id": shelf.id} for shelf in shelves for letter in "ab"]
        await unit[Book].add_many(books)
        found, place = [shelf.id for shelf in shelves], desk.id
    for org, names in (("one", ("left", "middle")), ("other", ("right",))):
        async with store.unit(tenant=org) as unit:
            await unit[Drawer].add_many([{"name": name, "desk_id": place} for name in names])
    return found


SHELVES = Query(Shelf).order_by("name")


async def _get(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    return [await shelves.get(keys[0])]


async def _find(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf | None]:
    return [await shelves.find(keys[0], include=("desk",))]


async def _get_many(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    return list((await shelves.get_many(keys)).values())


async def _first(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf | None]:
    return [await shelves.first(SHELVES)]


async def _list(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    return await shelves.list(SHELVES)


async def _page(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    page = await shelves.page(SHELVES, limit=2, total=True)
    assert page.total == 3
    return page.items + (await shelves.page(SHELVES, limit=2, after=page.next)).items


async def _stream(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    return [row async for row in shelves.stream(SHELVES, batch=2)]


async def _search(shelves: Repository[Shelf], keys: list[UUID]) -> list[Shelf]:
    return await shelves.list(Query(Shelf).search("shelf").order_by("name"))


WAYS = (_get, _find, _get_many, _first, _list, _page, _stream, _search)


@pytest.mark.parametrize("read", WAYS, ids=lambda read: read.__name__.strip("_"))
async def test_what_is_always_joined_multiplies_no_rows_and_keeps_to_the_tenant(
    store: Store, keys: list[UUID], read: Any
) -> None:
    async with store.read(tenant="one") as unit:
        rows = await read(unit[Shelf], keys)
        names = [f"shelf {n}" for n in range(3)]
        assert [row.name for row in rows] == names[: len(rows)]
        assert len(rows) == (1 if read in (_get, _find, _first) else 3)
        for row in rows:
            assert [book.title for book in row.books] == [f"{row.name} a", f"{row.name} b"]
            assert [drawer.name for drawer in row.desk.drawers] == ["left", "middle"]
    async with store.read(tenant="other") as unit:
        assert {drawer.name for row in await read(unit[Shelf], keys) for drawer in row.desk.drawers} == {"right"}
