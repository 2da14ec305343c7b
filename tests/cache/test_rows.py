"""Rows by key from the cache: what they are, whose they are, and that they are never older than the bound."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import MetaData
from sqlalchemy import inspect as state_of
from sqlalchemy.orm import Mapped

from holdfast import ALL, Cold, Holdfast, Hot, Model, Policy, Warm
from holdfast.cache.clock import boottime
from holdfast.cache.options import DEFAULT
from holdfast.cache.row_form import RowForm
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue, ModelError, WrongTenant
from holdfast.model import NAMING
from tests.cache.loans import Loan
from tests.cache.members import (
    Author,
    Card,
    Fine,
    Genre,
    Letter,
    Rumour,
    Shelf,
    Word,
    opened,
    reading,
)

WOOLF: dict[str, Any] = {
    "name": "Woolf",
    "born": dt.date(1882, 1, 25),
    "wealth": 2**255 + 1,
    "share": Decimal("12.50"),
    "rating": 4.1,
    "is_alive": False,
    "genre": Genre.NOVEL,
    "mood": "sad",
    "habits": {"walks": ["St Ives", {"miles": 10**20}], "ß": None},
    "photo": b"\0\xff",
    "breakfast": dt.time(7, 30, 1, 5),
    "naps": dt.timedelta(minutes=20, microseconds=1),
    "rival": UUID(int=7),
}


@pytest.fixture(params=("sqlite", "postgres", "postgres+redis"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    url = request.getfixturevalue(f"{database}_url")
    async with opened(url, request.getfixturevalue("redis_url") if redis else None) as hold:
        yield hold


@pytest.fixture
async def other(hold: Holdfast) -> AsyncIterator[Holdfast]:
    """Another node."""
    async with opened(hold.settings.database_url, hold.settings.redis_url, migrate=False) as other:
        yield other


async def added(hold: Holdfast, row: Any, **unit: Any) -> Any:
    """The key of a row that is committed now."""
    async with hold.unit(**unit) as open_unit:
        await open_unit[type(row)].add(row)
    return row.id


async def settled(hold: Holdfast) -> None:
    """Return when what was loaded is in Redis."""
    await asyncio.gather(*hold.cache._loads._shares)


async def test_a_row_is_read_once_and_is_the_same_from_everywhere(hold: Holdfast, other: Holdfast) -> None:
    key = await added(hold, Author(**WOOLF))
    await other.cache.renew()
    async with hold.read() as unit:
        row = await unit[Author].get(key)
    expected = {name: getattr(row, name) for name in (*WOOLF, "id", "version", "created_at", "updated_at")}
    assert {name: expected[name] for name in WOOLF} == WOOLF
    with reading(hold, "authors") as read, reading(other, "authors") as read_elsewhere:
        for _ in range(3):
            for wanted in (key, str(key), {"id": key}):
                found = await hold.cache[Author].get(wanted)
                assert found is not None
                assert {name: getattr(found, name) for name in expected} == expected
        assert len(read) == 1
        assert hold.cache[Author].peek(key).name == "Woolf"  # type: ignore[union-attr]
        await settled(hold)
        there = await other.cache[Author].get(key)
        assert there is not None
        assert {name: getattr(there, name) for name in expected} == expected
        assert type(there.genre) is Genre
        assert type(there.rival) is UUID
        assert len(read_elsewhere) == (0 if hold.settings.redis_url else 1)


async def test_each_caller_has_a_row_of_his_own_which_belongs_to_no_unit(hold: Holdfast) -> None:
    key = await added(hold, Author(**WOOLF))
    one, two = [await hold.cache[Author].get(key) for _ in range(2)]
    assert one is not None
    assert two is not None
    assert one is not two
    assert state_of(one).detached
    assert not state_of(one).modified
    one.name = "Wolf"
    one.habits["walks"].clear()
    again = await hold.cache[Author].get(key)
    assert again is not None
    assert (two.name, two.habits, again.name, again.habits) == ("Woolf", WOOLF["habits"], "Woolf", WOOLF["habits"])
    with pytest.raises(Exception, match="biography"):  # it is deferred, and was not read
        _ = two.biography


async def test_a_row_that_is_updated_is_read_fresh_by_whoever_reads_next(hold: Holdfast, other: Holdfast) -> None:
    key = await added(hold, Author(**WOOLF))
    for rating in (1.0, 2.5, 3.0):
        assert await hold.cache[Author].get(key) is not None
        async with hold.unit() as unit:
            await unit[Author].update(key, rating=rating)
        found = await hold.cache[Author].get(key)
        assert found is not None
        assert (found.rating, found.name) == (rating, "Woolf")
    async with other.unit() as unit:
        await unit.execute("UPDATE authors SET name = 'Stephen'")
    committed = boottime()
    while (await hold.cache[Author].get(key)).name == "Woolf":  # type: ignore[union-attr]
        assert boottime() - committed <= 1.0
        await asyncio.sleep(0.002)
    other_key = await added(hold, Author(name="Mann"))
    with reading(hold, "authors") as read:
        assert (await hold.cache[Author].get(key)).name == "Stephen"  # type: ignore[union-attr]
        assert read == []  # another row is no reason to read this one
    assert (await hold.cache[Author].get(other_key)).name == "Mann"  # type: ignore[union-attr]


async def test_several_rows_are_one_select_and_missing_ones_are_left_out(hold: Holdfast, other: Holdfast) -> None:
    keys = [await added(hold, Author(name=f"n{number}")) for number in range(5)]
    await hold.cache[Author].get(keys[1])
    nobody = uuid4()
    with reading(hold, "authors") as read:
        found = await hold.cache[Author].get_many([keys[4], nobody, keys[1], str(keys[0]), keys[4]])
        assert [(key, row.name) for key, row in found.items()] == [(keys[4], "n4"), (keys[1], "n1"), (keys[0], "n0")]
        assert len(read) == 1
        assert await hold.cache[Author].get_many([nobody, keys[0]]) != {}
        assert len(read) == 1
        assert list(await hold.cache[Author].get_many([])) == []
    await settled(hold)
    await other.cache.renew()
    with reading(other, "authors") as read:
        assert list(await other.cache[Author].get_many(keys)) == keys
        assert len(read) == 1
        assert read[0].count("?") + read[0].count("$") == (2 if hold.settings.redis_url else 5)


async def test_that_there_is_no_row_is_kept_until_there_is_one(hold: Holdfast) -> None:
    key = uuid4()
    with reading(hold, "authors") as read:
        for _ in range(3):
            assert await hold.cache[Author].get(key) is None
        assert len(read) == 1
        for _ in range(3):
            assert await hold.cache[Card].get(key) is None  # its options keep no None
    await added(hold, Author(id=key, name="Eliot"))
    assert (await hold.cache[Author].get(key)).name == "Eliot"  # type: ignore[union-attr]


async def test_a_deleted_row_is_not_found_and_a_restored_one_is(hold: Holdfast) -> None:
    key = await added(hold, Author(name="Eliot"))
    assert await hold.cache[Author].get(key) is not None
    async with hold.unit() as unit:
        await unit[Author].delete(key)
    assert await hold.cache[Author].get(key) is None
    assert await hold.cache[Author].get_many([key]) == {}
    async with hold.unit() as unit:
        await unit[Author].restore(key)
    assert await hold.cache[Author].get(key) is not None
    async with hold.unit() as unit:
        await unit[Author].purge(key)
    assert await hold.cache[Author].get(key) is None


async def test_a_row_is_found_by_its_tenant_alone(hold: Holdfast, other: Holdfast) -> None:
    key = await added(hold, Fine(reader="ada", cents=5), tenant="ada")
    for node in (hold, other):
        await node.cache.renew()
        for _ in range(2):
            assert (await node.cache[Fine].get(key, tenant="ada")).cents == 5  # type: ignore[union-attr]
            assert await node.cache[Fine].get(key, tenant="bob") is None
            assert await node.cache[Fine].get_many([key], tenant="bob") == {}
            assert node.cache[Fine].peek(key, tenant="bob") is None
            assert (await node.cache[Fine].get(key, tenant=ALL)).reader == "ada"  # type: ignore[union-attr]
            for nobody in ("ALL", "~*", "*"):
                assert await node.cache[Fine].get(key, tenant=nobody) is None
            with pytest.raises(WrongTenant, match="names no tenant"):
                await node.cache[Fine].get(key)
            with pytest.raises(InvalidValue, match="tenant"):
                await node.cache[Fine].get(key, tenant=["ada"])  # type: ignore[arg-type]
        await settled(node)
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE fines SET reader = 'bob'")
    assert await hold.cache[Fine].get(key, tenant="ada") is None
    assert (await hold.cache[Fine].get(key, tenant="bob")).cents == 5  # type: ignore[union-attr]


async def test_what_is_encrypted_or_secret_never_comes_into_redis(postgres_url: str, redis_url: str) -> None:
    async with opened(postgres_url, redis_url) as hold:
        card = await added(hold, Card(pin="pin-4711", holder="ada"))
        letter = await added(hold, Letter(body={"dear": "word-of-love"}))
        author = await added(hold, Author(name="not-hidden"))
        for _ in range(2):
            assert (await hold.cache[Card].get(card)).pin == "pin-4711"  # type: ignore[union-attr]
            found = await hold.cache[Letter].get_many([letter])
            assert found[letter].body == {"dear": "word-of-love"}
            found[letter].body.clear()
            assert await hold.cache[Author].get(author) is not None
        await settled(hold)
        client: Any = hold.cache._redis._server.client  # type: ignore[union-attr]
        values = [await client.get(name) for name in await client.keys("*")]
        assert any(b"not-hidden" in value for value in values)
        assert not any(word in value for value in values for word in (b"4711", b"word-of-love", b"dear"))
        assert (hold.cache[Card].is_shared, hold.cache[Letter].is_shared, hold.cache[Author].is_shared) == (
            False,
            False,
            True,
        )
        with reading(hold, "cards") as read:
            assert await hold.cache[Card].get(card) is not None
            assert read == []


async def test_a_unit_that_has_written_reads_its_own_rows_and_keeps_none(hold: Holdfast) -> None:
    key, second = await added(hold, Author(name="Eliot")), await added(hold, Author(name="Mann"))
    rows = hold.cache[Author]
    assert (await rows.get(key)).name == "Eliot"  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError):
        async with hold.unit() as unit:
            assert (await rows.get(key)).name == "Eliot"  # type: ignore[union-attr]
            mine = await unit[Author].update(key, name="Evans")
            added_row = Author(id=uuid4(), name="James")
            unit.add(added_row)
            seen = await asyncio.gather(rows.get(key), rows.get(second), rows.get_many([key, added_row.id]))
            assert (seen[0].name, seen[1].name) == ("Evans", "Mann")  # type: ignore[union-attr]
            assert [row.name for row in seen[2].values()] == ["Evans", "James"]
            assert seen[0] is not mine
            seen[0].name = "Cross"  # type: ignore[union-attr]
            assert (await rows.get(key)).name == "Evans"  # type: ignore[union-attr]
            assert rows.peek(key) is None
            raise ZeroDivisionError
    assert (await rows.get(key)).name == "Eliot"  # type: ignore[union-attr]
    assert await rows.get(added_row.id) is None
    fine = await added(hold, Fine(reader="ada", cents=5), tenant="ada")
    async with hold.unit(tenant="ada") as unit:
        await unit[Fine].update(fine, cents=6)
        assert (await hold.cache[Fine].get(fine, tenant="ada")).cents == 6  # type: ignore[union-attr]
        assert await hold.cache[Fine].get(fine, tenant="bob") is None


async def test_tasks_of_a_unit_that_has_written_read_one_after_the_other(hold: Holdfast) -> None:
    async with hold.unit() as unit:
        author, shelf = Author(id=uuid4(), name="Evans"), Shelf(hall="a", number=1, books=3)
        unit.add(author, shelf, Word(word="kelp", meaning="weed"))  # three statements, sent by whoever reads first
        for_author, for_shelf = hold.cache[Author].get(author.id), hold.cache[Shelf].get(("a", 1))
        found = await asyncio.gather(hold.cache[Word].get("kelp"), for_author, for_shelf)
    assert [type(row) for row in found] == [Word, Author, Shelf]


async def test_what_is_ended_by_hand_is_read_again_on_every_node(hold: Holdfast, other: Holdfast) -> None:
    key = await added(hold, Author(name="Eliot"))
    await other.cache.renew()
    for node in (hold, other):
        assert await node.cache[Author].get(key) is not None
        await settled(node)
    await hold.cache[Author].invalidate(str(key))
    await other.cache.renew()
    for node in (hold, other):
        assert node.cache[Author].peek(key) is None


@pytest.mark.parametrize("word", ["kelp", "a:b", "über", "x" * 400, "zero\u200bwidth", "%3A", "~None", "  "])
async def test_any_text_may_be_a_key(hold: Holdfast, word: str) -> None:
    assert await hold.cache[Word].get(word) is None
    async with hold.unit() as unit:
        await unit[Word].add(Word(word=word, meaning="first"))
    assert (await hold.cache[Word].get(word)).meaning == "first"  # type: ignore[union-attr]
    async with hold.unit() as unit:
        await unit.execute("UPDATE words SET meaning = 'second'")
    assert (await hold.cache[Word].get(word)).meaning == "second"  # type: ignore[union-attr]


async def test_a_key_of_several_columns(hold: Holdfast, other: Holdfast) -> None:
    async with hold.unit() as unit:
        await unit[Shelf].add_many([{"hall": hall, "number": n, "books": n} for hall in ("a", "a,1") for n in (1, 11)])
    assert (await hold.cache[Shelf].get(("a", 11))).books == 11  # type: ignore[union-attr]
    assert (await hold.cache[Shelf].get({"hall": "a,1", "number": 1})).books == 1  # type: ignore[union-attr]
    async with other.unit() as unit:
        await unit.execute("UPDATE shelves SET books = 7 WHERE hall = 'a' AND number = 11")
    await hold.cache.renew()
    found = await hold.cache[Shelf].get_many([("a", 11), ("a,1", 1), ("b", 1)])
    assert {key: row.books for key, row in found.items()} == {("a", 11): 7, ("a,1", 1): 1}
    with pytest.raises(InvalidValue, match="is no key of Shelf"):
        await hold.cache[Shelf].get("a")


async def test_what_raw_sql_has_written_in_a_column_of_another_type_is_kept_as_it_is(sqlite_url: str) -> None:
    async with opened(sqlite_url) as hold:
        key = await added(hold, Author(name="Eliot"))
        async with hold.unit() as unit:
            await unit.execute("UPDATE authors SET version = 'many', rating = 'good', name = x'00'")
        for _ in range(2):
            found: Any = await hold.cache[Author].get(key)
            assert (found.version, found.rating, found.name) == ("many", "good", b"\0")


async def test_a_model_whose_changes_nobody_learns_of_is_refused(hold: Holdfast) -> None:
    with pytest.raises(ConfigurationError, match="capture=False"):
        hold.cache[Rumour]
    with pytest.raises(InvalidValue, match="not Loan"):
        hold.cache[Loan]
    for wrong in (int, "authors", None):
        with pytest.raises(InvalidValue, match="takes a model"):
            hold.cache[wrong]  # type: ignore[type-var,index]


def test_a_policy_has_one_tier_with_options_that_make_sense() -> None:
    def declared(*aspects: Any) -> Any:
        return type(
            "Tiered",
            (Model,),
            {
                "__module__": __name__,
                "__tablename__": "tiered",
                "__annotations__": {"reader": Mapped[str]},
                "metadata": MetaData(naming_convention=NAMING),
                "__policy__": Policy(*aspects),
            },
        )

    for tiers in ((Hot(), Cold()), (Warm(tags=()), Warm())):
        with pytest.raises(ModelError, match="leave one tier"):
            declared(*tiers)
    with pytest.raises(ModelError, match="names the column 'nobody'"):
        declared(Hot(tags=("by:{nobody}",)))
    with pytest.raises(ConfigurationError, match="no option 'tll'"):
        Hot(tll="5m")
    with pytest.raises(ModelError, match="must be True or False"):
        Cold(write_through="yes")  # type: ignore[arg-type]
    assert (Hot().options.ttl, Warm().options.ttl, Cold(ttl="2d").options.ttl) == (300.0, 1_800.0, 172_800.0)


async def test_the_tier_of_a_model_says_how_its_rows_are_kept(hold: Holdfast) -> None:
    assert hold.cache[Fine].options.ttl == 120.0
    assert hold.cache[Letter].options.ttl == 86_400.0
    assert hold.cache[Card].options.ttl == DEFAULT.ttl


def test_rows_of_another_form_are_of_another_version() -> None:
    def version(called: str, **columns: Any) -> str:
        made = type(
            called,
            (Model,),
            {
                "__module__": __name__,
                "__tablename__": "deployed",
                "__annotations__": columns,
                "metadata": MetaData(naming_convention=NAMING),
            },
        )
        return codec_of(RowForm(made).kind).version

    first = version("First", name=Mapped[str], price=Mapped[int])
    assert first == version("Same", name=Mapped[str], price=Mapped[int])
    others = [
        version("Renamed", label=Mapped[str], price=Mapped[int]),
        version("Swapped", price=Mapped[str], name=Mapped[int]),
        version("More", name=Mapped[str], price=Mapped[int], note=Mapped[str]),
        version("Retyped", name=Mapped[str], price=Mapped[float]),
        version("AsText", name=Mapped[str], price=Mapped[Decimal]),
    ]
    assert len({first, *others}) == 6
