"""Which buckets a change makes dirty: rules only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import msgspec

from holdfast.rollup.definition import NO_VALUE, Rollup


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One group of a rollup: a UTC day, half-open, and the values of its dimensions (`NO_VALUE` for NULL)."""

    day: dt.date
    dimensions: tuple[str, ...]

    @property
    def start(self) -> dt.datetime:
        """The first moment of the day."""
        return dt.datetime.combine(self.day, dt.time.min, dt.UTC)

    def key(self) -> str:
        """The dimensions as one text, for the table of dirty marks."""
        return msgspec.json.encode(self.dimensions).decode()

    @classmethod
    def of_key(cls, day: dt.datetime, key: str) -> Bucket:
        """The bucket of a dirty mark."""
        return cls(day.astimezone(dt.UTC).date(), msgspec.json.decode(key, type=tuple[str, ...]))


def bucket_of(rollup: Rollup, facts: Mapping[str, Any] | None) -> Bucket | None:
    """The bucket of a row with these facts; None where there is no row, or no time in it.

    A text that begins with no day, which raw SQL can write on SQLite, is no time: the row belongs to no bucket.
    """
    if facts is None or facts.get(rollup.time) is None:
        return None
    try:
        day = dt.date.fromisoformat(str(facts[rollup.time])[:10])
    except ValueError:
        return None
    return Bucket(day, tuple(NO_VALUE if (v := facts.get(name)) is None else str(v) for name in rollup.by))


def dirty_buckets(
    rollup: Rollup, rows: Iterable[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]]
) -> set[Bucket]:
    """The buckets that changes with these (old, new) facts touch: where a row was, and where it is now."""
    return {bucket for pair in rows for facts in pair if (bucket := bucket_of(rollup, facts)) is not None}


def lookups(rollup: Rollup, buckets: Sequence[Bucket]) -> dict[frozenset[str], list[tuple[int, Bucket]]]:
    """Which buckets to look up with which dimensions NULL, each with its place among `buckets`.

    A NULL and an empty text are one value to a rollup, but not to an index: a bucket without a value is looked
    up once for either, and what is found is added.
    """
    nullable = {name for name in rollup.by if rollup.base().columns[name].nullable}
    found: dict[frozenset[str], list[tuple[int, Bucket]]] = {}
    for place, bucket in enumerate(buckets):
        missing = [n for n, v in zip(rollup.by, bucket.dimensions, strict=True) if v == NO_VALUE and n in nullable]
        for size in range(len(missing) + 1):
            for null in combinations(missing, size):
                found.setdefault(frozenset(null), []).append((place, bucket))
    return found
