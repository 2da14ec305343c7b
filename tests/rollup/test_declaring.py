"""What may be declared as a rollup, and what is refused while the class is made."""

import datetime as dt
from itertools import count
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Amount, Count, Holdfast, Model, Policy, Rollup, Sum
from holdfast.errors import ModelError
from holdfast.rollup.refresh import adopt, refresh

_numbers = count()


def declare(rollup: Rollup, **policy: Any) -> type[Model]:
    """A model with this rollup, on metadata of its own; SQLAlchemy wants its class to have a name of its own too."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData()

    return type(
        f"Order{next(_numbers)}",
        (Base,),
        {
            "__module__": __name__,
            "__tablename__": "orders",
            "__policy__": Policy(rollup, **policy),
            "__annotations__": {
                "at": Mapped[dt.datetime],
                "text": Mapped[str],
                "number": Mapped[int],
                "price": Mapped[int],
            },
            "price": mapped_column(Amount()),
        },
    )


@pytest.mark.parametrize(
    ("rollup", "message"),
    [
        (Rollup("daily", time="when", by=("text",), n=Count()), "'when'"),
        (Rollup("daily", time="text", by=("text",), n=Count()), "no UTC time"),
        (Rollup("daily", time="at", by=("number",), n=Count()), "must be a text column"),
        (Rollup("daily", time="at", by=("shop",), n=Count()), "'shop'"),
        (Rollup("daily", time="at", by=("text",), n=Sum("number")), "only an Amount sums exactly"),
        (Rollup("daily", time="at", by=("text",), n=Sum("total")), "'total'"),
        (Rollup("daily", time="at", by=("text",), n=Count(where={"state": 1})), "'state'"),
        (Rollup("daily", time="at", by=("text",), text=Count()), "'text' twice"),
        (Rollup("daily", time="at", by=("text",), day=Count()), "'day' twice"),
        (Rollup("orders", time="at", by=("text",), n=Count()), "something else already"),
    ],
)
def test_what_cannot_be_added_up_is_refused_with_its_name(rollup: Rollup, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        declare(rollup)


def test_a_rollup_without_measures_is_refused() -> None:
    with pytest.raises(ModelError, match="adds nothing up"):
        Rollup("daily", time="at", by=("text",))


def test_a_rollup_on_a_model_that_is_not_captured_is_refused() -> None:
    with pytest.raises(ModelError, match="capture=False"):
        declare(Rollup("daily", time="at", by=("text",), n=Count()), capture=False)


def test_a_rollup_that_is_on_no_model_says_so() -> None:
    with pytest.raises(ModelError, match="put it into a Policy"):
        Rollup("daily", time="at", by=(), n=Count()).results()


async def test_a_measure_that_is_declared_later_is_added_and_computed(database_url: str) -> None:
    first = declare(Rollup("daily", time="at", by=("text",), n=Count()))
    row = {"at": dt.datetime(2025, 1, 1, tzinfo=dt.UTC), "text": "a", "number": 1, "price": 2**256 - 1}
    async with await Holdfast.open(database_url, metadata=first.metadata) as hold:
        async with hold.unit() as unit:
            await unit[first].add_many([row, row])
        await hold.rollups.rebuild()
    rollup = Rollup("daily", time="at", by=("text",), n=Count(), total=Sum("price"))
    second = declare(rollup)
    async with await Holdfast.open(database_url, metadata=second.metadata) as hold:
        async with hold.unit() as unit:
            assert await adopt(unit, rollup)  # which is what following begins with
        assert await refresh(hold.store, rollup) == 1
        async with hold.read() as unit:
            found = (await unit.execute(rollup.results().select())).mappings().one()
    assert (found["n"], found["total"]) == (2, 2 * (2**256 - 1))


async def test_a_rollup_without_dimensions_sums_whole_days(database_url: str) -> None:
    rollup = Rollup("daily", time="at", by=(), total=Sum("price"))
    model = declare(rollup)
    row = {"at": dt.datetime(2025, 1, 1, tzinfo=dt.UTC), "text": "a", "number": 1, "price": 5}
    async with await Holdfast.open(database_url, metadata=model.metadata) as hold:
        async with hold.unit() as unit:
            await unit[model].add_many([row, row])
        await hold.rollups.rebuild()
        async with hold.read() as unit:
            assert [tuple(r) for r in await unit.execute(rollup.results().select())] == [(row["at"], 10, 2)]
