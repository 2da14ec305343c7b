"""No error tells a password or a value that was bound: not in its words, not in what caused it, not in a traceback."""

import traceback
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from holdfast.errors import ConfigurationError, Conflict, HoldfastError, InvalidValue, StoreError, Unavailable
from holdfast.model import uuid7
from holdfast.settings import Settings, hide_password
from holdfast.store import Query, Store, Unit
from holdfast.store.failures import DriverError
from holdfast.store.urls import parse_url
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Maker, Part, Review

SECRET = "Zx9-s3cr3t-Qq7"


def everything_told(error: BaseException) -> str:
    """What any log of `error` could show: the errors it came from, and the traceback of all of them."""

    def chain(link: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            yield from chain(link.__cause__, seen)
            yield from chain(link.__context__, seen)

    links = list(chain(error, set()))
    shown = [f"{link!r} {link} {link.args} {vars(link)}" for link in links]
    return "\n".join([*shown, *traceback.format_exception(error)])


async def add(unit: Unit) -> None:
    await unit[Maker].add(Maker(name=SECRET))
    await unit[Maker].add(Maker(name=SECRET))


async def add_many(unit: Unit) -> None:
    await unit[Maker].add_many([{"name": "other"}, {"name": SECRET}, {"name": SECRET}])


async def upsert(unit: Unit) -> None:
    await unit[Part].add_many([{"id": (key := uuid7()), "title": "x"}])
    await unit[Maker].upsert_many([{"id": key, "name": SECRET}, {"id": uuid7(), "name": SECRET}])


async def null(unit: Unit) -> None:
    await unit.execute("INSERT INTO parts (title, stock, colour_name) VALUES (NULL, 1, :c)", {"c": SECRET})


async def nowhere(unit: Unit) -> None:
    await unit.execute("SELECT * FROM nowhere WHERE name = :name", {"name": SECRET})


async def wrong_syntax(unit: Unit) -> None:
    await unit.execute("SELEC :name", {"name": SECRET})


async def pointless(unit: Unit) -> None:
    await unit[Review].add_many([{"stars": 1, "part_id": uuid7()}])


async def wrong_type_of_key(unit: Unit) -> None:
    await unit[Review].add_many([{"stars": 1, "part_id": SECRET}])


async def wrong_type_in_a_query(unit: Unit) -> None:
    await unit[Part].list(Query(Part).where(seen_at=SECRET))


async def wrong_type_of_date(unit: Unit) -> None:
    await unit[Part].add(Part(title="t", made_on=SECRET))


async def wrong_type_of_time(unit: Unit) -> None:
    await unit[Part].add(Part(title="t", seen_at=SECRET))


async def wrong_type_of_amount(unit: Unit) -> None:
    await unit[Part].add(Part(title="t", price=SECRET))


async def wrong_type_of_flag(unit: Unit) -> None:
    await unit[Part].add(Part(title="t", fragile=SECRET))


async def wrong_type_of_raw_parameter(unit: Unit) -> None:
    class Odd:
        def __repr__(self) -> str:
            return SECRET

    await unit.execute("SELECT * FROM makers WHERE name = :name", {"name": Odd()})


async def lone_surrogate(unit: Unit) -> None:
    await unit.execute("SELECT * FROM makers WHERE name = :name", {"name": f"{SECRET}\ud800"})


async def nul(unit: Unit) -> None:
    await unit[Maker].add(Maker(name=f"{SECRET}\0"))


async def cast(unit: Unit) -> None:
    # PostgreSQL quotes the value; SQLite casts anything, so there it is a column that is not.
    what = "CAST(:name AS int)" if unit.store.dialect == "postgresql" else "nothing(:name)"
    await unit.execute(f"SELECT {what}", {"name": SECRET})


async def cast_of_a_column(unit: Unit) -> None:
    await unit[Maker].add(Maker(name=SECRET))
    what = "name::timestamptz" if unit.store.dialect == "postgresql" else "nothing(name)"
    await unit.execute(text(f"SELECT {what.replace(':', chr(92) + ':')} FROM makers"))


async def raised_by_the_database(unit: Unit) -> None:
    if unit.store.dialect == "postgresql":
        body = "CREATE FUNCTION fail(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'no %', t; END $$"
        await unit.execute(body.replace(":", r"\:"))
        await unit.execute("SELECT fail(:name)", {"name": SECRET})
    else:
        await unit.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON makers BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        await unit[Maker].add(Maker(name=SECRET))


async def missing_parameter(unit: Unit) -> None:
    await unit.execute("SELECT * FROM makers WHERE name IN (:name, :other)", {"name": SECRET})


async def stale(unit: Unit) -> None:
    part = await unit[Part].add(Part(title="p"))
    await unit.execute("DELETE FROM parts")
    part.colour = SECRET


FAILING: list[Callable[[Unit], Any]] = [
    add,
    add_many,
    upsert,
    null,
    nowhere,
    wrong_syntax,
    pointless,
    wrong_type_of_key,
    wrong_type_in_a_query,
    wrong_type_of_date,
    wrong_type_of_time,
    wrong_type_of_amount,
    wrong_type_of_flag,
    wrong_type_of_raw_parameter,
    lone_surrogate,
    nul,
    cast,
    cast_of_a_column,
    raised_by_the_database,
    missing_parameter,
    stale,
]


@pytest.mark.parametrize("work", FAILING, ids=lambda work: work.__name__)
async def test_a_value_that_was_bound_is_in_no_error(store: Store, work: Callable[[Unit], Any]) -> None:
    with pytest.raises((Conflict, InvalidValue, StoreError)) as raised:
        async with store.unit() as unit:
            await work(unit)
    told = everything_told(raised.value)
    # The traceback shows this file's lines, which say SECRET and never what it is.
    assert SECRET not in told
    assert len(str(raised.value)) > 20
    assert "[SQL:" not in str(raised.value)


async def test_what_the_session_raises_by_itself_is_translated_at_the_end_of_the_unit(store: Store) -> None:
    with pytest.raises(Conflict) as raised:
        async with store.unit() as unit:
            unit.session.add_all([Maker(name=SECRET), Maker(name=SECRET)])
            await unit.session.flush()
    assert SECRET not in everything_told(raised.value)


async def test_the_cause_says_what_the_driver_said_and_which_statement_it_was(store: Store) -> None:
    with pytest.raises(Conflict) as raised:
        async with store.unit() as unit:
            await add_many(unit)
    cause = raised.value.__cause__
    assert isinstance(cause, DriverError)
    assert "INSERT INTO makers" in str(cause)
    assert (cause.sqlstate, cause.sqlite_errorname) in (("23505", None), (None, "SQLITE_CONSTRAINT_UNIQUE"))
    assert cause.connection_lost is False


passwords = st.text(st.characters(codec="utf-8"), min_size=6, max_size=20).map(
    lambda tail: f"pw{uuid4().hex[:8]}{tail}"
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    password=passwords,
    template=st.sampled_from(
        [
            "postgresql://user:{}@127.0.0.1/db",
            "postgresql://user:{}@127.0.0.1:x/db",
            "postgresql://user:{}@127.0.0.1:99999/db",
            "postgresql://user:{}@/",
            "postgres:/user:{}@host/db",
            "user:{}@host/db",
            "mysql://user:{}@host/db",
            "sqlite://user:{}@host/db",
            "postgresql://user:{}@ho st/db",
            "postgresql://user:{}@host/db?connect_timeout=1",
            "postgresql://host/db?password={}",
            "redis://:{}@host",
        ]
    ),
)
def test_a_password_is_in_no_error_about_a_url_and_in_no_settings(password: str, template: str) -> None:
    url = template.format(password)
    mark = password[:10]
    assert mark not in hide_password(url)
    refusal = refusal_of(url)
    assert refusal is None or mark not in everything_told(refusal)
    told = Settings(database_url=url, redis_url=f"redis://:{password}@host", database_auth_token=password)
    assert mark not in repr(told)
    assert mark not in str(told.__rich_repr__())


def refusal_of(url: str) -> ConfigurationError | None:
    try:
        parse_url(url)
    except ConfigurationError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:pw@h:5/db?sslmode=require", "postgresql://ada:***@h:5/db?sslmode=require"),
        ("postgresql://ada:p@w/d?x#y@h/db", "postgresql://ada:***@h/db"),
        ("postgresql://ada@h/db", "postgresql://ada@h/db"),
        ("postgresql://h/db?user=a&password=b&x=1", "postgresql://h/db?user=a&password=***&x=1"),
        ("libsql://h?authToken=abc", "libsql://h?authToken=***"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("sqlite:////home/ada@work:x/holdfast.db", "sqlite:////home/ada@work:x/holdfast.db"),
        ("holdfast.db", "holdfast.db"),
        ("postgresql://h/db?", "postgresql://h/db?"),
    ],
)
def test_a_url_without_its_password_is_still_told_from_others(url: str, shown: str) -> None:
    assert hide_password(url) == shown


async def test_a_refused_login_names_no_password(postgres_url: str) -> None:
    url = postgres_url.replace("holdfast@", f"holdfast:{SECRET}@").rpartition("/")[0] + "/not_there"
    async with opened(url) as store:
        with pytest.raises(Unavailable) as raised:
            await store.start()
        assert SECRET not in everything_told(raised.value)
        assert SECRET not in store.place
        assert SECRET not in repr(store.settings)
        assert SECRET not in repr(store.engine)


async def test_errors_of_the_library_keep_what_they_say_on_the_way(store: Store) -> None:
    mine = InvalidValue("the third line is no number")
    with pytest.raises(HoldfastError) as raised:
        async with store.unit():
            try:
                raise ZeroDivisionError
            except ZeroDivisionError as error:
                raise mine from error
    assert raised.value is mine
    assert isinstance(mine.__cause__, ZeroDivisionError)


def test_settings_compare_and_copy_with_their_passwords() -> None:
    url = f"postgresql://u:{SECRET}@h/db"
    assert settings_for(url).database_url == url
    assert settings_for(url) == settings_for(url)
