"""From dirty marks to right figures: each dirty bucket is computed anew from its base rows.

A mark is committed on its own, together with the follower's checkpoint, before anything is computed; a
refresh removes the mark and writes the figures in one transaction, and removes it first. So a row that is
committed while a refresh runs is either seen by it, or its change sets a mark that the refresh does not remove.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, PrimaryKeyConstraint, Table, and_, delete, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.model import Text, UtcTime
from holdfast.rollup.buckets import Bucket
from holdfast.rollup.definition import NO_VALUE, Rollup
from holdfast.store import Store, Unit

BATCH = 200  # buckets a transaction
_PART = 1_000  # marks a statement

metadata = MetaData()
dirty = Table(
    "holdfast_dirty_buckets",
    metadata,
    Column("rollup", Text(), nullable=False),
    Column("day", UtcTime(), nullable=False),
    Column("key", Text(), nullable=False),
    PrimaryKeyConstraint("rollup", "day", "key"),
)


async def mark(unit: Unit, rollup: Rollup, buckets: Iterable[Bucket]) -> int:
    """Mark buckets dirty; returns how many were not already."""
    rows = [{"rollup": rollup.name, "day": b.start, "key": b.key()} for b in sorted(buckets)]
    kind = sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert
    written = 0
    for start in range(0, len(rows), _PART):
        statement = kind(dirty).values(rows[start : start + _PART]).on_conflict_do_nothing()
        written += (await unit.execute(statement)).rowcount  # type: ignore[attr-defined]
    return written


async def mark_all(unit: Unit, rollup: Rollup) -> int:
    """Mark every bucket that has base rows or figures: for a reset, a rebuild, a new rollup."""
    base, results = rollup.base(), rollup.results()
    day, dimensions = day_of(unit.store.dialect, base.c[rollup.time]), [base.c[name] for name in rollup.by]
    with_rows = select(day, *dimensions).where(base.c[rollup.time].is_not(None)).distinct()
    buckets: set[Bucket] = set()
    for statement in (with_rows, select(results.c.day, *(results.c[name] for name in rollup.by))):
        for start, *values in await unit.execute(statement):
            buckets.add(Bucket(start.date(), tuple(value or NO_VALUE for value in values)))
    return await mark(unit, rollup, buckets)


async def refresh(store: Store, rollup: Rollup, *, limit: int = BATCH) -> int:
    """Compute up to `limit` dirty buckets anew in one transaction; returns how many there were."""
    return await store.run(lambda unit: _refresh(unit, rollup, limit))


async def _refresh(unit: Unit, rollup: Rollup, limit: int) -> int:
    taken = select(dirty.c.day, dirty.c.key).where(dirty.c.rollup == rollup.name).order_by(dirty.c.day).limit(limit)
    # Another instance may be at work while a lease changes hands: its buckets are left to it.
    rows = (await unit.execute(taken.with_for_update(skip_locked=True))).all()
    for day, key in rows:
        await unit.execute(delete(dirty).where(dirty.c.rollup == rollup.name, dirty.c.day == day, dirty.c.key == key))
        await _compute(unit, rollup, Bucket.of_key(day, key))
    return len(rows)


async def _compute(unit: Unit, rollup: Rollup, bucket: Bucket) -> None:
    results = rollup.results()
    figures = (await unit.execute(bucket_statement(rollup, bucket))).mappings().one()
    place = and_(results.c.day == bucket.start, *(results.c[n] == v for n, v in zip(rollup.by, bucket.dimensions, strict=True)))
    await unit.execute(delete(results).where(place))
    if figures["rows"]:
        dimensions = dict(zip(rollup.by, bucket.dimensions, strict=True))
        await unit.execute(insert(results).values(day=bucket.start, **dimensions, **figures))


def bucket_statement(rollup: Rollup, bucket: Bucket) -> Any:
    """The figures of one bucket, reading only its base rows."""
    base = rollup.base()
    time = base.c[rollup.time]
    same = (_equals(base.c[name], value) for name, value in zip(rollup.by, bucket.dimensions, strict=True))
    return select(*rollup.aggregates()).select_from(base).where(*same, time >= bucket.start, time < bucket.end)


def batch_statement(rollup: Rollup, dialect: str) -> Any:
    """All figures of a rollup from all base rows at once: what the increments must equal."""
    base = rollup.base()
    day = day_of(dialect, base.c[rollup.time]).label("day")
    dimensions = [func.coalesce(base.c[name], NO_VALUE).label(name) for name in rollup.by]
    statement = select(day, *dimensions, *rollup.aggregates()).select_from(base)
    return statement.where(base.c[rollup.time].is_not(None)).group_by(day, *dimensions)


def day_of(dialect: str, time: ColumnElement[Any]) -> ColumnElement[Any]:
    """The start of the UTC day of `time`, in the form in which days are kept."""
    if dialect == "sqlite":
        return func.substr(time, 1, 10, type_=UtcTime())
    return func.date_trunc("day", time, "UTC", type_=UtcTime())


def _equals(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    return or_(column.is_(None), column == NO_VALUE) if value == NO_VALUE else column == value
