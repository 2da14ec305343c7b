"""What people look at from time to time, and no program can: who did last, and when it is due again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping

import msgspec
from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, Table, func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.errors import InvalidValue
from holdfast.model import Text, UtcTime
from holdfast.operate.findings import Finding
from holdfast.store import Store, Unit

metadata = MetaData()
_reviews = Table(
    "holdfast_reviews",
    metadata,
    Column("name", Text(40), nullable=False),
    Column("at", UtcTime(), nullable=False),
    Column("actor", Text(255), nullable=False),
    PrimaryKeyConstraint("name", "at", "actor"),
)


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person is to do again and again.

    Attributes:
        name: what `holdfast doctor --reviewed` calls it.
        check: what the checklist calls it.
        every: after how long it is due again.
        do: what it consists of.
    """

    name: str
    check: str
    every: dt.timedelta
    do: str


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody did: which review, when, who."""

    name: str
    at: dt.datetime
    actor: str


REVIEWS = {
    review.name: review
    for review in (
        Review(
            name="rotation",
            check="rotation",
            every=dt.timedelta(days=365),
            do="put new keys and peppers in front of the old ones",
        ),
        Review(
            name="access",
            check="access review",
            every=dt.timedelta(days=92),
            do="go through logins, roles, members and API keys, and end what nobody needs",
        ),
        Review(
            name="restore",
            check="restore rehearsal",
            every=dt.timedelta(days=31),
            do="restore a backup elsewhere, and look whether everything is there",
        ),
    )
}
"""What is to be reviewed, by name: keys yearly, access each quarter, a restore each month."""


async def record_review(unit: Unit, name: str, *, at: dt.datetime | None = None) -> Reviewed:
    """Keep that the unit's actor did a review, now unless `at` says when; what was kept before stays.

    Raises:
        InvalidValue: there is no such review, or the unit has no actor of 1 to 255 characters that can be seen.
    """
    if name not in REVIEWS:
        raise InvalidValue(f"{name[:40]!r} is none of what is reviewed: {', '.join(REVIEWS)}")
    actor = unit.actor
    if actor is None or not 0 < len(actor) <= 255 or not actor.isprintable():
        raise InvalidValue(f"a review is somebody's: 1 to 255 characters that can be seen, not {str(actor)[:60]!r}")
    done = Reviewed(name=name, at=at or dt.datetime.now(dt.UTC), actor=actor)
    connection = await unit.connection()
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    with unit.translated():
        await connection.execute(insert(_reviews).values(msgspec.structs.asdict(done)).on_conflict_do_nothing())
    return done


async def last_reviews(store: Store) -> dict[str, Reviewed] | None:
    """Who did each review last, by its name; None where the database was not migrated since there are any."""
    columns = _reviews.c
    newest = select(columns.name, func.max(columns.at).label("at")).group_by(columns.name).subquery()
    found = select(_reviews).join(newest, (columns.name == newest.c.name) & (columns.at == newest.c.at))
    async with store.connect() as connection:
        if not await connection.run_sync(lambda plain: inspect(plain).has_table(_reviews.name)):
            return None
        rows = (await connection.execute(found)).all()
    return {row.name: Reviewed(name=row.name, at=row.at, actor=row.actor) for row in rows}


def examine_reviews(last: Mapping[str, Reviewed], now: dt.datetime) -> Iterator[Finding]:
    """A finding for each review: done, due, or never done."""
    for review in REVIEWS.values():
        do = f"{review.do}; then `holdfast doctor --reviewed {review.name}`"
        done = last.get(review.name)
        if done is None:
            yield Finding.note(review.check, "never done, as far as is known", do)
            continue
        due = done.at + review.every
        told = f"last {done.at:%Y-%m-%d} by {done.actor}"
        if due > now:
            yield Finding.ok(review.check, f"{told}, due {due:%Y-%m-%d}")
        else:
            yield Finding.note(review.check, f"{told}, due since {due:%Y-%m-%d}", do)
