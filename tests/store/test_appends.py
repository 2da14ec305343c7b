"""Rows of logs that nobody waits for: written many at a time, once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Holdfast
from holdfast.errors import ConfigurationError, Unavailable
from holdfast.model import NAMING, Model, Text, uuid7
from holdfast.store import Appends
from tests.backends import settings_for
from tests.http.served import Line


class LoggedModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Ship(LoggedModel):
    __tablename__ = "appends_ships"

    name: Mapped[str]


class Sighting(LoggedModel):
    __tablename__ = "appends_sightings"

    ship_id: Mapped[UUID | None] = mapped_column(ForeignKey("appends_ships.id"))
    what: Mapped[str] = mapped_column(Text(50), default="seen")


async def seen(hold: Holdfast) -> list[str]:
    async with hold.read() as unit:
        return sorted([row.what for row in await unit[Sighting].list()])


async def test_rows_are_written_together_and_one_that_is_refused_costs_itself(database_url: str) -> None:
    async with await Holdfast.open(
        settings=settings_for(database_url), metadata=LoggedModel.metadata, migrate=True
    ) as hold:
        hold.appends.add(Sighting)
        await hold.appends.flush()
        assert (await seen(hold), hold.appends.waiting) == (["seen"], 0)
        for number in range(9):
            hold.appends.add(Sighting, what=f"{number}", ship_id=uuid4() if number == 4 else None)
        assert hold.appends.waiting == 9
        await hold.appends.flush()
        assert await seen(hold) == ["0", "1", "2", "3", "5", "6", "7", "8", "seen"]
        assert (hold.appends.dropped, hold.appends.waiting) == (1, 0)
        key = uuid7()
        for _ in range(2):  # as one whose COMMIT was lost on the way is given again
            hold.appends.add(Sighting, id=key, what="once")
            await hold.appends.flush()
        assert (await seen(hold)).count("once") == 1
        hold.appends.add(Sighting, what="last")
    with pytest.raises(ConfigurationError, match="closed"):
        hold.appends.add(Sighting)
    async with await Holdfast.open(settings=settings_for(database_url), metadata=LoggedModel.metadata) as hold:
        assert "last" in await seen(hold)


async def test_rows_wait_for_a_database_that_is_away_and_no_longer_than_there_is_room(postgres_url: str) -> None:
    line = Line(postgres_url)
    await line.mend()
    async with await Holdfast.open(
        settings=settings_for(line.url), metadata=LoggedModel.metadata, migrate=True
    ) as hold:
        appends = Appends(hold.store, size=3, capacity=3)
        await line.cut()
        for number in range(5):
            appends.add(Sighting, what=f"{number}")
        with pytest.raises(Unavailable):
            await appends.flush()
        assert (appends.waiting, appends.dropped) == (3, 2)
        await line.mend()
        await appends.flush()
        assert await seen(hold) == ["0", "1", "2"]
        await appends.close()
    await line.cut()


async def test_rows_are_written_by_themselves(sqlite_url: str) -> None:
    async with await Holdfast.open(sqlite_url, metadata=LoggedModel.metadata, migrate=True) as hold:
        async with Appends(hold.store, interval=0.01) as appends:
            appends.add(Sighting)
            for _ in range(2_000):
                if not appends.waiting and await seen(hold):
                    break
                await asyncio.sleep(0.01)
            assert await seen(hold) == ["seen"]
        for wrong in ({"interval": 0}, {"size": 0}, {"size": 9, "capacity": 8}):
            with pytest.raises(ConfigurationError):
                Appends(hold.store, **wrong)
