"""Which buckets a change makes dirty: rules only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast.errors import InvalidValue
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

    @property
    def end(self) -> dt.datetime:
        """The first moment of the next day."""
        return self.start + dt.timedelta(days=1)

    def key(self) -> str:
        """The dimensions as one text, for the table of dirty marks."""
        return msgspec.json.encode(self.dimensions).decode()

    @classmethod
    def of_key(cls, day: dt.datetime, key: str) -> Bucket:
        """The bucket of a dirty mark."""
        return cls(day.astimezone(dt.UTC).date(), msgspec.json.decode(key, type=tuple[str, ...]))


def bucket_of(rollup: Rollup, facts: Mapping[str, Any] | None) -> Bucket | None:
    """The bucket of a row with these facts; None where there is no row, or it has no time."""
    if facts is None or facts.get(rollup.time) is None:
        return None
    text = str(facts[rollup.time])
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(f"{text!r} in {rollup.base().name}.{rollup.time} is no time; write it as UTC text") from None
    day = (moment if moment.tzinfo is None else moment.astimezone(dt.UTC)).date()
    return Bucket(day, tuple(NO_VALUE if (v := facts.get(name)) is None else str(v) for name in rollup.by))


def dirty_buckets(rollup: Rollup, rows: Iterable[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]]) -> set[Bucket]:
    """The buckets that changes with these (old, new) facts touch: where a row was, and where it is now."""
    touched = {bucket_of(rollup, facts) for pair in rows for facts in pair}
    touched.discard(None)
    return touched  # type: ignore[return-value]
