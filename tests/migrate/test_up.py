"""Bringing a database to where the models are: what is missing is made, nothing else is touched."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Index, MetaData, inspect, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Count, Holdfast, Model, Policy, Rollup, Timestamps, Versioned
from holdfast.errors import MigrationError
from holdfast.model import NAMING

_numbers = count()


def declare(policy: Policy | None = None, indexes: tuple[Index, ...] = (), **columns: Any) -> type[Model]:
    """A model of the table `notes`, on metadata of its own: `title`, and what is given."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    mixins = columns.pop("mixins", ())
    body = {
        "__module__": __name__,
        "__tablename__": "notes",
        "__table_args__": indexes,
        "__policy__": policy or Policy(),
        "__annotations__": {"title": Mapped[str], **{name: kind for name, (kind, _) in columns.items()}},
        **{name: column for name, (_, column) in columns.items()},
    }
    return type(f"Note{next(_numbers)}", (*mixins, Base), body)


async def opened(url: str, model: type[Model], **options: Any) -> Holdfast:
    return await Holdfast.open(url, metadata=model.metadata, **options)


async def columns_of(hold: Holdfast) -> set[str]:
    async with hold.store.read_engine.connect() as connection:
        return await connection.run_sync(lambda c: {column["name"] for column in inspect(c).get_columns("notes")})


async def titles(hold: Holdfast) -> list[str]:
    async with hold.read() as unit:
        return list((await unit.execute("SELECT title FROM notes ORDER BY title")).scalars())


async def test_an_empty_database_gets_everything_and_a_second_time_nothing(database_url: str) -> None:
    model = declare(indexes=(Index("ix_notes_title", "title"),))
    async with (
        await opened(database_url, model, migrate=False)
        if "postgres" in database_url
        else await opened(database_url, model) as hold
    ):
        if "postgres" in database_url:
            assert "table notes is missing" in (await hold.pending()).lines()
            made = await hold.migrate()
            assert "notes" in made.tables
        assert not await hold.pending()
        assert not await hold.migrate()
        async with hold.unit() as unit:
            await unit[model].add(model(title="a"))
        assert await titles(hold) == ["a"]


async def test_what_is_pending_is_told_and_not_made(database_url: str) -> None:
    async with await opened(database_url, declare()) as hold:
        assert not await hold.pending()
    grown = declare(indexes=(Index("ix_notes_title", "title"),), body=(Mapped[str | None], mapped_column()))
    async with await opened(database_url, grown, migrate=False) as hold:
        for _ in range(2):
            assert (await hold.pending()).lines() == ["column notes.body is missing", "index ix_notes_title is missing"]


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        (Mapped[str | None], lambda: mapped_column(), None),
        (Mapped[dt.datetime | None], lambda: mapped_column(), None),
        (Mapped[str], lambda: mapped_column(server_default=text("'draft'")), "draft"),
        (Mapped[int], lambda: mapped_column(server_default=text("7")), 7),
        (Mapped[int], lambda: mapped_column(default=-1), -1),
        (Mapped[float], lambda: mapped_column(default=1.5), 1.5),
        (Mapped[bool], lambda: mapped_column(default=False), False),
        (Mapped[str], lambda: mapped_column(default="it's :new %(s)s"), "it's :new %(s)s"),
    ],
)
async def test_a_new_column_is_added_to_the_rows_that_are_there(
    database_url: str, kind: Any, column: Callable[[], Any], value: Any
) -> None:
    first = declare()
    async with await opened(database_url, first) as hold, hold.unit() as unit:
        await unit[first].add_many([{"title": "a"}, {"title": "b"}])
    second = declare(state=(kind, column()))
    async with await opened(database_url, second) as hold:
        assert "state" in await columns_of(hold)
        async with hold.read() as unit:
            assert [note.state for note in await unit[second].list()] == [value, value]  # type: ignore[attr-defined]
        assert not await hold.pending()


async def test_a_column_that_old_rows_cannot_have_is_refused_and_nothing_is_changed(database_url: str) -> None:
    first = declare()
    async with await opened(database_url, first) as hold, hold.unit() as unit:
        await unit[first].add(first(title="a"))
    second = declare(
        indexes=(Index("ix_notes_title", "title"),),
        body=(Mapped[str | None], mapped_column()),
        state=(Mapped[str], mapped_column()),
    )
    with pytest.raises(MigrationError, match=r"notes\.state is new and NOT NULL.*nullable or with a server_default"):
        await opened(database_url, second)
    async with await opened(database_url, second, migrate=False) as hold:
        assert await columns_of(hold) == {"id", "title"}
        assert await titles(hold) == ["a"]


@pytest.mark.parametrize("mixin", [Timestamps, Versioned])
async def test_the_librarys_own_columns_can_be_added_later(database_url: str, mixin: type) -> None:
    first = declare()
    async with await opened(database_url, first) as hold, hold.unit() as unit:
        await unit[first].add(first(title="a"))
    second = declare(mixins=(mixin,))
    if mixin is Timestamps and database_url.startswith("sqlite"):
        with pytest.raises(MigrationError, match=r"notes\.created_at is new and has a computed default, which SQLite"):
            await opened(database_url, second)
        return
    async with await opened(database_url, second) as hold:
        async with hold.unit() as unit:
            await unit[second].add(second(title="b"))
            notes = await unit[second].list()
        names = ("created_at", "updated_at") if mixin is Timestamps else ("version",)
        assert all(getattr(note, name) is not None for note in notes for name in names)
        assert await titles(hold) == ["a", "b"]


async def test_a_column_with_a_computed_default_is_added_while_there_are_no_rows(database_url: str) -> None:
    async with await opened(database_url, declare()):
        pass
    second = declare(mixins=(Timestamps,))
    async with await opened(database_url, second) as hold, hold.unit() as unit:
        await unit.execute("INSERT INTO notes (title) VALUES ('a')")
        (note,) = await unit[second].list()
        assert note.created_at.tzinfo is not None  # type: ignore[attr-defined]


async def test_what_the_models_do_not_know_is_left_alone(database_url: str) -> None:
    model = declare(body=(Mapped[str | None], mapped_column()))
    async with await opened(database_url, model) as hold, hold.unit() as unit:
        await unit.execute("CREATE TABLE others (n INTEGER)")
        await unit.execute("INSERT INTO others VALUES (1)")
        await unit.execute("CREATE INDEX ours ON notes (title)")
    async with await opened(database_url, declare()) as hold:
        assert "body" in await columns_of(hold)
        async with hold.read() as unit:
            assert (await unit.execute("SELECT n FROM others")).scalar() == 1


async def test_an_index_and_capture_that_are_gone_are_made_again(database_url: str) -> None:
    model = declare(indexes=(Index("ix_notes_title", "title"),))
    async with await opened(database_url, model) as hold:
        async with hold.unit() as unit:
            await unit.execute("DROP INDEX ix_notes_title")
            if hold.store.dialect == "sqlite":
                await unit.execute("DROP TRIGGER holdfast_notes_insert")
            else:
                await unit.execute("DROP TRIGGER holdfast_insert ON notes")
        lacking = (await hold.pending()).lines()
        assert "index ix_notes_title is missing" in lacking
        assert any("notes" in line and "not captured" in line for line in lacking)
        made = await hold.migrate()
        assert (made.indexes, len(made.capture)) == (["ix_notes_title"], 1)
        assert not await hold.pending()
        start = await hold.journal.make_tick()
        async with hold.unit() as unit:
            await unit[model].add(model(title="a"))
        upto = await hold.journal.make_tick()
        seen = [c.op async for page in hold.journal.read(start, upto, tables=["notes"]) for c in page.changes]
        assert seen == ["insert"]


async def test_a_rollup_that_is_declared_later_gets_its_table_and_its_facts(database_url: str) -> None:
    first = declare(at=(Mapped[dt.datetime | None], mapped_column()))
    async with await opened(database_url, first) as hold, hold.unit() as unit:
        await unit[first].add(first(title="a", at=dt.datetime(2025, 1, 1, tzinfo=dt.UTC)))
    rollup = Rollup("notes_daily", time="at", by=("title",), notes=Count())
    second = declare(policy=Policy(rollup), at=(Mapped[dt.datetime | None], mapped_column()))
    async with await opened(database_url, second, migrate=False) as hold:
        assert (await hold.pending()).tables == ["notes_daily"]
        await hold.migrate()
        start = await hold.journal.make_tick()
        async with hold.unit() as unit:
            await unit[second].add(second(title="b", at=dt.datetime(2025, 1, 2, tzinfo=dt.UTC)))
        upto = await hold.journal.make_tick()
        seen = [c.new async for page in hold.journal.read(start, upto, tables=["notes"]) for c in page.changes]
        assert seen == [{"title": "b", "at": "2025-01-02T00:00:00.000000Z"}]


async def test_several_that_migrate_at_once_do_it_once(database_url: str) -> None:
    first = declare()
    async with await opened(database_url, first):
        pass
    second = declare(indexes=(Index("ix_notes_title", "title"),), body=(Mapped[str | None], mapped_column()))
    holds = [await opened(database_url, second, migrate=False) for _ in range(4)]
    try:
        made = await asyncio.gather(*(hold.migrate() for hold in holds))
        assert sorted(len(m.columns) for m in made) == [0, 0, 0, 1]
        assert not await holds[0].pending()
    finally:
        for hold in holds:
            await hold.close()
