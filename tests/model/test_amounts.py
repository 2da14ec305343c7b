"""Amounts are exact from 0 to 2**256 - 1, in order, in sums and against raw SQL, on every backend."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.errors import InvalidValue
from holdfast.model import NAMING, Amount, Model, Total, exact_sum
from holdfast.store import Store
from tests.store.opening import opened

U256 = 2**256 - 1
amounts = (
    st.integers(0, U256) | st.integers(0, 10) | st.integers(U256 - 10, U256) | st.integers(0, 77).map(lambda n: 10**n)
)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Payment(Base):
    __tablename__ = "payments"

    token: Mapped[str]
    amount: Mapped[int | None] = mapped_column(Amount())
    volume: Mapped[int | None] = mapped_column(Total())
    small: Mapped[int | None] = mapped_column(Amount(digits=5))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def replace_all(store: Store, rows: list[dict[str, Any]]) -> None:
    async with store.unit() as unit:
        await unit.execute("DELETE FROM payments")
        await unit[Payment].add_many(rows)


@few
@given(values=st.lists(amounts, min_size=1, max_size=40))
async def test_every_amount_comes_back_as_it_was_and_in_the_order_of_numbers(store: Store, values: list[int]) -> None:
    await replace_all(store, [{"token": "t", "amount": value} for value in values])
    async with store.read() as unit:
        found = (await unit.execute(select(Payment.amount).order_by(Payment.amount))).scalars().all()
        above = (await unit.execute(select(func.count()).where(Payment.amount > values[0]))).scalar_one()
        largest = (await unit.execute(select(func.max(Payment.amount)))).scalar_one()
    assert found == sorted(values)
    assert above == sum(value > values[0] for value in values)
    assert largest == max(values)
    assert all(type(value) is int for value in found)


@few
@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.none() | amounts), max_size=60))
async def test_exact_sum_is_pythons_sum(store: Store, rows: list[tuple[str, int | None]]) -> None:
    await replace_all(store, [{"token": token, "amount": amount} for token, amount in rows])
    total = exact_sum(Payment.amount)
    async with store.read() as unit:
        overall = (await unit.execute(select(total))).scalar_one()
        filtered = (await unit.execute(select(total.filter(Payment.token == "a")))).scalar_one()
        grouped = (
            await unit.execute(select(Payment.token, total.label("s")).group_by(Payment.token).order_by(total.desc()))
        ).all()
    assert overall == sum(amount or 0 for _, amount in rows)
    assert filtered == sum(amount or 0 for token, amount in rows if token == "a")
    assert [row.s for row in grouped] == sorted((row.s for row in grouped), reverse=True)
    assert {row.token: row.s for row in grouped} == {
        token: sum(amount or 0 for other, amount in rows if other == token) for token in {token for token, _ in rows}
    }


async def test_a_sum_is_kept_compared_and_summed_again_like_any_amount(store: Store) -> None:
    await replace_all(store, [{"token": "t", "amount": U256}] * 1_000 + [{"token": "u", "amount": 1}])
    async with store.unit() as unit:
        sums = select(Payment.token, exact_sum(Payment.amount)).group_by(Payment.token)
        rich = await unit.execute(sums.having(exact_sum(Payment.amount) > U256))
        assert rich.all() == [("t", 1_000 * U256)]
        await unit.execute(Payment.__table__.insert().from_select(["token", "volume"], sums, include_defaults=False))
        again = await unit.execute(select(exact_sum(Payment.volume)))
        assert again.scalar_one() == 1_000 * U256 + 1


async def test_the_sum_over_no_rows_is_zero(store: Store) -> None:
    async with store.read() as unit:
        assert (await unit.execute(select(exact_sum(Payment.amount)))).scalar_one() == 0


@pytest.mark.parametrize("value", [-1, 2**256, 10**5000, 1.0, float("nan"), True, "5", Decimal(5), b"5"], ids=type)
async def test_what_is_no_amount_is_refused_before_it_reaches_the_database(store: Store, value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"amount"):
        async with store.unit() as unit:
            await unit[Payment].add(Payment(token="t", amount=value))
    with pytest.raises(InvalidValue, match=r"amount"):
        async with store.unit() as unit:
            await unit[Payment].add_many([{"token": "t", "amount": value}])
    with pytest.raises(InvalidValue, match=r"amount"):
        async with store.read() as unit:
            await unit[Payment].list(unit[Payment].query().where(amount=value))


async def test_an_amount_of_fewer_digits_holds_what_they_hold(store: Store) -> None:
    async with store.unit() as unit:
        row = await unit[Payment].add(Payment(token="t", small=99_999))
        assert (await unit.execute(select(Payment.small).where(Payment.id == row.id))).scalar_one() == 99_999
    with pytest.raises(InvalidValue, match=r"0\.\.99999"):
        async with store.unit() as unit:
            await unit[Payment].add(Payment(token="t", small=100_000))


@pytest.mark.parametrize("written", ["-1", str(2**256), "'1.5'", "'abc'"])
async def test_raw_sql_cannot_write_what_is_no_amount(store: Store, written: str) -> None:
    statement = f"INSERT INTO payments (token, amount) VALUES ('t', {written})"
    if store.dialect == "postgresql" and written == "'1.5'":
        statement = statement.replace("'1.5'", "'-0.6'")  # NUMERIC(78, 0) rounds: to -1
    with pytest.raises(InvalidValue):
        async with store.unit() as unit:
            await unit.execute(statement)


async def test_raw_sql_writes_amounts_in_the_form_of_the_column(store: Store) -> None:
    five = "printf('%078d', 5)" if store.dialect == "sqlite" else "5"
    async with store.unit() as unit:
        await unit.execute(f"INSERT INTO payments (token, amount) VALUES ('t', {five})")
        assert (await unit[Payment].list())[0].amount == 5


async def test_on_sqlite_an_unpadded_amount_is_refused_for_it_would_not_sort(sqlite_url: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        with pytest.raises(InvalidValue, match="ck_payments_amount_is_78_digits"):
            async with store.unit() as unit:
                await unit.execute("INSERT INTO payments (token, amount) VALUES ('t', 5)")


@pytest.mark.parametrize(
    "expression",
    [
        lambda: Payment.amount + 1,
        lambda: 1 + Payment.amount,
        lambda: Payment.amount - Payment.amount,
        lambda: Payment.amount * 2,
        lambda: Payment.amount / 2,
        lambda: Payment.amount // 2,
        lambda: Payment.amount % 2,
        lambda: -Payment.amount,
    ],
)
def test_arithmetic_on_amounts_is_refused_for_sqlite_would_take_floats(expression: Any) -> None:
    with pytest.raises(InvalidValue, match="exact_sum"):
        expression()


async def test_a_plain_sum_never_gives_a_wrong_figure(store: Store) -> None:
    await replace_all(store, [{"token": "t", "amount": U256}, {"token": "t", "amount": 1}])
    async with store.read() as unit:
        plain = select(func.sum(Payment.amount))
        if store.dialect == "postgresql":
            assert (await unit.execute(plain)).scalar_one() == U256 + 1
        else:
            with pytest.raises(InvalidValue, match="exact_sum"):
                (await unit.execute(plain)).scalar_one()


def test_exact_sum_takes_amounts_only() -> None:
    with pytest.raises(InvalidValue, match=r"func\.sum"):
        exact_sum(Payment.token)


@pytest.mark.parametrize("value", [0, 1, 10**77, U256])
async def test_a_literal_is_the_same_amount(store: Store, value: int) -> None:
    await replace_all(store, [{"token": "t", "amount": value}, {"token": "t", "amount": 2}])
    statement = select(Payment.amount).where(Payment.amount == value)
    dialect = sqlite.dialect() if store.dialect == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    async with store.read() as unit:
        assert int((await unit.execute(text)).scalars().one()) == value


def test_a_literal_that_is_no_amount_is_refused() -> None:
    with pytest.raises(CompileError) as refused:
        str(select(Payment.amount).where(Payment.amount == -1).compile(compile_kwargs={"literal_binds": True}))
    assert isinstance(refused.value.__cause__, InvalidValue)
