"""What was not loaded is an error that says what to include, never a hidden statement; what is included costs one."""

import warnings
from typing import Any

import pytest

from holdfast.errors import Conflict, LazyLoad
from holdfast.store import Query, Store
from tests.store.conftest import statements
from tests.store.shop import Maker, Part, Review

PARTS = Query(Part).order_by("title")


@pytest.fixture
async def key(store: Store) -> Any:
    """Ten makers with ten parts each, every part with two reviews; the key of one part, and one without a maker."""
    async with store.unit() as unit:
        for number in range(10):
            maker = await unit[Maker].add(Maker(name=f"maker {number}"))
            for letter in "abcdefghij":
                part = Part(title=f"{number}{letter}", maker_id=maker.id)
                unit.add(part)
                await unit.flush()
                await unit[Review].add_many([{"stars": stars, "part_id": part.id} for stars in (1, 2)])
        await unit[Part].add(Part(title="orphan"))
    return part.id


@pytest.mark.parametrize(
    ("name", "read"), [("maker", lambda part: part.maker), ("reviews", lambda part: part.reviews)], ids=["one", "many"]
)
@pytest.mark.parametrize("attached", [True, False])
async def test_what_was_not_loaded_is_an_error_that_names_the_include(
    store: Store, key: Any, name: str, read: Any, attached: bool
) -> None:
    told = rf"Part\.{name} was not loaded; ask for it: \.include\('{name}'\) or get\(…, include=\('{name}',\)\)"
    with statements(store) as sent:
        async with store.read() as unit:
            part = await unit[Part].get(key)
            if attached:
                with pytest.raises(LazyLoad, match=told):
                    read(part)
        if not attached:
            with pytest.raises(LazyLoad, match=told):
                read(part)
    assert len(sent) == 1


async def test_a_nested_one_is_named_by_its_whole_path(store: Store, key: Any) -> None:
    async with store.read() as unit:
        part = await unit[Part].get(key, include=("maker",))
        assert part.maker is not None
        with pytest.raises(LazyLoad, match=r"Maker\.parts was not loaded; ask for it: \.include\('maker\.parts'\)"):
            _ = part.maker.parts
    with pytest.raises(LazyLoad, match=r"'maker\.parts'"):
        _ = part.maker.parts


async def test_what_the_unit_holds_already_is_no_lazy_load(store: Store, key: Any) -> None:
    async with store.read() as unit:
        part = await unit[Part].get(key)
        maker = await unit[Maker].get(part.maker_id)
        with statements(store) as sent:
            assert part.maker is maker
        assert sent == []
        orphan = await unit[Part].first(PARTS.where(title="orphan"))
        assert orphan is not None
        assert orphan.maker is None  # there is nothing to load


async def test_a_new_row_has_its_relationships(store: Store) -> None:
    maker = Maker(name="new")
    assert maker.parts == []
    maker.parts.append(Part(title="p"))
    async with store.unit() as unit:
        unit.add(maker)
    assert [part.title for part in maker.parts] == ["p"]


async def test_includes_load_both_ways_and_deeply(store: Store, key: Any) -> None:
    async with store.read() as unit:
        part = await unit[Part].get(key, include=("maker.parts.reviews", "reviews"))
    assert part.maker is not None
    assert [other.title for other in part.maker.parts] == [f"9{letter}" for letter in "abcdefghij"]
    assert all(len(other.reviews) == 2 for other in part.maker.parts)
    assert sorted(review.stars for review in part.reviews) == [1, 2]


async def test_including_reaches_a_row_that_the_unit_holds_without_it(store: Store, key: Any) -> None:
    async with store.unit() as unit:
        part = await unit[Part].get(key)
        assert await unit[Part].get(key, include=("reviews", "maker")) is part
        assert (len(part.reviews), part.maker.name if part.maker else None) == (2, "maker 9")
        many = await unit[Part].get_many([key], include=("maker",))
        assert many[key] is part
        assert await unit[Part].find(key, include=("maker",)) is part


async def test_a_hundred_rows_with_their_relatives_take_three_statements(store: Store, key: Any) -> None:
    async with store.read() as unit:
        with statements(store) as sent:
            parts = await unit[Part].list(PARTS.include("maker", "reviews"))
            assert sum(len(part.reviews) for part in parts) == 200
            assert len({part.maker.name for part in parts if part.maker}) == 10
    assert len(parts) == 101
    assert len(sent) == 3
    async with store.read() as unit:
        with statements(store) as sent:
            page = await unit[Part].page(PARTS.include("maker", "reviews"), limit=100, total=True)
            assert sum(len(part.reviews) for part in page.items) == 200
    assert len(sent) == 3  # the total comes along with the rows
    async with store.read() as unit:
        with statements(store) as sent:
            rows = await unit[Part].get_many([part.id for part in parts], include=("maker",))
            assert len(rows) == 101
    assert len(sent) == 2


async def test_a_row_that_an_undone_savepoint_wrote_is_read_again_or_an_error(store: Store, key: Any) -> None:
    async with store.unit() as unit:
        part = await unit[Part].get(key)
        with pytest.raises(Conflict):
            async with unit.savepoint():
                part.stock = 5
                await unit.flush()
                raise Conflict("as it may be")
        with pytest.raises(LazyLoad, match=r"may have changed in the database.*read it again: await unit\[Part\]"):
            _ = part.stock
        assert await unit[Part].get(key) is part
        assert part.stock == 0


async def test_inside_run_sync_the_session_loads_as_usual(store: Store, key: Any) -> None:
    async with store.read() as unit:
        part = await unit[Part].get(key)
        assert await unit.session.run_sync(lambda session: len(part.reviews)) == 2


async def test_deleting_a_row_whose_relatives_were_not_loaded_works(store: Store, key: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with store.unit() as unit:
            maker = await unit[Maker].first(Query(Maker).where(name="maker 3"))
            await unit.session.delete(maker)
    async with store.read() as unit:
        assert await unit[Part].count(Query(Part).where(maker_id=None)) == 11
