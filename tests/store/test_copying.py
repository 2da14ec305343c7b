"""Many rows by COPY: the same rows, the same defaults, the same errors as by INSERT, in the unit's own transaction."""

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import JSON, MetaData, Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from devservers import PostgresServer
from devservers.pgbouncer import find_pgbouncer, start_pgbouncer
from holdfast.errors import Conflict, InvalidValue, StoreError
from holdfast.model import NAMING, Amount, Attributed, Encrypted, Model, Timestamps, Versioned, uuid7
from holdfast.store import Query, Store
from holdfast.store.copying import LEAST
from tests.store.conftest import statements
from tests.store.opening import opened


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Crate(Timestamps, Versioned, Attributed, Base):
    """A column of every kind."""

    __tablename__ = "Crates of any kind"

    title: Mapped[str] = mapped_column(unique=True)
    worth: Mapped[int] = mapped_column(Amount(), default=7)
    weight: Mapped[float | None]
    width: Mapped[Decimal | None] = mapped_column(Numeric(10, 3))
    seen_at: Mapped[dt.datetime | None]
    made_on: Mapped[dt.date | None]
    fragile: Mapped[bool] = mapped_column(default=False)
    facts: Mapped[Any] = mapped_column(JSON, nullable=True)
    more: Mapped[Any] = mapped_column(JSON().with_variant(JSONB(), "postgresql"), nullable=True)
    photo: Mapped[bytes | None]
    owner: Mapped[str | None] = mapped_column("owner_name", Encrypted(blind=True))


KEY = "k1:" + "A" * 43 + "="
ROWS = LEAST + 1
FULL = {
    "worth": 2**256 - 1,
    "weight": 0.1,
    "width": Decimal("1.125"),
    "seen_at": dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC),
    "made_on": dt.date(2026, 1, 2),
    "fragile": True,
    "facts": {"a": [1, None, "ü"]},
    "more": [{"b": 2}],
    "photo": b"\0\xff",
    "owner": "ada",
}
CRATES = Query(Crate)


@pytest.fixture(scope="module", params=["postgres", *(["pgbouncer"] if find_pgbouncer() else [])])
def pooler(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[Any]:
    if request.param == "postgres":
        yield None
    else:
        with start_pgbouncer(postgres_server, connections=2) as server:
            yield server


@pytest.fixture
async def store(pooler: Any, postgres_server: PostgresServer) -> AsyncIterator[Store]:
    """On PostgreSQL, and behind a pooler."""
    name = postgres_server.create_database()
    url = (pooler or postgres_server).database_url(name)
    mode = "none" if pooler is None else "transaction"
    async with opened(url, Base.metadata, pooler=mode, encryption_keys=KEY) as store:
        yield store
    postgres_server.drop_database(name)


async def test_rows_of_every_kind_come_back_as_they_were(store: Store) -> None:
    rows: list[Any] = [{"id": uuid7(), "title": f"{n}", **FULL} for n in range(ROWS)]
    rows[5] = {**rows[5], **dict.fromkeys(FULL), "worth": 0, "fragile": False}
    async with store.unit(actor="ada") as unit:
        with statements(store) as sent:
            assert await unit[Crate].add_many([*rows[:-1], Crate(**rows[-1])]) == ROWS
        assert [text for text in sent if "INSERT" in text] == ([] if store.dialect == "postgresql" else sent)
    async with store.read() as unit:
        found = await unit[Crate].get_many([row["id"] for row in rows])
        for row in rows:
            assert {name: getattr(found[row["id"]], name) for name in row} == row
        assert await unit[Crate].count(CRATES.where(owner="ada")) == ROWS - 1
        one = found[rows[0]["id"]]
        assert (one.version, one.created_by, one.updated_by) == (1, "ada", "ada")
        assert abs(dt.datetime.now(dt.UTC) - one.created_at) < dt.timedelta(minutes=1)


async def test_what_is_left_out_gets_its_default(store: Store) -> None:
    async with store.unit() as unit:
        assert await unit[Crate].add_many([{"title": f"{n}"} for n in range(ROWS)]) == ROWS
        crates = await unit[Crate].list()
    assert len({crate.id for crate in crates}) == ROWS
    assert {(c.worth, c.fragile, c.version, c.facts) for c in crates} == {(7, False, 1, None)}
    assert [c.title for c in sorted(crates, key=lambda c: c.id)] == [f"{n}" for n in range(ROWS)]


async def test_it_is_a_part_of_the_unit(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.unit() as unit:
            await unit[Crate].add_many([{"title": f"{n}"} for n in range(ROWS)])
            assert await unit[Crate].count() == ROWS
            raise ZeroDivisionError
    async with store.unit() as unit:
        unit.add(Crate(title="pending"))
        with pytest.raises(Conflict):
            async with unit.savepoint():
                await unit[Crate].add_many([{"title": f"{n // 2}"} for n in range(ROWS)])
        assert [crate.title for crate in await unit[Crate].list()] == ["pending"]


@pytest.mark.parametrize(
    ("bad", "error", "told"),
    [
        ({"title": "0"}, Conflict, "uq_Crates of any kind_title"),
        ({"title": None}, InvalidValue, "breaks a rule of its table"),
        ({"title": "a secret\0value"}, InvalidValue, "NUL character"),
        ({"title": 5}, InvalidValue, "text must be a str"),
        ({"title": "x", "worth": -1}, InvalidValue, "amount -1 is outside"),
        ({"title": "x", "worth": "5"}, InvalidValue, "an amount must be an int"),
        ({"title": "x", "weight": "a secret value"}, InvalidValue, "refuses a value|cannot hold a value"),
        ({"title": "x", "made_on": "a secret value"}, InvalidValue, "refuses a value|cannot hold a value"),
        ({"title": "x", "facts": {"a secret": object()}}, InvalidValue, "refuses a value|cannot hold a value"),
        ({"title": "x", "seen_at": dt.datetime(2026, 1, 1)}, InvalidValue, "with a zone"),  # noqa: DTZ001
        ({"title": "x", "owner": 5}, InvalidValue, "takes str, not int"),
    ],
)
async def test_what_does_not_fit_is_the_same_error_as_by_insert_and_shows_no_value(
    store: Store, bad: dict[str, Any], error: type[Exception], told: str
) -> None:
    common = {name: None for name in bad if name != "title"} | ({"worth": 1} if "worth" in bad else {})
    rows = [{"title": f"{n}", **common} for n in range(ROWS)]
    for number in (1, ROWS):
        with pytest.raises(error, match=told) as refused:
            async with store.unit() as unit:
                await unit[Crate].add_many([*rows[:number], bad])
        for link in (refused.value, refused.value.__cause__, refused.value.__context__):
            assert "secret" not in f"{link!r}"
    async with store.unit() as unit:
        assert await unit[Crate].count() == 0
        await unit[Crate].add_many(rows)  # the connection goes on


async def test_after_a_failed_copy_the_unit_can_only_be_rolled_back(store: Store) -> None:
    with pytest.raises(StoreError, match="can only be rolled back"):
        async with store.unit() as unit:
            with pytest.raises(Conflict):
                await unit[Crate].add_many([{"title": "same"} for _ in range(ROWS)])
    async with store.read() as unit:
        assert await unit[Crate].count() == 0
