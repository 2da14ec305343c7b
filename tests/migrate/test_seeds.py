"""Seeds and factories: planted in order, the same again changes nothing, production takes no demo data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, MetaData, UniqueConstraint
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Amount, Holdfast, Model
from holdfast.apps import agents
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.migrate import Factory, Planted, plant, seeds, stable_id
from holdfast.migrate.seeds import Seed, Sowing, in_order, seed, seeds_of, sow
from holdfast.model import NAMING
from holdfast.store import Query
from tests.backends import settings_for
from tests.migrate.articles import METADATA, Article, Seat, Tag
from tests.store import shop


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    settings = settings_for(database_url)
    async with await Holdfast.open(
        settings=settings, metadata=(METADATA, agents.metadata, shop.Base.metadata), migrate=True
    ) as hold:
        yield hold


async def changes(hold: Holdfast) -> int:
    async with hold.read() as unit:
        return (await unit.execute("SELECT count(*) FROM holdfast_journal")).scalar_one()


def makers(count: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"m{number}", **more} for number in range(count)]


async def test_what_is_planted_twice_changes_nothing(hold: Holdfast) -> None:
    before = 0
    for expected in ((3, 0, 0), (0, 0, 3)):
        async with hold.unit() as unit:
            done = await plant(unit, shop.Maker, makers(), on=("name",))
        assert (done.inserted, done.updated, done.unchanged) == expected
        assert done.keys == [stable_id(shop.Maker, name=f"m{number}") for number in range(3)]
        before = before or await changes(hold)
    assert await changes(hold) == before > 0


async def test_only_what_differs_is_brought_to_what_it_should_be(hold: Holdfast) -> None:
    rows = [{"org": "o", "number": number, "label": "a"} for number in range(3)]
    async with hold.unit(tenant="o") as unit:
        await plant(unit, Seat, rows, on=("org", "number"))
    before = await changes(hold)
    rows[1]["label"] = "b"
    async with hold.unit(tenant="o") as unit:
        done = await plant(unit, Seat, rows, on=("org", "number"))
    assert (done.inserted, done.updated, done.unchanged) == (0, 1, 2)
    assert await changes(hold) == before + 1


async def test_a_row_that_is_there_keeps_its_id_and_one_that_was_deleted_stays_so(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        mine = await unit[shop.Maker].add(shop.Maker(name="m1"))
        assert (await plant(unit, shop.Maker, makers(), on=("name",))).keys[1] == mine.id
        articles = [{"id": stable_id(Article, name="a"), "name": "a"}]
        await plant(unit, Article, articles, on=("id",))
        await unit[Article].delete(articles[0]["id"])
        done = await plant(unit, Article, [{**articles[0], "name": "b"}], on=("id",))
        assert (done.inserted, done.updated) == (0, 0)
        assert await unit[Article].count() == 0


@pytest.mark.parametrize(
    ("rows", "on", "message"),
    [
        ([{"name": "a"}], ("created_at",), "is no unique key of Maker.*its unique keys: id; name"),
        ([{"name": None}], ("name",), "does not give 'name'"),
        ([{"name": "a"}, {"name": "a"}], ("name",), "two rows for Maker have"),
        ([{"name": "a", "nick": "b"}], ("name",), "no column 'nick'"),
    ],
)
async def test_what_could_make_two_rows_is_refused(hold: Holdfast, rows: Any, on: Any, message: str) -> None:
    async with hold.unit() as unit:
        with pytest.raises(InvalidValue, match=message):
            await plant(unit, shop.Maker, rows, on=on)


async def nothing(sowing: Sowing) -> None:
    """Plants nothing."""


def declared(name: str, *after: str, environments: Any = ("development",)) -> Seed:
    return Seed(name=name, title="", work=nothing, environments=environments, after=after)


def names(line: list[Seed]) -> list[str]:
    return [one.name for one in line]


def test_each_comes_after_those_that_it_needs() -> None:
    all_of_them = [declared("c", "b", "a"), declared("b", "a"), declared("a")]
    assert names(in_order(all_of_them, "development")) == ["a", "b", "c"]
    assert names(in_order(all_of_them, "development", ["b"])) == ["a", "b"]


def test_a_circle_is_told() -> None:
    with pytest.raises(ConfigurationError, match="wait for each other: a → b → a"):
        in_order([declared("a", "b"), declared("b", "a")], "development")


def test_production_takes_only_what_says_so() -> None:
    reference = declared("currencies", environments=("development", "production"))
    demo = declared("demo", "currencies")
    assert names(in_order([reference, demo], "production")) == ["currencies"]
    with pytest.raises(ConfigurationError, match="'demo' is for development, and this is production; nothing was"):
        in_order([reference, demo], "production", ["demo"])
    with pytest.raises(ConfigurationError, match=r"'demo' is for development.*and 'late' needs it"):
        in_order([demo, reference, declared("late", "demo", environments=("production",))], "production")
    with pytest.raises(ConfigurationError, match="no seed 'dmeo'; there are currencies, demo"):
        in_order([reference, demo], "production", ["dmeo"])
    with pytest.raises(ConfigurationError, match="no seed 'gone', which 'x' comes after"):
        in_order([declared("x", "gone")], "development")


def test_what_is_declared_wrongly_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="environments are a tuple of"):
        seed(environments=("staging",))(nothing)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="async function"):
        seed()(lambda sowing: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigurationError, match=r"'no.such.seeds'.*cannot be imported"):
        seeds_of("no.such.seeds", "")
    before = len(seeds.registered)
    try:
        seed(name="twice")(nothing)
        seed(name="twice")(nothing)
        with pytest.raises(ConfigurationError, match="two seeds are called 'twice'"):
            seeds_of(__name__, "")
    finally:
        del seeds.registered[before:]


async def test_the_agents_that_come_with_the_app_are_planted_once(hold: Holdfast) -> None:
    line = in_order(seeds_of("", "holdfast.apps.agents"), "development")
    first = await sow(hold.store, line, rows=30)
    assert [(one.name, one.inserted) for one in first] == [
        ("demo-agents", 30),
        ("demo-capabilities", 60),
        ("demo-pricing", 20),
    ]
    before = await changes(hold)
    again = await sow(hold.store, line, rows=30)
    assert sum(one.inserted + one.updated for one in again) == 0
    assert await changes(hold) == before


FACTORY = MetaData(naming_convention=NAMING)


class Odd(Model):
    """Columns with rules of every usual form."""

    __tablename__ = "odds"
    __table_args__ = (
        UniqueConstraint("email"),
        UniqueConstraint("kind", "size"),
        CheckConstraint("status IN ('settled', 'failed')", name="status"),
        CheckConstraint("share BETWEEN 5 AND 9", name="share"),
        CheckConstraint("weight > 20000", name="weight"),
        CheckConstraint("size >= 3 AND size <= 40", name="size"),
    )
    metadata = FACTORY
    email: Mapped[str]
    kind: Mapped[str] = mapped_column(SqlEnum("a", "b", name="kind", native_enum=False))
    size: Mapped[int]
    status: Mapped[str]
    share: Mapped[int]
    weight: Mapped[int]
    price: Mapped[int] = mapped_column(Amount())
    data: Mapped[bytes]


async def test_a_factory_makes_rows_that_their_tables_take(hold: Holdfast, database_url: str) -> None:
    async with hold.unit() as unit:
        found = await plant(unit, shop.Maker, Factory(shop.Maker).rows(20), on=("id",))
        parts = Factory(shop.Part, parents={shop.Maker: found.rows}, title=lambda chance, number: f"part {number}")
        made = await plant(unit, shop.Part, parts.rows(50), on=("id",))
        await unit[shop.Review].add_many(list(Factory(shop.Review, parents={shop.Part: made.rows}).rows(50)))
        assert {row["maker_id"] for row in made.rows} <= set(found.keys)
        assert await unit[shop.Part].count(Query(shop.Part).where(title="part 49")) == 1
    before = await changes(hold)
    async with hold.unit() as unit:
        await plant(unit, shop.Maker, Factory(shop.Maker).rows(20), on=("id",))
        await plant(unit, shop.Part, parts.rows(50), on=("id",))
    assert await changes(hold) == before


async def test_a_factory_keeps_to_checks_and_unique_keys(database_url: str) -> None:
    opening = Holdfast.open(settings=settings_for(database_url), metadata=FACTORY, migrate=True)
    async with await opening as hold, hold.unit() as unit:
        assert await unit[Odd].add_many(list(Factory(Odd).rows(60))) == 60


@given(st.integers(), st.integers(0, 60))
def test_rows_are_the_same_for_the_same_number_and_more_begin_with_fewer(number: int, count: int) -> None:
    rows = list(Factory(Odd, seed=number).rows(count))
    assert rows == list(Factory(Odd, seed=number).rows(60))[:count]
    assert len({row["email"] for row in rows}) == len({(row["kind"], row["size"]) for row in rows}) == count


def test_what_a_factory_cannot_make_is_told() -> None:
    with pytest.raises(InvalidValue, match=r"rows of Tag refer to articles by article_id; give some: parents="):
        Factory(Tag)
    with pytest.raises(InvalidValue, match="parents has no rows of Article"):
        Factory(Tag, parents={Article: Planted(rows=[]).rows})
    with pytest.raises(InvalidValue, match="no column 'colour'; it has"):
        Factory(Tag, colour="red")
    with pytest.raises(InvalidValue, match="after 76 rows of Odd no other could be made"):
        list(Factory(Odd, seed=1).rows(77))
