"""Models without `id`: rows are got, changed, deleted and paged by the key that they have."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.orm import Mapped, mapped_column  # noqa: F401  Mapped is named in annotations

from holdfast.errors import Conflict, InvalidValue, ModelError, NotFound
from holdfast.model import Expose, Policy, uuid7
from holdfast.store import Query, Store
from tests.store.office import Base, Currency, KeyedBase, Line, Membership
from tests.store.opening import opened


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@pytest.fixture
async def lines(store: Store) -> Store:
    async with store.unit() as unit:
        await unit[Line].add_many([{"order": n // 3, "number": n % 3, "text": f"{n}"} for n in range(9)])
    return store


@pytest.mark.parametrize("key", [(1, 2), [1, 2], {"order": 1, "number": 2}, {"number": 2, "order": 1}])
async def test_a_key_of_two_columns_is_a_tuple_or_a_dictionary(lines: Store, key: Any) -> None:
    async with lines.unit() as unit:
        assert (await unit[Line].get(key)).text == "5"
        found = await unit[Line].get_many([key, (7, 7), (0, 0)])
        assert {k: row.text for k, row in found.items()} == {(1, 2): "5", (0, 0): "0"}
        assert (await unit[Line].update(key, text="new")).text == "new"
        await unit[Line].delete(key)
        assert await unit[Line].find(key) is None
        with pytest.raises(NotFound, match=r"there is no Line with the key \(1, 2\)"):
            await unit[Line].update(key, text="newer")
        assert await unit[Line].count() == 8


@pytest.mark.parametrize(
    "key", [1, (1,), (1, 2, 3), ("1", "2"), (1, None), (True, 1), {"order": 1}, {"order": 1, "nr": 2}, None, "1,2"]
)
async def test_what_is_no_key_of_two_columns_is_an_invalid_value(lines: Store, key: Any) -> None:
    async with lines.unit() as unit:
        for ask in (unit[Line].get, unit[Line].delete, unit[Line].purge):
            with pytest.raises(InvalidValue, match=r"is no key of Line; a key is \(order: a whole number, number: a"):
                await ask(key)


async def test_a_key_of_one_column_is_its_value(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Currency].add(Currency(code="USD"))
        assert (await unit[Currency].get("USD")).decimals == 2
        assert repr(await unit[Currency].get({"code": "USD"})) == "<Currency USD>"
        assert list(await unit[Currency].get_many(["EUR", "USD"])) == ["USD"]
        with pytest.raises(InvalidValue, match="5 is no key of Currency; a key is a text"):
            await unit[Currency].get(5)


@pytest.mark.parametrize("order", [(), ("text",), ("-text",), ("-number",), ("order", "-number"), ("-order",)])
async def test_pages_are_made_total_by_the_whole_key(lines: Store, order: tuple[str, ...]) -> None:
    query, seen, cursor = Query(Line).order_by(*order), [], None
    async with lines.read() as unit:
        while not seen or cursor:
            page = await unit[Line].page(query, limit=2, after=cursor)
            seen += [(row.order, row.number) for row in page.items]
            cursor = page.next
    assert sorted(seen) == [(n // 3, n % 3) for n in range(9)]
    if order == ("-number",):
        assert seen == [(o, n) for n in (2, 1, 0) for o in (2, 1, 0)]


async def test_upserts_go_by_the_whole_key_and_versions_hold(store: Store) -> None:
    ada, bob = uuid7(), uuid7()
    async with store.unit(tenant="t1") as unit:
        assert await unit[Membership].upsert_many([{"member": ada}, {"member": bob}]) == 2
        assert await unit[Membership].upsert_many([{"member": ada, "role": "owner"}]) == 1
        row = await unit[Membership].get(("t1", ada))
        assert (row.role, row.version) == ("owner", 2)
        with pytest.raises(Conflict, match="is at version 2, not 1 any more"):
            await unit[Membership].delete(("t1", ada), expect=1)
        await unit[Membership].delete({"org": "t1", "member": str(ada)}, expect=2)
        assert [m.member for m in await unit[Membership].list()] == [bob]


def test_a_tenanted_key_has_the_tenant_in_it() -> None:
    with pytest.raises(ModelError, match=r"its key \(slug\) spans tenants; make 'org' a part of it"):
        type(
            "Bad",
            (KeyedBase,),
            {
                "__tablename__": "bad",
                "__annotations__": {"slug": "Mapped[str]", "org": "Mapped[str]"},
                "__module__": __name__,
                "__policy__": Policy(tenant="org"),
                "slug": mapped_column(primary_key=True),
            },
        )


def test_a_row_without_an_id_is_not_exposed() -> None:
    with pytest.raises(ModelError, match="has no id, by which Expose shows a row"):
        type(
            "Shown",
            (KeyedBase,),
            {
                "__tablename__": "shown",
                "__annotations__": {"slug": "Mapped[str]"},
                "__module__": __name__,
                "__policy__": Policy(Expose()),
                "slug": mapped_column(primary_key=True),
            },
        )
