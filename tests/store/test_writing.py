"""Writing rows: one, many, over those that are there, and never over what somebody else has changed."""

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import Conflict, InvalidValue, NotFound
from holdfast.model import uuid7
from holdfast.store import Query, Store
from tests.store.conftest import statements
from tests.store.shop import Maker, Part, Review

U256 = 2**256 - 1
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def all_of(store: Store, model: type[Any], order: str) -> list[Any]:
    async with store.read() as unit:
        return await unit[model].list(Query(model).order_by(order))


async def test_rows_of_every_kind_come_back_as_they_were(store: Store) -> None:
    row = {
        "id": uuid7(),
        "title": "ünï — 🐚",
        "price": U256,
        "rebate": None,
        "stock": -5,
        "weight": 0.1,
        "width": Decimal("1.125"),
        "seen_at": dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC),
        "made_on": dt.date(2025, 12, 31),
        "fragile": True,
        "colour": "red",
    }
    other = {**row, "id": uuid7(), "title": "instance"}
    upserted = {**row, "id": uuid7(), "title": "upserted"}
    async with store.unit() as unit:
        assert await unit[Part].add_many([row]) == 1
        assert await unit[Part].add_many([Part(**other)]) == 1
        assert await unit[Part].upsert_many([upserted]) == 1
    for written in (row, other, upserted):
        async with store.read() as unit:
            found = await unit[Part].get(written["id"])
        assert {name: getattr(found, name) for name in written} == written
        assert found.version == 1
        assert abs((dt.datetime.now(dt.UTC) - found.created_at).total_seconds()) < 60


async def test_rows_need_not_give_the_same_columns(store: Store) -> None:
    rows: list[Any] = [
        {"title": "0"},
        {"title": "1", "price": 5},
        {"price": 6, "title": "2", "colour": "red"},
        Part(title="3", stock=4),
        {"title": "4", "version": 7},
        {"title": "5"},
    ]
    async with store.unit() as unit:
        assert await unit[Part].add_many(rows) == 6
    found = await all_of(store, Part, "title")
    assert [(p.title, p.price, p.colour, p.stock, p.version) for p in found] == [
        ("0", 0, None, 0, 1),
        ("1", 5, None, 0, 1),
        ("2", 6, "red", 0, 1),
        ("3", 0, None, 4, 1),
        ("4", 0, None, 0, 7),
        ("5", 0, None, 0, 1),
    ]
    assert len({part.id for part in found}) == 6


async def test_ids_made_for_many_rows_keep_their_order(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add_many([{"name": f"{number:04}"} for number in range(500)])
    assert [maker.name for maker in await all_of(store, Maker, "id")] == [f"{number:04}" for number in range(500)]


async def test_no_rows_are_no_work(store: Store) -> None:
    async with store.unit() as unit:
        with statements(store) as sent:
            assert await unit[Maker].add_many([]) == 0
            assert await unit[Maker].upsert_many([]) == 0
        assert sent == []


async def test_many_rows_take_few_statements(store: Store) -> None:
    rows = [{"title": f"{number:05}"} for number in range(25_000)]
    async with store.unit() as unit:
        with statements(store) as sent:
            assert await unit[Part].add_many(rows) == 25_000
            assert await unit[Part].upsert_many([{"id": uuid7(), "title": "x"} for _ in range(25_000)]) == 25_000
        assert await unit[Part].count() == 50_000
    assert len(sent) <= 6


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"name": "a", "nmae": "b"}], "makers has no column 'nmae'; it has id, name, created_at, updated_at"),
        ([{"name": "a"}, {"name": "b", "parts": []}], "no column 'parts'"),
        ([Part(title="a")], "a row for Maker is one of its instances or a dict"),
        (["a"], "a row for Maker is one of its instances or a dict"),
        ([{"name": None}], "breaks a rule of its table"),
    ],
)
async def test_a_row_that_does_not_fit_is_an_invalid_value(store: Store, rows: Any, told: str) -> None:
    for verb in ("add_many", "upsert_many"):
        if verb == "upsert_many" and len(rows) > 1:
            told = "must all give the same columns"
        with pytest.raises(InvalidValue, match=told):
            async with store.unit() as unit:
                await getattr(unit[Maker], verb)(rows)


async def test_a_row_that_lacks_a_needed_column_is_an_invalid_value(store: Store) -> None:
    with pytest.raises(InvalidValue, match="breaks a rule of its table"):
        async with store.unit() as unit:
            await unit[Maker].add(Maker())
    with pytest.raises(InvalidValue, match="breaks a rule of its table"):
        async with store.unit() as unit:
            await unit[Maker].add_many([{"id": uuid7()}])


async def test_a_taken_key_is_a_conflict_that_names_the_constraint(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="taken"))
    for write in (lambda r: r.add(Maker(name="taken")), lambda r: r.add_many([{"name": "free"}, {"name": "taken"}])):
        with pytest.raises(Conflict, match=r"uq_makers_name|makers\.name"):
            async with store.unit() as unit:
                await write(unit[Maker])
    assert len(await all_of(store, Maker, "name")) == 1


async def test_a_row_that_points_nowhere_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict, match=r"(?i)foreign key"):
        async with store.unit() as unit:
            await unit[Review].add_many([{"stars": 1, "part_id": uuid7()}])


async def test_upserting_writes_what_is_new_or_differs_and_nothing_else(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add_many([{"name": "same"}])
        await unit[Part].add_many([{"id": (one := uuid7()), "title": "one", "stock": 1, "colour": None}])
        await unit[Part].add_many([{"id": (two := uuid7()), "title": "two", "stock": 2, "colour": "red"}])
    before = {part.id: part for part in await all_of(store, Part, "title")}
    rows = [
        {"id": one, "title": "one", "stock": 1, "colour": None},  # as it is
        {"id": two, "title": "two", "stock": 2, "colour": None},  # to NULL
        {"id": (three := uuid7()), "title": "three", "stock": 3, "colour": "blue"},
    ]
    async with store.unit() as unit:
        assert await unit[Part].upsert_many(rows) == 2
        assert await unit[Part].upsert_many(rows) == 0
    after = {part.id: part for part in await all_of(store, Part, "title")}
    assert (after[one].version, after[one].updated_at) == (1, before[one].updated_at)
    assert (after[two].version, after[two].colour) == (2, None)
    assert after[two].updated_at > before[two].updated_at
    assert after[two].created_at == before[two].created_at
    assert after[three].version == 1


async def test_upserting_by_a_unique_column_keeps_the_rows_key(store: Store) -> None:
    async with store.unit() as unit:
        kept = await unit[Maker].add(Maker(name="known"))
        assert await unit[Maker].upsert_many([{"id": uuid7(), "name": "known"}], on=("name",)) == 0
        assert await unit[Maker].upsert_many([{"name": "new"}, {"name": "known"}], on=("name",)) == 1
    found = {maker.name: maker.id for maker in await all_of(store, Maker, "name")}
    assert found["known"] == kept.id


async def test_upserting_overwrites_only_the_columns_that_are_named(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Part].add_many([{"id": (key := uuid7()), "title": "old", "stock": 1}])
        row = {"id": key, "title": "new", "stock": 2}
        assert await unit[Part].upsert_many([row], update_columns=("stock",)) == 1
        assert await unit[Part].upsert_many([row], update_columns=()) == 0
        part = await unit[Part].get(key)
        assert (part.title, part.stock, part.version) == ("old", 2, 2)
        with pytest.raises(InvalidValue, match="parts has no column 'nothing'"):
            await unit[Part].upsert_many([row], update_columns=("nothing",))
        with pytest.raises(InvalidValue, match="parts has no column 'nothing'"):
            await unit[Part].upsert_many([row], on=("nothing",))


async def test_of_two_rows_with_one_key_the_last_is_kept_unless_existing_ones_are_left_alone(store: Store) -> None:
    key, other = uuid7(), uuid7()
    twice = [{"id": key, "title": "first"}, {"id": key, "title": "last"}]
    async with store.unit() as unit:
        await unit[Part].upsert_many(twice)
        await unit[Part].upsert_many([{**row, "id": other} for row in twice], update_columns=())
        assert (await unit[Part].get(key)).title == "last"
        assert (await unit[Part].get(other)).title == "first"


@few
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3), st.none() | st.integers(0, U256)), max_size=12),
        max_size=5,
    )
)
async def test_upserts_leave_what_a_dictionary_would(store: Store, batches: list[list[tuple[int, int, Any]]]) -> None:
    keys = [uuid7() for _ in range(9)]
    model: dict[Any, tuple[int, Any]] = {}
    async with store.unit() as unit:
        await unit.execute("DELETE FROM parts")
        for batch in batches:
            rows = [{"id": keys[n], "title": str(n), "stock": stock, "rebate": rebate} for n, stock, rebate in batch]
            meant = {keys[n]: (stock, rebate) for n, stock, rebate in batch}
            differing = sum(model.get(key) != value for key, value in meant.items())
            assert await unit[Part].upsert_many(rows) == differing
            model |= meant
        found = {part.id: (part.stock, part.rebate) for part in await unit[Part].list()}
    assert found == model


async def test_an_update_returns_the_row_as_it_is_now(store: Store) -> None:
    async with store.unit() as unit:
        made = await unit[Part].add(Part(title="old", stock=1))
        held = await unit[Part].get(made.id)
        row = await unit[Part].update(made.id, title="new", price=U256, colour="red")
        assert row is held
        assert (row.title, row.price, row.colour, row.stock, row.version) == ("new", U256, "red", 1, 2)
        assert row.updated_at > row.created_at
    async with store.read() as unit:
        assert (await unit[Part].get(made.id)).title == "new"


async def test_an_update_of_a_version_that_has_passed_is_a_conflict_with_both(store: Store) -> None:
    async with store.unit() as unit:
        key = (await unit[Part].add(Part(title="p"))).id
        await unit[Part].update(key, expect=1, stock=1)
        await unit[Part].update(key, stock=2)
        with pytest.raises(Conflict, match=rf"Part {key} is at version 3, not 1 any more; read it again"):
            await unit[Part].update(key, expect=1, stock=9)
        assert (await unit[Part].update(key, expect=3, stock=3)).version == 4


async def test_of_updates_that_expect_one_version_exactly_one_wins(store: Store) -> None:
    async with store.unit() as unit:
        key = (await unit[Part].add(Part(title="p"))).id

    async def change(number: int) -> int:
        async with store.unit() as unit:
            return (await unit[Part].update(key, expect=1, stock=number)).stock

    outcome = await asyncio.gather(*(change(number) for number in range(1, 11)), return_exceptions=True)
    (winner,) = [stock for stock in outcome if isinstance(stock, int)]
    assert all(isinstance(error, Conflict) for error in outcome if not isinstance(error, int))
    async with store.read() as unit:
        part = await unit[Part].get(key)
    assert (part.stock, part.version) == (winner, 2)


async def test_of_rows_changed_in_python_exactly_one_wins(store: Store) -> None:
    async with store.unit() as unit:
        key = (await unit[Part].add(Part(title="p"))).id
    async with store.read() as one, store.read() as two:
        first, second = await one[Part].get(key), await two[Part].get(key)
    async with store.unit() as unit:
        unit.session.add(first)
        first.stock = 1
    assert first.version == 2
    with pytest.raises(Conflict, match="was changed or deleted since this unit read it"):
        async with store.unit() as unit:
            unit.session.add(second)
            second.stock = 2
    async with store.read() as unit:
        part = await unit[Part].get(key)
    assert (part.stock, part.version) == (1, 2)


async def test_a_change_in_python_raises_the_version_and_the_time(store: Store) -> None:
    async with store.unit() as unit:
        key = (await unit[Part].add(Part(title="p"))).id
    async with store.unit() as unit:
        part = await unit[Part].get(key)
        part.stock = 5
    assert part.version == 2
    assert part.updated_at > part.created_at


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "nothing to change"),
        ({"stok": 1}, "no column 'stok'"),
        ({"version": 5}, "raised by the library"),
        ({"maker": None}, "no column 'maker'"),
    ],
)
async def test_an_update_that_cannot_be_is_refused(store: Store, values: dict[str, Any], told: str) -> None:
    async with store.unit() as unit:
        key = (await unit[Part].add(Part(title="p"))).id
        with pytest.raises(InvalidValue, match=told):
            await unit[Part].update(key, **values)


async def test_a_model_without_versions_has_none_to_expect(store: Store) -> None:
    async with store.unit() as unit:
        key = (await unit[Maker].add(Maker(name="m"))).id
        assert (await unit[Maker].update(key, name="n")).name == "n"
        with pytest.raises(InvalidValue, match="Maker has no version to expect; declare it with Versioned"):
            await unit[Maker].update(key, expect=1, name="o")
        with pytest.raises(NotFound):
            await unit[Maker].update(uuid7(), name="o")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (Maker(name="x"), r"unit\[Part\]\.add\(…\) takes a Part\(…\), not a Maker"),
        ({"title": "x"}, r"takes a Part\(…\), not a dict; many rows as dicts go into add_many"),
        (None, "not a NoneType"),
    ],
)
async def test_only_a_models_own_rows_are_added_by_its_repository(store: Store, row: Any, told: str) -> None:
    async with store.unit() as unit:
        with pytest.raises(InvalidValue, match=told):
            await unit[Part].add(row)
        if not isinstance(row, Maker):
            with pytest.raises(InvalidValue, match=r"unit\.add\(…\) takes instances of models, not a"):
                unit.add(row)
        assert await unit[Maker].count() == await unit[Part].count() == 0


@pytest.mark.parametrize("name", ["id", "colour_name"])
async def test_an_upsert_overwrites_nothing_with_what_no_row_gives(store: Store, name: str) -> None:
    async with store.unit() as unit:
        maker = await unit[Maker].add(Maker(name="first"))
        part = await unit[Part].add(Part(title="axle", colour="red"))
        given: tuple[Any, list[Any], str] = (
            (Maker, [{"name": "first"}], "name") if name == "id" else (Part, [{"id": part.id, "title": "bolt"}], "id")
        )
        model, rows, on = given
        with pytest.raises(InvalidValue, match=f"update_columns names {name}, which no row gives; give it, or leave"):
            await unit[model].upsert_many(rows, on=(on,), update_columns=(name,))
        assert await unit[Maker].find(maker.id) is not None
        assert await unit[Part].count(Query(Part).where(colour="red")) == 1


async def test_a_version_to_expect_is_a_number(store: Store) -> None:
    async with store.unit() as unit:
        part = await unit[Part].add(Part(title="axle"))
        with pytest.raises(InvalidValue, match="expect='1' must be a whole number"):
            await unit[Part].update(part.id, expect="1", title="bolt")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["x", "7", 1.5, b"7", [7]])
async def test_what_is_no_whole_number_is_refused_on_every_backend(store: Store, wrong: Any) -> None:
    async with store.unit() as unit:
        part = (await unit[Part].add(Part(title="axle", stock=True))).id
    writes: list[Any] = [
        lambda unit: unit[Part].add(Part(title="bolt", stock=wrong)),
        lambda unit: unit[Part].add_many([{"title": "bolt", "stock": 1}, {"title": "cog", "stock": wrong}]),
        lambda unit: unit[Part].upsert_many([{"id": part, "title": "bolt", "stock": wrong}]),
        lambda unit: unit[Part].update(part, stock=wrong),
    ]
    for number, write in enumerate(writes):
        with pytest.raises(InvalidValue) as refused:
            async with store.unit() as unit:
                await write(unit)
                raise AssertionError(f"the write {number} was taken")
        assert repr(wrong) not in str(refused.value)
    async with store.read() as unit:
        assert [(row.title, row.stock) for row in await unit[Part].list()] == [("axle", 1)]
    if store.dialect == "sqlite":
        with pytest.raises(InvalidValue, match=r"parts\.stock cannot hold a value of the type that was given, float"):
            async with store.unit() as unit:
                await unit[Part].add_many([{"title": "cog", "stock": 2.5}])
