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


class Rack(Base):
    """Brings its bottles, and the desk that it stands at."""

    __tablename__ = "racks"
    __policy__ = Policy(Searchable("name"))

    name: Mapped[str]
    bottles: Mapped[list[Bottle]] = relationship(lazy="joined", order_by="Bottle.title", viewonly=True)
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


class Bottle(Base):
    """On a rack."""

    __tablename__ = "bottles"

    title: Mapped[str]
    rack_id: Mapped[UUID] = mapped_column(ForeignKey("racks.id"))
    rack: Mapped[Rack] = relationship(lazy="joined", viewonly=True)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@pytest.fixture
async def keys(store: Store) -> list[UUID]:
    """Three racks at one desk, two bottles each; a drawer of it for either organisation, two for `one`."""
    async with store.unit() as unit:
        desk = await unit[Desk].add(Desk())
        racks = [Rack(name=f"rack {n}", desk_id=desk.id) for n in range(3)]
        for rack in racks:
            await unit[Rack].add(rack)
        bottles = [{"title": f"{rack.name} {letter}", "rack_id": rack.id} for rack in racks for letter in "ab"]
        await unit[Bottle].add_many(bottles)
        found, place = [rack.id for rack in racks], desk.id
    for org, names in (("one", ("left", "middle")), ("other", ("right",))):
        async with store.unit(tenant=org) as unit:
            await unit[Drawer].add_many([{"name": name, "desk_id": place} for name in names])
    return found


RACKS = Query(Rack).order_by("name")


async def _get(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    return [await racks.get(keys[0])]


async def _find(racks: Repository[Rack], keys: list[UUID]) -> list[Rack | None]:
    return [await racks.find(keys[0], include=("desk",))]


async def _get_many(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    return list((await racks.get_many(keys)).values())


async def _first(racks: Repository[Rack], keys: list[UUID]) -> list[Rack | None]:
    return [await racks.first(RACKS)]


async def _list(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    return await racks.list(RACKS)


async def _page(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    page = await racks.page(RACKS, limit=2, total=True)
    assert page.total == 3
    return page.items + (await racks.page(RACKS, limit=2, after=page.next)).items


async def _stream(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    return [row async for row in racks.stream(RACKS, batch=2)]


async def _search(racks: Repository[Rack], keys: list[UUID]) -> list[Rack]:
    return await racks.list(Query(Rack).search("rack").order_by("name"))


WAYS = (_get, _find, _get_many, _first, _list, _page, _stream, _search)


@pytest.mark.parametrize("read", WAYS, ids=lambda read: read.__name__.strip("_"))
async def test_what_is_always_joined_multiplies_no_rows_and_keeps_to_the_tenant(
    store: Store, keys: list[UUID], read: Any
) -> None:
    async with store.read(tenant="one") as unit:
        rows = await read(unit[Rack], keys)
        names = [f"rack {n}" for n in range(3)]
        assert [row.name for row in rows] == names[: len(rows)]
        assert len(rows) == (1 if read in (_get, _find, _first) else 3)
        for row in rows:
            assert [bottle.title for bottle in row.bottles] == [f"{row.name} a", f"{row.name} b"]
            assert [drawer.name for drawer in row.desk.drawers] == ["left", "middle"]
    async with store.read(tenant="other") as unit:
        assert {drawer.name for row in await read(unit[Rack], keys) for drawer in row.desk.drawers} == {"right"}
