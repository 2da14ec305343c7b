"""Rows that other programs write get what the library would give them."""

import datetime as dt
import sqlite3
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.model import NAMING, Amount, Model, Timestamps, Versioned
from holdfast.store import Store
from tests.store.opening import opened


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Note(Timestamps, Versioned, Base):
    __tablename__ = "notes"

    text: Mapped[str]
    state: Mapped[str] = mapped_column(default="it's new")
    stars: Mapped[int] = mapped_column(default=-1)
    price: Mapped[int] = mapped_column(Amount(), default=15)
    hidden: Mapped[bool] = mapped_column(default=False)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def test_raw_rows_get_an_id_times_and_a_version(store: Store) -> None:
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    async with store.raw() as connection:
        for number in "012":
            await connection.execute("INSERT INTO notes (text) VALUES ('raw ' || " + number + ")")
    async with store.unit() as unit:
        notes = await unit[Note].list(unit[Note].query().order_by("text"))
        assert [note.text for note in notes] == ["raw 0", "raw 1", "raw 2"]
        assert len({note.id for note in notes}) == 3
        for note in notes:
            assert before <= note.created_at <= dt.datetime.now(dt.UTC)
            assert note.created_at == note.updated_at
            assert note.version == 1
            assert (note.state, note.stars, note.price, note.hidden) == ("it's new", -1, 15, False)
            assert (await unit[Note].get(note.id)) is note
        changed = await unit[Note].update(notes[0].id, expect=1, text="ours")
        assert changed.version == 2


async def test_a_row_written_by_any_sqlite_program_is_a_row_like_others(sqlite_url: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        file = sqlite3.connect(store.file or "")
        file.execute("INSERT INTO notes (text) VALUES ('from elsewhere')")
        file.commit()
        file.close()
        async with store.read() as unit:
            (note,) = await unit[Note].list()
            assert (await unit[Note].get(str(note.id))).text == "from elsewhere"


async def test_our_rows_and_raw_ones_sort_together_by_time(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Note].add(Note(text="1"))
    async with store.raw() as connection:
        await connection.execute("INSERT INTO notes (text) VALUES ('2')")
    async with store.unit() as unit:
        await unit[Note].add(Note(text="3"))
    async with store.read() as unit:
        notes = await unit[Note].list(unit[Note].query().order_by("created_at"))
    times = [note.created_at for note in notes]
    assert times == sorted(times)
    # The database's clock has milliseconds on SQLite.
    assert {note.text for note in notes} == {"1", "2", "3"}
