"""`@cached`: which call has which key, and what a decorated function does."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import LOAD, Holdfast, Load, Query, cached
from holdfast.cache.templates import compiled, part
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.templates import renderer, tag_part
from tests.backends import settings_for
from tests.cache.loans import Base, Loan, lend


@pytest.fixture
async def hold(sqlite_url: str) -> Any:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:
        yield hold


calls: list[Any] = []


@pytest.fixture(autouse=True)
def _forget_calls() -> None:
    calls.clear()


@cached(key="double:{number}", tags=("numbers:{number}",), ttl="1m")
async def double(number: int, load: Load = LOAD, *, times: int = 2) -> int:
    """Twice the number."""
    calls.append(number)
    if number > 100:
        load.ttl(0.001)
    return number * times


async def test_a_function_is_called_once_for_the_same_arguments(hold: Holdfast) -> None:
    assert [await double(2), await double(2), await double(3), await double(number=2)] == [4, 4, 6, 4]
    assert calls == [2, 3]
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice the number."
    assert double.key(5) == "double:5"
    assert (await double.lookup(2)).value == 4
    await double.delete(2)
    assert await double(2) == 4
    await hold.cache.invalidate("numbers:3")
    assert await double(3) == 6
    assert calls == [2, 3, 2, 3]


async def test_without_an_open_cache_the_function_is_called_and_with_two_one_must_be_said(
    sqlite_url: str, tmp_path: Any
) -> None:
    assert [await double(2), await double(2)] == [4, 4]
    assert calls == [2, 2]
    with pytest.raises(ConfigurationError, match="cached by no open Holdfast"):
        await double.lookup(2)
    settings = settings_for(sqlite_url), settings_for(f"sqlite:///{tmp_path}/b.db")
    async with (
        await Holdfast.open(settings=settings[0], metadata=Base.metadata) as a,
        await Holdfast.open(settings=settings[1], metadata=Base.metadata),
    ):
        with pytest.raises(ConfigurationError, match="2 caches are open"):
            await double(2)

        @cached(cache=a.cache)
        async def triple(number: int) -> int:
            return 3 * number

        assert await triple(2) == 6
        assert a.cache.peek(triple.key(2)) == 6


async def test_arguments_may_be_long(hold: Holdfast) -> None:
    @cached(key="length:{text}")
    async def length(text: str) -> int:
        calls.append(text)
        return len(text)

    assert [await length("a" * 1_000), await length("a" * 1_000), await length("a" * 1_001)] == [1_000, 1_000, 1_001]
    assert len(calls) == 2
    assert len(length.key("é" * 500)) <= 250


@pytest.mark.parametrize("reader", ["ann", "Ann: Çelik", "50%", "a{b}", "a\tb"])
async def test_a_row_ends_what_a_template_named_whatever_is_in_it(hold: Holdfast, reader: str) -> None:
    @cached(key="loans:{reader}", tags=("reader:{reader}",))
    async def loans(reader: str) -> int:
        async with hold.read() as unit:
            return await unit[Loan].count(Query(Loan).where(reader=reader))

    assert await loans(reader) == 0
    await lend(hold, reader, "Dune")
    assert await loans(reader) == 1
    if reader.isprintable():
        await hold.cache.set("by hand", 1, tags=(f"reader:{reader}",))
        await lend(hold, reader, "Emma")
        assert hold.cache.peek("by hand") is None
        await loans(reader)
        await hold.cache.invalidate(f"reader:{reader}")
        assert hold.cache.peek(loans.key(reader)) is None


def test_a_time_and_a_number_have_the_tag_that_a_row_has() -> None:
    at = dt.datetime(2024, 2, 29, 20, 14, 59, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    values = [(at, "2024-02-29T18:14:59.000005Z"), (dt.date(2024, 2, 29), "2024-02-29"), (2**200, str(2**200))]
    values += [(UUID(int=5), str(UUID(int=5))), (b"\x01", "01"), (True, True)]
    for value, fact in values:
        given = inspect.Signature([inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
        assert compiled("t:{a}", given, "tag", tag_part)(value) == renderer("t:{a}")({"a": fact})


async def test_methods_are_told_apart_by_what_their_key_says(hold: Holdfast) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached(key="price:{self.name}:{of}")
        async def price(self, of: str) -> str:
            calls.append((self.name, of))
            return f"{self.name} {of}"

    a, b = Shop("a"), Shop("b")
    assert [await a.price("x"), await b.price("x"), await a.price("x")] == ["a x", "b x", "a x"]
    assert calls == [("a", "x"), ("b", "x")]


def test_what_cannot_be_is_told_where_the_function_is_defined() -> None:
    with pytest.raises(ConfigurationError, match="names 'user', which is no parameter; there are user_id"):

        @cached(key="user:{user}")
        async def a(user_id: int) -> int:
            return user_id

    with pytest.raises(ConfigurationError, match="takes functions, async or plain, that return a value"):

        @cached()
        def b() -> Any:
            yield 1

    with pytest.raises(ConfigurationError, match="takes 'args': say key="):

        @cached()
        async def c(*args: int) -> int:
            return 1

    with pytest.raises(ConfigurationError, match="tier='tepid' is none; there are hot, warm, cold"):
        cached(tier="tepid")
    with pytest.raises(ConfigurationError, match="write \\('users',\\)"):
        cached(tags="users")
    with pytest.raises(ConfigurationError, match="must be a parameter, or a parameter's attribute"):

        @cached(key="{__import__('os').getcwd()}")
        async def d(user_id: int) -> int:
            return user_id


class Colour(enum.Enum):
    RED = "red"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=20),
    st.text(alphabet="a:%~,()", max_size=6),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=8),
    st.sampled_from(Colour),
)


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_calls_that_differ_have_keys_that_differ(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    key = compiled("k:{a}:{b}", inspect.signature(lambda a, b: None), "key")
    if [type(value) for value in one] != [type(value) for value in other]:
        return  # 1 and "1" name one row
    assert (key(*one) == key(*other)) == (one == other)
    assert key(*one).isprintable()


def test_values_are_written_as_people_read_them() -> None:
    written: dict[Any, str] = {
        5: "5",
        "ada@example.org/x": "ada@example.org/x",
        "a:b": "a%3Ab",
        "100%": "100%25",
        None: "~None",
        True: "~True",
        UUID(int=7): "00000000-0000-0000-0000-000000000007",
        dt.date(2026, 1, 2): "2026-01-02",
        Colour.RED: "red",
        (1, "a,b"): "(1,a%2Cb,)",
        "~None": "%7ENone",
        "(1,)": "%281,)",
        (): "()",
        ("",): "(,)",
        (("a", "b"), "c"): "((a,b,),c,)",
        (("a,b",), "(c)"): "((a%2Cb,),%28c%29,)",
    }
    assert {value: part(value) for value in written} == written
    with pytest.raises(InvalidValue, match="a dict cannot be part of a cache key"):
        part({})
    with pytest.raises(InvalidValue, match="is no Unicode text"):
        part("\ud800")


NESTED = st.recursive(
    st.none() | st.booleans() | st.text("ab~(),%:", max_size=4), lambda inner: st.lists(inner, max_size=3).map(tuple)
)


@given(NESTED, NESTED)
def test_no_two_texts_or_lists_of_them_have_one_key(one: Any, other: Any) -> None:
    assert (part(one) == part(other)) == (one == other and type(one) is type(other))
