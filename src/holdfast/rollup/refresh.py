"""From dirty marks to right figures: each dirty bucket is computed anew from its base rows.

A mark is committed on its own, together with the follower's checkpoint, before anything is computed; a
refresh removes the marks and writes the figures in one transaction, and removes them first. So a row that is
committed while a refresh runs is either seen by it, or its change sets a mark that the refresh does not remove.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, Table, and_, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.model import Text, UtcTime
from holdfast.rollup.buckets import Bucket, lookups
from holdfast.rollup.definition import NO_VALUE, Rollup
from holdfast.rollup.statements import buckets_statement, day_of, has_day, lookup_parameters
from holdfast.store import Store, Unit

BATCH = 200  # buckets a transaction

metadata = MetaData()
dirty = Table(
    "holdfast_dirty_buckets",
    metadata,
    Column("rollup", Text(), nullable=False),
    Column("day", UtcTime(), nullable=False),
    Column("key", Text(), nullable=False),
    Column("since", UtcTime(), nullable=False),
    PrimaryKeyConstraint("rollup", "day", "key"),
)
known = Table(
    "holdfast_rollups",
    metadata,
    Column("name", Text(), primary_key=True),
    Column("definition", Text(), nullable=False),  # as the figures were computed
)


async def mark(unit: Unit, rollup: Rollup, buckets: Iterable[Bucket]) -> None:
    """Mark buckets dirty."""
    since = dt.datetime.now(dt.UTC)
    # In order, so that two who mark the same buckets do not wait for each other crosswise.
    rows = [{"rollup": rollup.name, "day": b.start, "key": b.key(), "since": since} for b in sorted(set(buckets))]
    if not rows:
        return
    statement: Any = (sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert)(dirty)
    # A mark that is there is written all the same: where transactions see snapshots (REPEATABLE READ), a refresh that
    # has not seen the new row must not be able to remove it.
    statement = statement.on_conflict_do_update(index_elements=["rollup", "day", "key"], set_={"since": dirty.c.since})
    await unit.execute(statement, rows)


async def mark_all(unit: Unit, rollup: Rollup) -> None:
    """Mark every bucket that has base rows or figures: for a reset, a rebuild, a new rollup."""
    base, results = rollup.base(), rollup.results()
    time, dialect = base.c[rollup.time], unit.store.dialect
    with_rows = select(day_of(dialect, time), *(base.c[name] for name in rollup.by)).where(has_day(dialect, time))
    with_figures = select(results.c.day, *(results.c[name] for name in rollup.by))
    buckets: set[Bucket] = set()
    for statement in (with_rows.distinct(), with_figures):
        rows: Iterable[Sequence[Any]] = await unit.execute(statement)
        buckets |= {Bucket(row[0].date(), tuple(value or NO_VALUE for value in row[1:])) for row in rows}
    await mark(unit, rollup, buckets)


async def adopt(unit: Unit, rollup: Rollup) -> bool:
    """Mark everything when the figures were not computed by this definition; returns whether they were not.

    So a rollup that is declared on a table with rows, or declared otherwise than before, becomes complete.
    """
    definition = rollup.definition()
    stored = await unit.execute(select(known.c.definition).where(known.c.name == rollup.name))
    if stored.scalar() == definition:
        return False
    await mark_all(unit, rollup)
    kind = sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert
    statement = kind(known).values(name=rollup.name, definition=definition)
    await unit.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"definition": definition}))
    return True


async def refresh(store: Store, rollup: Rollup, *, limit: int = BATCH) -> int:
    """Compute up to `limit` dirty buckets anew in one transaction; returns how many there were."""
    return await store.run(lambda unit: _refresh(unit, rollup, limit), confined=False)


async def _refresh(unit: Unit, rollup: Rollup, limit: int) -> int:
    taken = select(dirty.c.day, dirty.c.key).where(dirty.c.rollup == rollup.name)
    taken = taken.order_by(dirty.c.day, dirty.c.key).limit(limit)
    # Another instance may be at work while a lease changes hands: its buckets are left to it.
    marks: Sequence[Any] = (await unit.execute(taken.with_for_update(skip_locked=True))).all()
    if not marks:
        return 0
    one = and_(
        dirty.c.rollup == rollup.name, dirty.c.day == bindparam("at", type_=UtcTime()), dirty.c.key == bindparam("of")
    )
    await unit.execute(delete(dirty).where(one), [{"at": day, "of": key} for day, key in marks])
    await _compute(unit, rollup, [Bucket.of_key(day, key) for day, key in marks])
    return len(marks)


async def _compute(unit: Unit, rollup: Rollup, buckets: Sequence[Bucket]) -> None:
    """Write the figures of `buckets`, and remove those of buckets without rows."""
    names = (*rollup.measures, "rows")
    figures: list[dict[str, Any] | None] = [None] * len(buckets)
    for null, wanted in lookups(rollup, buckets).items():
        statement = buckets_statement(rollup, unit.store.dialect, null)
        found: Iterable[Sequence[Any]] = await unit.execute(
            statement, lookup_parameters(rollup, unit.store.dialect, wanted)
        )
        for row in found:
            before = figures[row[0]]
            added = zip(names, row[1:], strict=True)
            figures[row[0]] = {name: value + (before[name] if before else 0) for name, value in added}
    results = rollup.results()
    keys = [{"day": b.start, **dict(zip(rollup.by, b.dimensions, strict=True))} for b in buckets]
    place = and_(*(results.c[name] == bindparam(f"{name}_", type_=results.c[name].type) for name in keys[0]))
    await unit.execute(delete(results).where(place), [{f"{n}_": v for n, v in key.items()} for key in keys])
    rows = [{**key, **found} for key, found in zip(keys, figures, strict=True) if found]
    if rows:
        await unit.execute(results.insert(), rows)
