"""An update that changes nothing writes nothing, and whatever does change something is written."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Encrypted, Holdfast, Model, Versioned
from holdfast.errors import Conflict, NotFound
from holdfast.model import NAMING
from tests.backends import EVERY_BACKEND, settings_for
from tests.cache.members import KEYS, Author, Genre, Letter, opened

WAS: dict[str, Any] = {
    "name": "Woolf",
    "born": dt.date(1882, 1, 25),
    "wealth": 2**255 + 1,
    "share": Decimal("12.50"),
    "rating": 4.1,
    "is_alive": False,
    "genre": Genre.NOVEL,
    "mood": "sad",
    "habits": {"walks": ["St Ives", {"miles": 1}], "ß": None},
    "photo": b"\0\xff",
    "breakfast": dt.time(7, 30, 1, 5),
    "rival": UUID(int=7),
    "biography": None,
}
IS: dict[str, Any] = {
    "name": "woolf",
    "born": None,
    "wealth": 2**255,
    "share": Decimal("12.51"),
    "rating": 4.2,
    "is_alive": True,
    "genre": Genre.POEM,
    "mood": None,
    "habits": {"walks": ["St Ives", {"miles": 1.0}], "ß": None},
    "photo": b"\0\xfe",
    "breakfast": dt.time(7, 30, 1, 6),
    "rival": UUID(int=8),
    "biography": "",
}


class Folded(Versioned, Model):
    """Texts that are equal to SQLite and are not the same."""

    __tablename__ = "folded"
    metadata = MetaData(naming_convention=NAMING)

    name: Mapped[str] = mapped_column(String(collation="NOCASE"))


class Sealed(Versioned, Model):
    __tablename__ = "sealed"
    metadata = MetaData(naming_convention=NAMING)

    note: Mapped[str] = mapped_column(Encrypted(blind=True))


@pytest.fixture(params=EVERY_BACKEND)
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    async with opened(request.getfixturevalue(f"{request.param}_url")) as hold:
        yield hold


async def woolf(hold: Holdfast) -> Author:
    async with hold.unit() as unit:
        return await unit[Author].add(Author(**WAS))


async def ops(hold: Holdfast, since: Any) -> list[str]:
    """What the journal has after `since`."""
    now = await hold.journal.make_tick()
    return [change.op async for page in hold.journal.read(since, now) for change in page.changes]


async def test_values_that_a_row_has_already_are_not_written(hold: Holdfast) -> None:
    row = await woolf(hold)
    since = await hold.journal.make_tick()
    async with hold.unit() as unit:
        found = await unit[Author].update(row.id, **WAS)
        assert (found.version, found.updated_at) == (1, row.updated_at)
        assert {name: getattr(found, name) for name in WAS if name != "biography"} | {"biography": None} == WAS
        assert await unit[Author].update(row.id, expect=1, name="Woolf") is found
    assert await ops(hold, since) == []


async def test_a_value_that_differs_is_written_of_whatever_kind_it_is(hold: Holdfast) -> None:
    row = await woolf(hold)
    since = await hold.journal.make_tick()
    for version, name in enumerate(WAS, start=1):
        async with hold.unit() as unit:
            assert (await unit[Author].update(row.id, **{name: WAS[name]})).version == version
            assert (await unit[Author].update(row.id, **{**WAS, **before(name), name: IS[name]})).version == version + 1
        async with hold.read() as unit:
            query = unit[Author].query().select(name)
            value = getattr(await unit[Author].first(query), name)
        assert repr(value) == repr(IS[name]) if name == "habits" else value == IS[name]
    assert await ops(hold, since) == ["update"] * len(WAS)


def before(name: str) -> dict[str, Any]:
    """What was changed by the time that it is the turn of `name`."""
    names = list(IS)
    return {earlier: IS[earlier] for earlier in names[: names.index(name)]}


async def test_the_version_and_the_row_must_be_there_though_nothing_differs(hold: Holdfast) -> None:
    row = await woolf(hold)
    async with hold.unit() as unit:
        with pytest.raises(Conflict, match="is at version 1, not 7"):
            await unit[Author].update(row.id, expect=7, name="Woolf")
        with pytest.raises(NotFound):
            await unit[Author].update(uuid4(), name="Woolf")
        await unit[Author].delete(row.id)
        with pytest.raises(NotFound):
            await unit[Author].update(row.id, name="Woolf")


async def test_an_expression_is_written(hold: Holdfast) -> None:
    row = await woolf(hold)
    async with hold.unit() as unit:
        assert (await unit[Author].update(row.id, rating=Author.rating + 0)).version == 2


async def test_what_is_encrypted_is_written(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        row = await unit[Letter].add(Letter(body={"a": 1}))
    since = await hold.journal.make_tick()
    async with hold.unit() as unit:
        assert (await unit[Letter].update(row.id, body={"a": 1})).body == {"a": 1}
    assert await ops(hold, since) == ["update"]


async def test_rows_with_json_are_upserted_and_left_alone_where_nothing_differs(hold: Holdfast) -> None:
    row = await woolf(hold)
    since = await hold.journal.make_tick()
    given = {"id": row.id, "name": "Woolf"}
    async with hold.unit() as unit:
        assert await unit[Author].upsert_many([{**given, "habits": WAS["habits"]}]) == 0
        assert await unit[Author].upsert_many([{**given, "habits": IS["habits"]}]) == 1
    assert await ops(hold, since) == ["update"]


async def test_texts_that_a_collation_takes_for_equal_are_not(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url)
    async with await Holdfast.open(settings=settings, metadata=Folded.metadata) as hold, hold.unit() as unit:
        row = await unit[Folded].add(Folded(name="ada"))
        assert (await unit[Folded].update(row.id, name="ada")).version == 1
        assert (await unit[Folded].update(row.id, name="ADA")).name == "ADA"


async def test_a_blind_index_follows_what_is_encrypted(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, encryption_keys=KEYS)
    async with await Holdfast.open(settings=settings, metadata=Sealed.metadata) as hold, hold.unit() as unit:
        row = await unit[Sealed].add(Sealed(note="one"))
        await unit[Sealed].update(row.id, note="two")
        assert await unit[Sealed].exists(unit[Sealed].query().where(note="two"))
        assert not await unit[Sealed].exists(unit[Sealed].query().where(note="one"))


async def test_an_update_waits_for_who_is_changing_the_row_and_is_not_lost(postgres_url: str) -> None:
    async with opened(postgres_url) as hold:
        row = await woolf(hold)

        async def back() -> Author:
            async with hold.unit() as unit:
                return await unit[Author].update(row.id, name="Woolf")

        async with hold.unit() as unit:
            await unit[Author].update(row.id, name="Stephen")
            waiting = asyncio.create_task(back())
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done  # to itself the row seems to have the name already
        assert ((await waiting).name, (await waiting).version) == ("Woolf", 3)
