"""Text that every backend keeps, and moments that are UTC everywhere."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped

from holdfast.errors import InvalidValue
from holdfast.model import NAMING, Model
from holdfast.store import Store
from tests.store.opening import opened

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
zones = st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Apia", "Africa/Monrovia"]).map(ZoneInfo)
# A day off either end, so that every zone's moment is one of UTC too.
FIRST, LAST = dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)  # noqa: DTZ001
FIRST_OF_ALL, LAST_OF_ALL = (end.replace(tzinfo=dt.UTC) for end in (dt.datetime.min, dt.datetime.max))  # noqa: DTZ901
moments = st.datetimes(FIRST, LAST, timezones=zones)


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Event(Base):
    __tablename__ = "events"

    name: Mapped[str]
    at: Mapped[dt.datetime | None]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@few
@given(names=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=20))
async def test_text_comes_back_as_it_was(store: Store, names: list[str]) -> None:
    async with store.unit() as unit:
        await unit.execute("DELETE FROM events")
        await unit[Event].add_many([{"name": name} for name in names])
    async with store.read() as unit:
        found = (await unit.execute(select(Event.name).order_by(Event.id))).scalars().all()
    assert found == names


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\0b", "NUL character at position 1"),
        ("ab\ud800", "lone surrogate at position 2"),
        (5, "not int"),
        (b"bytes", "not bytes"),
    ],
)
async def test_text_that_a_backend_would_garble_is_refused(store: Store, value: Any, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        async with store.unit() as unit:
            await unit[Event].add(Event(name=value))
    with pytest.raises(InvalidValue, match=told):
        async with store.unit() as unit:
            await unit[Event].add_many([{"name": value}])
    with pytest.raises(InvalidValue, match=told):
        async with store.read() as unit:
            await unit[Event].list(unit[Event].query().where(name=value))


@pytest.mark.parametrize("value", ["\ud800", 2**64, object()])
async def test_a_value_of_raw_sql_that_the_driver_refuses_is_an_invalid_value(store: Store, value: Any) -> None:
    with pytest.raises(InvalidValue):
        async with store.unit() as unit:
            await unit.execute("INSERT INTO events (name) VALUES (:name)", {"name": value})


async def test_on_postgresql_a_nul_of_raw_sql_is_an_invalid_value(postgres_url: str) -> None:
    async with opened(postgres_url, Base.metadata) as store:
        with pytest.raises(InvalidValue, match="22021"):
            async with store.unit() as unit:
                await unit.execute("INSERT INTO events (name) VALUES (:name)", {"name": "a\0b"})


@few
@given(values=st.lists(moments, min_size=1, max_size=20))
async def test_a_moment_comes_back_in_utc_and_in_the_order_of_time(store: Store, values: list[dt.datetime]) -> None:
    async with store.unit() as unit:
        await unit.execute("DELETE FROM events")
        await unit[Event].add_many([{"name": "e", "at": value} for value in values])
    async with store.read() as unit:
        found = (await unit.execute(select(Event.at).order_by(Event.at))).scalars().all()
        after = await unit[Event].count(unit[Event].query().where(Event.at > values[0]))
    meant = [value.astimezone(dt.UTC) for value in values]
    assert found == sorted(meant)
    assert all(value is not None and value.tzinfo is dt.UTC for value in found)
    assert after == sum(value > meant[0] for value in meant)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (FIRST, "with a zone"),
        ("2026-01-01", "not str"),
        (dt.date(2026, 1, 1), "not date"),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))), "years 1 to 9999"),
        (dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-12))), "years 1 to 9999"),
    ],
)
async def test_what_is_no_moment_is_refused(store: Store, value: Any, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        async with store.unit() as unit:
            await unit[Event].add(Event(name="e", at=value))


@pytest.mark.parametrize("end", [FIRST_OF_ALL, LAST_OF_ALL])
async def test_an_end_of_time_is_refused_and_its_neighbour_kept(store: Store, end: dt.datetime) -> None:
    with pytest.raises(InvalidValue, match="first and the last microsecond"):
        async with store.unit() as unit:
            unit.add(Event(name="e", at=end))
    near = end + dt.timedelta(microseconds=1 if end.year == 1 else -1)
    async with store.unit() as unit:
        unit.add(Event(name="e", at=near))
    async with store.read() as unit:
        assert [row.at for row in await unit[Event].list()] == [near]


async def test_a_literal_is_the_same_moment(store: Store) -> None:
    at = dt.datetime(2026, 3, 29, 1, 30, 0, 123456, ZoneInfo("Asia/Kolkata"))
    async with store.unit() as unit:
        await unit[Event].add(Event(name="it's", at=at))
    dialect = sqlite.dialect() if store.dialect == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]
    statement = select(Event.name).where(Event.at == at, Event.name == "it's")
    async with store.read() as unit:
        text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        assert (await unit.execute(text.replace(":", r"\:"))).scalars().all() == ["it's"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-02 03:04:05", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2026-01-02T03:04:05Z", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2026-01-02 03:04:05+05:30", dt.datetime(2026, 1, 1, 21, 34, 5, tzinfo=dt.UTC)),
    ],
)
async def test_on_sqlite_iso_times_of_other_programs_are_read_as_utc(
    sqlite_url: str, written: str, meant: dt.datetime
) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        async with store.unit() as unit:
            await unit.execute("INSERT INTO events (name, at) VALUES ('e', :at)", {"at": written})
        async with store.read() as unit:
            assert (await unit[Event].list())[0].at == meant


async def test_on_sqlite_what_is_no_time_is_an_error_that_shows_it(sqlite_url: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        async with store.unit() as unit:
            await unit.execute("INSERT INTO events (name, at) VALUES ('e', 'yesterday')")
        async with store.read() as unit:
            with pytest.raises(InvalidValue, match="'yesterday' in a time column"):
                await unit[Event].list()
