"""Which months have a partition, and which models can be parted."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import KeyedModel, Monthly, Policy
from holdfast.errors import ModelError
from holdfast.store.partitions import Month, months, partition_name

MOMENTS = st.datetimes(timezones=st.just(dt.UTC)).filter(lambda moment: 1970 < moment.year < 9990)


def declare(by: str = "at", at: Any = dt.datetime, key: bool = True, **options: Any) -> type[KeyedModel]:
    class Base(KeyedModel):
        __abstract__ = True
        metadata = MetaData()

    body = {
        "__module__": __name__,
        "__tablename__": "usage",
        "__policy__": Policy(Monthly(by, **options.pop("monthly", {}))),
        "__annotations__": {"number": Mapped[int], "at": Mapped[at]},
        "number": mapped_column(primary_key=True),
        "at": mapped_column(primary_key=key),
        **options,
    }
    return type("Usage", (Base,), body)


@given(MOMENTS, st.integers(1, 24))
def test_months_touch_and_hold_the_moment(now: dt.datetime, ahead: int) -> None:
    found = list(months(now, ahead))
    assert len(found) == ahead + 2
    assert all(one.plus(1) == other for one, other in pairwise(found))
    this = found[1]
    begin, behind = (dt.datetime.fromisoformat(month.begin()) for month in (this, this.plus(1)))
    assert begin <= now < behind


def test_a_moment_of_another_zone_is_in_the_month_of_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=5))
    assert Month.of(dt.datetime(2026, 12, 1, 2, tzinfo=zone)) == Month(2026, 11)


def test_names_stay_within_what_the_database_keeps_and_apart() -> None:
    assert partition_name("usage", Month(2026, 3)) == "usage_2026_03"
    long = [partition_name("é" * 60, Month(2026, number)) for number in (1, 2)]
    assert len(set(long)) == 2
    assert all(len(name.encode()) <= 63 for name in long)


def test_a_model_that_cannot_be_parted_is_refused_with_what_to_write() -> None:
    for options, message in (
        ({"by": "when"}, "'when', which usage does not have"),
        ({"by": "number"}, "needs a time; number is"),
        ({"key": False}, "needs at in the primary key"),
        ({"__table_args__": (UniqueConstraint("number"),)}, r"UNIQUE \(number\) spans partitions; add at to it"),
        ({"monthly": {"ahead": 0}}, "the next month must have a partition"),
    ):
        with pytest.raises(ModelError, match=message):
            declare(**options)  # type: ignore[arg-type]
    assert declare().__table__.dialect_options["postgresql"]["partition_by"] == 'RANGE ("at")'
