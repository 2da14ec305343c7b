"""Reading rows: by key, by query, many, in a stream; with clear errors for what is not there."""

import gc
import re
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import psutil
import pytest

from holdfast.errors import InvalidValue, NotFound
from holdfast.model import uuid7
from holdfast.store import Query, Store
from tests.store.conftest import statements
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part, Review


@pytest.fixture
async def parts(store: Store) -> list[Any]:
    """The keys of five parts: two of one maker, one of another, two of none."""
    async with store.unit() as unit:
        first, second = await unit[Maker].add(Maker(name="first")), await unit[Maker].add(Maker(name="second"))
        made = [
            Part(title="axle", price=10**30, stock=3, colour="red", maker_id=first.id),
            Part(title="bolt", price=7, stock=1, colour=None, maker_id=first.id),
            Part(title="cog", price=7, stock=2, colour="blue", maker_id=second.id),
            Part(title="dial", price=0, stock=2, colour="red", fragile=True),
            Part(title="eyelet", price=1, stock=0, weight=0.5),
        ]
        for part in made:
            await unit[Part].add(part)
        await unit[Review].add_many([{"stars": n, "part_id": made[0].id} for n in (1, 5)])
    return [part.id for part in made]


async def titles(store: Store, query: Query[Part]) -> list[str]:
    async with store.read() as unit:
        return [part.title for part in await unit[Part].list(query)]


PARTS = Query(Part)


async def test_a_row_is_got_by_its_key_or_the_keys_text(store: Store, parts: list[Any]) -> None:
    async with store.read() as unit:
        row = await unit[Part].get(parts[0])
        assert (row.title, row.price, row.colour) == ("axle", 10**30, "red")
    for text in (str(parts[1]), parts[1].hex, str(parts[1]).upper()):
        async with store.read() as unit:
            assert (await unit[Part].get(text)).title == "bolt"


async def test_a_key_that_no_row_has_is_an_error_or_none(store: Store, parts: list[Any]) -> None:
    key = uuid7()
    async with store.read() as unit:
        assert await unit[Part].find(key) is None
        with pytest.raises(NotFound, match=f"there is no Part with the key {key}"):
            await unit[Part].get(key)
    async with store.unit() as unit:
        with pytest.raises(NotFound, match=str(key)):
            await unit[Part].update(key, stock=1)


@pytest.mark.parametrize("key", ["axle", "", 5, None, b"\0" * 16, "0" * 33, "x" * 10_000, ("a", "b"), 1.5])
async def test_what_is_no_key_is_an_invalid_value(store: Store, key: Any) -> None:
    async with store.unit() as unit:
        for ask in (unit[Part].get, unit[Part].find):
            with pytest.raises(InvalidValue, match="is no key of Part; a key is a UUID") as refused:
                await ask(key)
            assert len(str(refused.value)) < 200
        with pytest.raises(InvalidValue, match="is no key"):
            await unit[Part].get_many([key])
        with pytest.raises(InvalidValue, match="is no key"):
            await unit[Part].update(key, stock=1)


async def test_a_row_that_the_unit_holds_costs_no_statement(store: Store, parts: list[Any]) -> None:
    async with store.read() as unit:
        first = await unit[Part].get(parts[0])
        with statements(store) as sent:
            assert await unit[Part].get(parts[0]) is first
            assert await unit[Part].find(parts[0]) is first
        assert sent == []


async def test_many_are_got_at_once_in_the_order_of_the_keys(store: Store, parts: list[Any]) -> None:
    async with store.read() as unit:
        found = await unit[Part].get_many([parts[3], uuid7(), parts[0], parts[3], str(parts[1])])
    assert [row.title for row in found.values()] == ["dial", "axle", "bolt"]
    assert list(found) == [parts[3], parts[0], parts[1]]


async def test_thousands_of_keys_are_asked_for_in_a_few_statements(store: Store) -> None:
    keys = [uuid7() for _ in range(1_700)]
    async with store.unit() as unit:
        await unit[Part].add_many([{"id": key, "title": str(number)} for number, key in enumerate(keys)])
    wanted = [key for pair in zip(reversed(keys), (uuid4() for _ in keys), strict=True) for key in pair]
    async with store.read() as unit:
        with statements(store) as sent:
            found = await unit[Part].get_many(wanted)
    assert list(found) == keys[::-1]
    assert [row.title for row in found.values()] == [str(number) for number in range(1_699, -1, -1)]
    assert len(sent) <= 7
    async with store.read() as unit:
        assert await unit[Part].get_many([]) == {}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (PARTS.where(price=7), ["bolt", "cog"]),
        (PARTS.where(price=7, stock=2), ["cog"]),
        (PARTS.where(Part.price > 5, Part.stock > 1), ["axle", "cog"]),
        (PARTS.where(colour=None), ["bolt", "eyelet"]),
        (PARTS.where(fragile=True), ["dial"]),
        (PARTS.where(Part.title.in_([])), []),
        (PARTS.where(Part.price > 5).where(colour="blue"), ["cog"]),
        (PARTS.order_by("-title").limit(2), ["eyelet", "dial"]),
        (PARTS.order_by("title").offset(3), ["dial", "eyelet"]),
        (PARTS.order_by("title").limit(2).offset(1), ["bolt", "cog"]),
        (PARTS.order_by("colour", "title"), ["cog", "axle", "dial", "bolt", "eyelet"]),
        (PARTS.order_by("-colour", "title"), ["axle", "dial", "cog", "bolt", "eyelet"]),
        (PARTS.order_by("-price", "title"), ["axle", "bolt", "cog", "eyelet", "dial"]),
        (PARTS.limit(0), []),
        (PARTS.order_by("title").limit(1).limit(None).offset(4), ["eyelet"]),
    ],
)
async def test_a_query_finds_what_it_describes(
    store: Store, parts: list[Any], query: Query[Part], found: list[str]
) -> None:
    listed = await titles(store, query)
    assert listed == found if query.orders else sorted(listed) == found
    async with store.read() as unit:
        first = await unit[Part].first(query)
        assert (first and first.title) == (listed[0] if listed else None)


async def test_a_query_is_counted_without_its_limit(store: Store, parts: list[Any]) -> None:
    async with store.read() as unit:
        assert await unit[Part].count() == 5
        assert await unit[Part].count(PARTS.where(price=7).limit(1).offset(1)) == 2
        assert await unit[Part].count(PARTS.where(Part.maker.has(name="first"))) == 2


def test_a_query_never_changes_only_new_ones_are_made() -> None:
    narrowed = PARTS.where(price=7).order_by("title").limit(3)
    assert (PARTS.conditions, PARTS.orders, PARTS.at_most) == ((), (), None)
    assert narrowed.order_by("stock").orders == (("stock", False),)
    assert narrowed.orders == (("title", False),)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PARTS.where(colr="red"), r"Part has no column 'colr'; it has colour, created_at"),
        (lambda: PARTS.where(maker="x"), r"no column 'maker'"),
        (lambda: PARTS.order_by("-"), r"no column ''"),
        (lambda: PARTS.order_by("--title"), r"no column '-title'"),
        (lambda: PARTS.order_by("colour_name"), r"no column 'colour_name'"),
        (lambda: PARTS.select("nothing"), r"no column 'nothing'"),
        (lambda: PARTS.include("maker.nothing"), r"Maker has no relationship 'nothing' to include; it has parts"),
        (lambda: PARTS.include("title"), r"no relationship 'title' to include; it has maker, reviews"),
        (lambda: PARTS.limit(-1), r"limit\(-1\)"),
        (lambda: PARTS.offset(-1), r"offset\(-1\)"),
    ],
)
def test_a_query_that_cannot_be_is_refused_as_it_is_made(make: Any, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        make()


async def test_selected_columns_are_loaded_with_what_order_and_include_need(store: Store, parts: list[Any]) -> None:
    query = PARTS.select("title").order_by("-stock", "colour").include("maker", "reviews")
    async with store.read() as unit:
        rows = await unit[Part].list(query)
    first = rows[0]
    assert first.title == "axle"
    assert first.maker is not None
    assert first.maker.name == "first"
    assert sorted(review.stars for review in first.reviews) == [1, 5]
    assert (first.id, first.stock, first.colour) == (parts[0], 3, "red")
    assert "price" not in first.__dict__


async def test_a_stream_gives_every_row_in_order(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Part].add_many([{"title": f"{number:05}"} for number in range(5_000)])
    async with store.read() as unit:
        with statements(store) as sent:
            found = [part.title async for part in unit[Part].stream(PARTS.order_by("-title"), batch=300)]
    assert found == [f"{number:05}" for number in range(4_999, -1, -1)]
    assert len(sent) == 1


async def test_a_stream_loads_what_is_included(store: Store, parts: list[Any]) -> None:
    async with store.read() as unit:
        found = [(p.title, len(p.reviews)) async for p in unit[Part].stream(PARTS.order_by("title").include("reviews"))]
    assert found == [("axle", 2), ("bolt", 0), ("cog", 0), ("dial", 0), ("eyelet", 0)]


async def test_a_stream_may_be_left_early_and_the_unit_goes_on(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Part].add_many([{"title": f"{number:05}"} for number in range(3_000)])
    async with store.unit() as unit:
        async with aclosing(unit[Part].stream(PARTS.order_by("title"), batch=10)) as rows:
            async for row in rows:
                if row.title == "00042":
                    break
        assert await unit[Part].count() == 3_000
        async for row in unit[Part].stream(batch=10):  # noqa: B007 (left without being closed)
            break
        assert await unit[Part].count() == 3_000
        await unit[Maker].add(Maker(name="written after"))
    gc.collect()
    async with store.read() as unit:
        assert await unit[Maker].count() == 1


@pytest.mark.parametrize(
    ("database_url", "rows"),
    [("sqlite", 100_000), ("postgres", 100_000), ("sqld", 30_000), ("pgbouncer", 30_000)],
    indirect=["database_url"],
)
async def test_a_long_stream_takes_flat_memory(database_url: str, rows: int) -> None:
    async with opened(database_url, Base.metadata) as store:
        async with store.unit() as unit:
            part = await unit[Part].add(Part(title="popular"))
            for start in range(0, rows, 10_000):
                await unit[Review].add_many(
                    [{"stars": number, "part_id": part.id} for number in range(start, start + 10_000)]
                )
        total, seen, held, sizes = 0, 0, [], []
        async with store.read() as unit:
            async for review in unit[Review].stream(batch=1_000):
                total += review.stars
                seen += 1
                if seen % (rows // 5) == 0:
                    sizes.append(psutil.Process().memory_info().rss)
                    held.append(sum(type(thing) is Review for thing in gc.get_objects()))
    assert total == rows * (rows - 1) // 2
    assert max(held) <= 2_000
    assert max(sizes) - sizes[0] < 20 * 2**20  # the four fifths after the first look would be over 60 MiB


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PARTS.limit("5"), r"limit\('5'\) must be a whole number, 0 or more"),
        (lambda: PARTS.limit(1.5), r"limit\(1\.5\) must be"),
        (lambda: PARTS.limit(10**30), r"limit\(10{30}\) must be .* within 64 bits"),
        (lambda: PARTS.offset(None), r"offset\(None\) must be a whole number"),
        (lambda: PARTS.offset(True), r"offset\(True\) must be"),
        (lambda: PARTS.where("title = 1"), r"where\(…\) takes conditions such as Part.id == key.*not 'title = 1'"),
        (lambda: PARTS.where({"title": 1}), r"where\(…\) takes conditions"),
        (lambda: PARTS.where(stock="abc"), r"Part\.stock holds numbers and equals no str"),
        (lambda: PARTS.order_by(Maker.name), r"order_by\(…\) takes columns of Part by name.*not .*Maker\.name"),
        (lambda: PARTS.order_by(5), r"order_by\(…\) takes columns of Part by name.*not 5"),
        (lambda: PARTS.order_by(Part.title.desc()), r"'-title' for descending"),
        (lambda: PARTS.order_by(Part.maker), "Part has no column 'maker'"),
    ],
)
def test_what_no_query_can_mean_is_refused_as_it_is_said(make: Any, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        make()


def test_an_order_may_be_given_by_an_attribute() -> None:
    assert PARTS.order_by(Part.colour, "-title").orders == (("colour", False), ("title", True))


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda parts, other: parts.count(other), "unit[Part] takes a Query(Part), not a query of Maker"),
        (lambda parts, other: parts.list(other), "not a query of Maker"),
        (lambda parts, other: parts.exists(other.where(name="nobody")), "not a query of Maker"),
        (lambda parts, other: parts.first(other), "not a query of Maker"),
        (lambda parts, other: parts.page(other), "not a query of Maker"),
        (lambda parts, other: anext(parts.stream(other)), "not a query of Maker"),
        (lambda parts, other: parts.list("title"), "not a str"),
        (lambda parts, other: anext(parts.stream(batch=-1)), "stream(batch=-1) must be a whole number, 1 or more"),
        (lambda parts, other: anext(parts.stream(batch="9")), "stream(batch='9') must be"),
        (lambda parts, other: parts.page(limit="5"), "a page has 1 to 1000 rows, not '5'"),
        (lambda parts, other: parts.page(limit=2.5), "a page has 1 to 1000 rows, not 2.5"),
        (lambda parts, other: parts.page(number=1.5), "pages are numbered from 1 to 1000000000, not 1.5"),
        (lambda parts, other: parts.page(number="5"), "not '5'"),
        (lambda parts, other: parts.page(after=5), "after=5 is no cursor"),
    ],
)
async def test_what_a_repository_cannot_answer_is_refused(store: Store, ask: Any, told: str) -> None:
    async with store.read() as unit:
        with pytest.raises(InvalidValue, match=re.escape(told)):
            await ask(unit[Part], Query(Maker))


@pytest.mark.parametrize("what", [int, "Part", Part(title="x"), Base, None])
async def test_a_unit_has_repositories_of_models_alone(store: Store, what: Any) -> None:
    async with store.read() as unit:
        with pytest.raises(InvalidValue, match=r"unit\[…\] takes a model"):
            unit[what]
