"""Which buckets a change makes dirty."""

import datetime as dt
from typing import Any

import pytest

from holdfast.rollup.buckets import Bucket, bucket_of, dirty_buckets, lookups
from tests.rollup.declared import BY_SHOP, DAILY

DAY = dt.date(2025, 3, 30)


def facts(
    sold_at: str | None = "2025-03-30T12:00:00.000000Z", shop: str = "a", buyer: str | None = "x"
) -> dict[str, Any]:
    return {"sold_at": sold_at, "shop": shop, "buyer": buyer}


@pytest.mark.parametrize(
    ("sold_at", "day"),
    [
        ("2025-03-29T23:59:59.999999Z", dt.date(2025, 3, 29)),
        ("2025-03-30T00:00:00.000000Z", DAY),
        ("2025-03-30T23:59:59.999999Z", DAY),
        ("2025-03-31T00:00:00.000000Z", dt.date(2025, 3, 31)),
        ("9999-12-31T23:59:59.999999Z", dt.date(9999, 12, 31)),
        ("0001-01-01T00:00:00.000000Z", dt.date(1, 1, 1)),
    ],
)
def test_a_day_begins_with_its_first_microsecond_and_ends_before_the_next(sold_at: str, day: dt.date) -> None:
    assert bucket_of(DAILY, facts(sold_at)) == Bucket(day, ("a", "x"))


@pytest.mark.parametrize("sold_at", [None, "", "soon", "2025-02-30 00:00:00"])
def test_a_row_without_a_day_is_in_no_bucket(sold_at: str | None) -> None:
    assert bucket_of(DAILY, facts(sold_at)) is None


def test_an_update_makes_the_bucket_it_leaves_and_the_one_it_enters_dirty() -> None:
    moved = (facts(shop="a"), facts(shop="b", sold_at="2025-04-01T00:00:00.000000Z"))
    assert dirty_buckets(DAILY, [moved]) == {Bucket(DAY, ("a", "x")), Bucket(dt.date(2025, 4, 1), ("b", "x"))}


def test_an_insert_and_a_delete_make_one_bucket_dirty_each() -> None:
    inserted, deleted = (None, facts(shop="a")), (facts(shop="b"), None)
    assert dirty_buckets(BY_SHOP, [inserted, deleted]) == {Bucket(DAY, ("a",)), Bucket(DAY, ("b",))}


def test_null_and_empty_text_are_one_value() -> None:
    assert bucket_of(DAILY, facts(buyer=None)) == bucket_of(DAILY, facts(buyer=""))


@pytest.mark.parametrize("dimensions", [("a", "x"), ("", ""), ('"', "é\\"), ("a,b", "[]")])
def test_the_key_of_a_mark_gives_the_bucket_back(dimensions: tuple[str, ...]) -> None:
    bucket = Bucket(DAY, dimensions)
    assert Bucket.of_key(bucket.start, bucket.key()) == bucket


def test_a_bucket_without_a_value_is_looked_up_as_null_too_where_the_column_may_be_null() -> None:
    known, unknown, nameless = Bucket(DAY, ("a", "x")), Bucket(DAY, ("a", "")), Bucket(DAY, ("", "x"))
    assert lookups(DAILY, [known, unknown, nameless]) == {
        frozenset(): [(0, known), (1, unknown), (2, nameless)],
        frozenset({"buyer"}): [(1, unknown)],
    }
