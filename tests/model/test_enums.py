"""Enums: text everywhere, and native types only where the database has them already."""

import enum
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import ARRAY, Enum, MetaData, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.errors import InvalidValue, ModelError
from holdfast.migrate import Migrations, inspection
from holdfast.migrate.writer import write_new
from holdfast.model import NAMING, Model, models_of
from holdfast.store import Query, Store
from tests.store.opening import opened


class State(enum.Enum):
    draft = 1
    live = 2


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Page(Base):
    __tablename__ = "pages"

    state: Mapped[State]
    before: Mapped[State | None]
    kind: Mapped[Literal["post", "note"]]
    old: Mapped[State | None] = mapped_column(Enum(State, native_enum=False))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def test_an_enum_comes_back_and_is_found_and_paged_by(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Page].add_many([{"state": state, "kind": "note"} for state in State for _ in range(3)])
    async with store.read() as unit:
        live = Query(Page).where(state=State.live)
        assert [page.state for page in await unit[Page].list(live)] == [State.live] * 3
        first = await unit[Page].page(Query(Page).order_by("state"), limit=2)
        rest = await unit[Page].page(Query(Page).order_by("state"), limit=9, after=first.next)
        assert [page.state for page in first.items + rest.items] == [State.draft] * 3 + [State.live] * 3
        found = await unit.execute(text("SELECT DISTINCT state FROM pages ORDER BY state"))
        assert found.scalars().all() == ["draft", "live"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"state": "gone", "kind": "note"}, "draft, live"),
        ({"state": State.live, "kind": "gone"}, "post, note"),
        ({"state": State.live, "kind": "note", "old": "gone"}, "draft, live"),
    ],
)
@pytest.mark.parametrize("rows", [1, 300])
async def test_what_is_no_member_is_refused(store: Store, row: dict[str, Any], said: str, rows: int) -> None:
    with pytest.raises(InvalidValue, match=said):
        async with store.unit() as unit:
            await unit[Page].add_many([row] * rows)


async def test_migrations_of_them_go_up_down_and_up_and_a_new_member_needs_none(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as store:
        migrations = Migrations(store, tmp_path, metadatas=[Base.metadata], models=models_of(Base.metadata))
        await write_new(migrations, "Begin")
        for _ in range(2):
            await migrations.up()
            assert await inspection.drift(migrations) == []
            assert await inspection.undeclared(migrations) == []
            await migrations.down(to="base")


@pytest.mark.parametrize(
    "kind",
    [Enum(State), postgresql.ENUM(State, name="state"), ARRAY(Enum(State)), Enum("a", "b", name="letters")],
    ids=["Enum", "ENUM", "ARRAY", "names"],
)
def test_a_native_type_is_refused_while_the_class_is_made(kind: object) -> None:
    class Refused(Model):
        __abstract__ = True
        metadata = MetaData()

    with pytest.raises(ModelError, match=r"Thing.state is an enum type .* native_enum=False"):

        class Thing(Refused):
            __tablename__ = "things"
            state: Mapped[State] = mapped_column(kind)


async def test_a_native_type_that_the_database_has_is_used(postgres_url: str) -> None:
    class Own(Model):
        __abstract__ = True
        metadata = MetaData()

    class Thing(Own):
        __tablename__ = "things"
        state: Mapped[State] = mapped_column(postgresql.ENUM(State, name="state", create_type=False))

    async with opened(postgres_url) as store:
        async with store.unit() as unit:
            await unit.execute("CREATE TYPE state AS ENUM ('draft', 'live')")
        async with store.engine.begin() as connection:
            await connection.run_sync(Own.metadata.create_all)
        async with store.unit() as unit:
            await unit[Thing].add(Thing(state=State.live))
        async with store.read() as unit:
            assert [thing.state for thing in await unit[Thing].list()] == [State.live]
