"""Pages by cursor: together they are the ordered list, whatever the order; and a cursor is never more than one."""

import base64
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.secrets import SecretKeys
from holdfast.store import Page, Query, Store
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part

U256 = 2**256 - 1
PARTS = Query(Part)
COLUMNS = ("title", "price", "rebate", "stock", "weight", "width", "seen_at", "made_on", "fragile", "colour", "id")

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
moments = st.datetimes(timezones=st.just(dt.UTC)).map(lambda at: at.replace(year=2028)) | st.just(
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
)
rows_of_parts = st.lists(
    st.fixed_dictionaries(
        {
            "title": st.sampled_from(["", "a", "A", "b", "ü", "a b", "'"]),
            "price": st.sampled_from([0, 1, 9, 10, 2**64, U256]),
            "rebate": st.none() | st.sampled_from([0, 2**200]),
            "stock": st.integers(-2, 2),
            "weight": st.none() | st.sampled_from([0.1, -1.5, 1e300]),
            "width": st.none() | st.sampled_from([Decimal("1.125"), Decimal(-3), Decimal("0.001")]),
            "seen_at": st.none() | moments,
            "made_on": st.none() | st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 3)),
            "fragile": st.booleans(),
            "colour": st.none() | st.sampled_from(["red", "blue"]),
        }
    ),
    max_size=30,
)
orders = st.lists(st.tuples(st.sampled_from(COLUMNS), st.booleans()), max_size=4, unique_by=lambda order: order[0]).map(
    lambda chosen: tuple(f"-{name}" if descending else name for name, descending in chosen)
)


async def walk(store: Store, query: Query[Any], size: int, **options: Any) -> list[Page[Any]]:
    """All pages of the query, each in a unit of its own."""
    pages: list[Page[Any]] = []
    cursor: str | None = None
    while not pages or cursor is not None:
        async with store.read() as unit:
            pages.append(await unit[query.model].page(query, limit=size, after=cursor, **options))
        cursor = pages[-1].next
        assert len(pages) < 100
    return pages


@few
@given(rows=rows_of_parts, order=orders, size=st.integers(1, 7))
async def test_the_pages_together_are_the_ordered_list(
    store: Store, rows: list[dict[str, Any]], order: tuple[str, ...], size: int
) -> None:
    async with store.unit() as unit:
        await unit.execute("DELETE FROM parts")
        await unit[Part].add_many(rows)
    query = PARTS.order_by(*order)
    last_descending = bool(order) and order[-1].startswith("-")
    ties = () if {"id", "-id"} & set(order) else (("-id" if last_descending else "id"),)
    async with store.read() as unit:
        listed = [part.id for part in await unit[Part].list(PARTS.order_by(*order, *ties))]
    pages = await walk(store, query, size, total=True)
    assert [part.id for page in pages for part in page.items] == listed
    assert all(len(page.items) == size for page in pages[:-1])
    assert {page.total for page in pages} == {len(rows)}
    assert all(page.next is None or (page.next.isascii() and page.next.isprintable()) for page in pages)


async def test_nulls_come_last_in_both_directions(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Part].add_many([{"title": str(n), "rebate": rebate} for n, rebate in enumerate([5, None, 3, None])])
    for order, found in (("rebate", ["2", "0"]), ("-rebate", ["0", "2"])):
        titles = [part.title for page in await walk(store, PARTS.order_by(order), 1) for part in page.items]
        assert titles[:2] == found
        assert sorted(titles[2:]) == ["1", "3"]


@pytest.fixture
async def ten(store: Store) -> Store:
    async with store.unit() as unit:
        await unit[Part].add_many([{"title": f"{n}", "stock": n % 3, "colour": f"c{n}"} for n in range(10)])
        await unit[Maker].add_many([{"name": f"{n}"} for n in range(10)])
    return store


async def test_the_total_is_right_on_every_page_and_past_the_last(ten: Store) -> None:
    query = PARTS.where(Part.stock < 2).order_by("title")
    pages = await walk(ten, query, 3, total=True)
    assert [page.total for page in pages] == [7, 7, 7]
    async with ten.unit() as unit:
        last = pages[1].next
        await unit.execute("DELETE FROM parts WHERE title > '5'")
        beyond = await unit[Part].page(query, limit=3, after=last, total=True)
        assert (beyond.items, beyond.next, beyond.total) == ([], None, 4)
        none = await unit[Part].page(PARTS.where(title="none"), total=True)
        assert (none.items, none.next, none.total) == ([], None, 0)
        assert (await unit[Part].page(query)).total is None


async def test_rows_written_meanwhile_do_not_move_the_pages(ten: Store) -> None:
    query = PARTS.order_by("title")
    async with ten.unit() as unit:
        first = await unit[Part].page(query, limit=5)
        await unit[Part].add_many([{"title": "00"}, {"title": "55"}])
        await unit.execute("DELETE FROM parts WHERE title = '4'")  # the very row of the cursor
        rest = await unit[Part].page(query, limit=10, after=first.next)
    assert [part.title for part in first.items] == ["0", "1", "2", "3", "4"]
    assert [part.title for part in rest.items] == ["5", "55", "6", "7", "8", "9"]


async def test_a_page_carries_what_the_query_includes_and_selects(ten: Store) -> None:
    query = PARTS.select("title").include("maker").order_by("-stock", "colour")
    pages = await walk(ten, query, 4)
    assert [part.title for page in pages for part in page.items] == ["2", "5", "8", "1", "4", "7", "0", "3", "6", "9"]
    assert pages[0].items[0].maker is None


@pytest.mark.parametrize("size", [0, -1, 1_001])
async def test_a_page_has_a_bounded_size(store: Store, size: int) -> None:
    async with store.read() as unit:
        with pytest.raises(InvalidValue, match=f"a page has 1 to 1000 rows, not {size}"):
            await unit[Part].page(limit=size)


@pytest.mark.parametrize("query", [PARTS.limit(3), PARTS.offset(3)])
async def test_a_query_with_a_place_of_its_own_has_no_pages(store: Store, query: Query[Part]) -> None:
    async with store.read() as unit:
        with pytest.raises(InvalidValue, match="leave limit and offset out"):
            await unit[Part].page(query)


async def test_long_texts_can_be_walked_and_endless_ones_are_refused_clearly(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Part].add_many([{"title": f"{n}" * 4_000} for n in range(3)])
        await unit[Part].add_many([{"title": "x", "colour": "c" * 20_000}, {"title": "y", "colour": "d" * 20_000}])
    assert len(await walk(store, PARTS.order_by("title"), 1)) == 5
    async with store.read() as unit:
        with pytest.raises(InvalidValue, match="pages cannot be ordered by colour, id: the values are too long"):
            await unit[Part].page(PARTS.order_by("colour"), limit=1)


SECRET = "a secret that only the tests know and long enough"


def forged(signature: Any, values: Any, *, key: str = SECRET) -> str:
    """A cursor as the store makes it, signed with `key`: `signature` is the table and its order."""
    table, _, order = str(signature).partition(":")
    orders = [(name.removeprefix("-"), name.startswith("-")) for name in order.split(",")]
    context = msgspec.msgpack.encode([table, orders, None])
    content = msgspec.msgpack.encode(values)
    signed = SecretKeys([key.encode()]).sign("page cursor", context + content)
    return base64.urlsafe_b64encode(signed + content).rstrip(b"=").decode()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata, secret_key=SECRET) as store:
        yield store


BY_STOCK = PARTS.order_by("stock")
KEY = "0" * 32


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "=",
        "nonsense",
        "ünïcode",
        "a\0b",
        "A" * 20_000,
        base64.urlsafe_b64encode(b"\x91" * 9_000).decode(),  # arrays in arrays
        base64.urlsafe_b64encode(b"\x92\xa1a\xdd\xff\xff\xff\xff").decode(),  # says that it is very long
        forged("parts:stock,id", None),
        forged("parts:stock,id", []),
        forged("parts:stock,id", ["1"]),
        forged("parts:stock,id", ["1", KEY, "1"]),
        forged("parts:stock,id", ["x", KEY]),
        forged("parts:stock,id", [[1], KEY]),
        forged("parts:stock,id", [True, KEY]),
        forged("parts:stock,id", [1.5, KEY]),
        forged("parts:stock,id", [None, KEY]),
        forged("parts:stock,id", [str(2**63), KEY]),
        forged("parts:stock,id", ["9" * 4_400, KEY]),
        forged("parts:stock,id", ["1", "not a key"]),
        forged("parts:stock,id", ["1", None]),
        forged("parts:stock,id", ["1", {"a": 1}]),
        forged("parts:-stock,-id", ["1", KEY]),
        forged("parts:stock", ["1", KEY]),
        forged("makers:stock,id", ["1", KEY]),
        forged("parts:stock,id", ["1", KEY], key="another secret as long as the first one is"),
    ],
)
async def test_what_is_no_cursor_of_the_query_is_an_invalid_value(ten: Store, cursor: str) -> None:
    async with ten.read() as unit:
        with pytest.raises(InvalidValue, match="is not a page cursor of this query; start again without it") as refused:
            await unit[Part].page(BY_STOCK, after=cursor)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", "-1"),
        ("price", str(2**256)),
        ("price", 1.5),
        ("title", 5),
        ("title", b"a"),
        ("fragile", "maybe"),
        ("weight", "heavy"),
        ("width", "wide"),
        ("seen_at", "yesterday"),
        ("seen_at", 10**30 * 1.0),
        ("made_on", "2026-02-31"),
    ],
)
async def test_a_forged_value_that_its_column_cannot_hold_is_an_invalid_value(
    ten: Store, column: str, value: Any
) -> None:
    async with ten.read() as unit:
        with pytest.raises(InvalidValue):
            await unit[Part].page(PARTS.order_by(column), after=forged(f"parts:{column},id", [value, KEY]))


@pytest.mark.parametrize(
    ("column", "value"), [("title", "a\0b"), ("seen_at", "2026-01-01T00:00:00"), ("stock", "1" * 18)]
)
async def test_a_forged_value_is_looked_for_or_refused_and_never_a_crash(ten: Store, column: str, value: Any) -> None:
    async with ten.read() as unit:
        try:
            page = await unit[Part].page(PARTS.order_by(column), after=forged(f"parts:{column},id", [value, KEY]))
        except InvalidValue:
            return
    assert page.next is None


async def test_pages_may_be_asked_for_by_number(ten: Store) -> None:
    query = PARTS.order_by("title")
    async with ten.read() as unit:
        for number, titles in ((1, "012"), (2, "345"), (4, "9"), (5, ""), (10**9, "")):
            page = await unit[Part].page(query, limit=3, number=number, total=True)
            assert ("".join(part.title for part in page.items), page.total) == (titles, 10)
            assert (page.next is None) == (number >= 4)
        second = await unit[Part].page(query, limit=3, number=2)
        third = await unit[Part].page(query, limit=3, after=second.next)
        assert [part.title for part in third.items] == ["6", "7", "8"]
        for number in (0, -1, 10**9 + 1):
            with pytest.raises(InvalidValue, match=f"pages are numbered from 1 to 1000000000, not {number}"):
                await unit[Part].page(query, number=number)
        with pytest.raises(InvalidValue, match="by after=… or by number=…, not by both"):
            await unit[Part].page(query, after=second.next, number=1)


async def test_a_new_secret_still_knows_the_cursors_of_the_one_before(database_url: str, ten: Store) -> None:
    async with ten.read() as unit:
        cursor = (await unit[Part].page(limit=3)).next
    new = "the next secret which is as long as it has to be"
    async with opened(database_url, secret_key=f"{new},{SECRET}") as both, both.read() as unit:
        page = await unit[Part].page(limit=3, after=cursor)
        assert len(page.items) == 3
    async with opened(database_url, secret_key=new) as after, after.read() as unit:
        await unit[Part].page(limit=3, after=page.next)
        with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
            await unit[Part].page(limit=3, after=cursor)


async def test_production_needs_a_secret_where_a_cursor_leaves_and_nowhere_else(database_url: str, ten: Store) -> None:
    async with opened(database_url, environment="production") as store, store.read() as unit:
        assert len((await unit[Part].page(limit=10)).items) == 10
        with pytest.raises(ConfigurationError, match=r"set HOLDFAST_SECRET_KEY; make one with: python -c"):
            await unit[Part].page(limit=3)


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="fewer than 32 characters") as refused:
        Store(settings_for("sqlite://", secret_key="hunter2"))
    assert "hunter2" not in str(refused.value)


@few
@given(data=st.data())
async def test_a_cursor_with_a_changed_letter_is_an_invalid_value(ten: Store, data: st.DataObject) -> None:
    query = PARTS.order_by("-colour", "stock", "price")
    async with ten.read() as unit:
        cursor = (await unit[Part].page(query, limit=3)).next
        assert cursor is not None
        at = data.draw(st.integers(0, len(cursor) - 1))
        changed = cursor[:at] + data.draw(st.text(max_size=2)) + cursor[at + data.draw(st.integers(0, 3)) :]
        if changed != cursor:
            with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
                await unit[Part].page(query, after=changed)


async def test_a_cursor_whose_last_letter_differs_where_it_says_nothing_is_an_invalid_value(ten: Store) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    unused = 0
    async with ten.read() as unit:
        for query in (PARTS.order_by("stock"), PARTS.order_by("price"), PARTS.order_by("-colour", "stock", "price")):
            cursor = (await unit[Part].page(query, limit=3)).next
            assert cursor is not None
            unused += bool(len(cursor) % 4)
            for letter in letters.replace(cursor[-1], ""):
                with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
                    await unit[Part].page(query, after=cursor[:-1] + letter)
    assert unused  # of some cursor's last letter some bits say nothing


async def test_a_cursor_is_of_one_model_and_one_order(ten: Store) -> None:
    async with ten.read() as unit:
        cursor = (await unit[Part].page(PARTS.order_by("title"), limit=3)).next
        for other in (PARTS, PARTS.order_by("-title"), PARTS.order_by("title", "stock"), PARTS.order_by("colour")):
            with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
                await unit[Part].page(other, after=cursor)
        by_id = (await unit[Part].page(limit=3)).next
        with pytest.raises(InvalidValue, match="is not a page cursor of this query"):
            await unit[Maker].page(after=by_id)
        narrowed = await unit[Part].page(PARTS.order_by("title").where(Part.stock == 0), after=cursor)
        assert [part.title for part in narrowed.items] == ["3", "6", "9"]


@pytest.mark.parametrize(
    ("order", "plan"),
    [
        (
            ("stock",),
            {"sqlite": "SEARCH parts USING INDEX ix_parts_stock", "postgresql": "Index Scan using ix_parts_stock"},
        ),
        (("-stock",), {"sqlite": "SEARCH parts USING INDEX ix_parts_stock", "postgresql": "Index Scan Backward using"}),
    ],
)
async def test_a_page_begins_where_the_one_before_ended_by_one_range_of_an_index(
    database_url: str, order: tuple[str, ...], plan: dict[str, str]
) -> None:
    """The plan is what makes page 10,000 as cheap as the second."""
    async with opened(database_url, Base.metadata) as store:
        async with store.unit() as unit:
            await unit.execute("CREATE INDEX ix_parts_stock ON parts (stock, id)")
            await unit[Part].add_many([{"title": f"{n}", "stock": n} for n in range(3_000)])
        async with store.unit() as unit:
            if not store.is_remote:  # which takes no ANALYZE
                await unit.execute("ANALYZE parts")
        seen: list[tuple[str, Any]] = []
        engine = store.read_engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda c, cursor, text, values, *_: seen.append((text, values)))
        async with store.read() as unit:
            query = PARTS.order_by(*order)
            first = await unit[Part].page(query, limit=10)
            await unit[Part].page(query, limit=10, after=first.next)
            text, values = seen[-1]
            explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
            connection = await unit.connection()
            found = (await connection.exec_driver_sql(explain + text, values)).all()
    told = "\n".join(str(row) for row in found)
    assert plan[store.dialect] in told, told
    assert "SORT" not in told.upper().replace("USE TEMP B-TREE", "SORT"), told
