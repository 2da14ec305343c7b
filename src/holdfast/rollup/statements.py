"""The statements of a rollup: its figures from all base rows, and from the rows of some buckets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Join,
    Select,
    String,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeEngine

from holdfast.model import Text, UtcTime
from holdfast.rollup.buckets import Bucket
from holdfast.rollup.definition import NO_VALUE, Rollup


def batch_statement(rollup: Rollup, dialect: str) -> Select[Any]:
    """All figures of a rollup from all base rows at once: what the increments must equal."""
    base = rollup.base()
    time = base.c[rollup.time]
    dimensions = (func.coalesce(base.c[name], NO_VALUE).label(f"by_{name}") for name in rollup.by)
    rows = select(day_of(dialect, time).label("of_day"), *dimensions, *(base.c[name] for name in rollup.summed()))
    given = rows.where(has_day(dialect, time)).subquery("given")
    keys = [given.c.of_day.label("day"), *(given.c[f"by_{name}"].label(name) for name in rollup.by)]
    return select(*keys, *rollup.aggregates(given)).group_by(given.c.of_day, *(given.c[f"by_{n}"] for n in rollup.by))


def buckets_statement(rollup: Rollup, dialect: str, null: Collection[str] = ()) -> Select[Any]:
    """The figures of some buckets, each led by its number; only their base rows are read.

    The buckets are parameters (see `lookup_parameters`), so that the text is one and its plan known. A bucket
    without rows gives none.

    Args:
        null: the dimensions that are NULL in the rows looked for; the others are the bucket's.
    """
    base = rollup.base()
    wanted = _wanted(rollup, dialect)
    time: ColumnElement[Any] = base.c[rollup.time]
    since: ColumnElement[Any] = wanted.c.day
    if dialect == "sqlite":
        # "~" comes after all that may follow the day in the text of a time, so this is every text that begins with it.
        time, until = type_coerce(time, String()), since.op("||")(literal_column("'~'"))
    else:
        # Not '1 day', which is 23 or 25 hours where the session's time zone has summer time.
        until = since.op("+")(literal_column("interval '24 hours'"))
    same = (base.c[name].is_(None) if name in null else base.c[name] == wanted.c[f"by_{name}"] for name in rollup.by)
    joined = _BucketsFirst(wanted, base, and_(*same, time >= since, time < until))
    return select(wanted.c.number, *rollup.aggregates(base)).select_from(joined).group_by(wanted.c.number)


def lookup_parameters(rollup: Rollup, dialect: str, wanted: Sequence[tuple[int, Bucket]]) -> dict[str, Any]:
    """The parameters of `buckets_statement` for these numbers and buckets."""
    if dialect == "sqlite":
        rows = [(number, bucket.day.isoformat(), *bucket.dimensions) for number, bucket in wanted]
        return {"buckets": msgspec.json.encode(rows).decode()}
    given: dict[str, Any] = {"number": [n for n, _ in wanted], "day": [b.start for _, b in wanted]}
    for place, name in enumerate(rollup.by):
        given[f"by_{name}"] = [b.dimensions[place] for _, b in wanted]
    return given


def _wanted(rollup: Rollup, dialect: str) -> FromClause:
    """The buckets given as parameters, as a table of `number`, `day` and the dimensions."""
    dimensions = [f"by_{name}" for name in rollup.by]
    if dialect == "sqlite":
        each = func.json_each(bindparam("buckets", type_=String())).table_valued("value", name="each")

        def part(place: int, name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
            return func.json_extract(each.c.value, literal_column(f"'$[{place}]'"), type_=kind).label(name)

        texts = (part(place, name, String()) for place, name in enumerate(("day", *dimensions), start=1))
        return select(part(0, "number", Integer()), *texts).select_from(each).subquery("wanted")
    arrays: list[BindParameter[Any]] = [
        bindparam("number", type_=ARRAY(BigInteger())),
        bindparam("day", type_=ARRAY(UtcTime())),
        *(bindparam(name, type_=ARRAY(Text())) for name in dimensions),
    ]
    return func.unnest(*arrays).table_valued("number", "day", *dimensions).render_derived(name="wanted")


def day_of(dialect: str, time: ColumnElement[Any]) -> ColumnElement[Any]:
    """The start of the UTC day of `time`, in the form in which days are kept."""
    if dialect == "sqlite":
        return func.substr(time, 1, 10, type_=UtcTime())
    return func.date_trunc("day", time, "UTC", type_=UtcTime())


def has_day(dialect: str, time: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether `time` is on a day at all: not NULL, not infinite, not what raw SQL may have written on SQLite."""
    if dialect == "sqlite":
        day = func.substr(time, 1, 10, type_=String())
        # With a modifier, date() brings 30 February into March; without, it lets it be.
        return func.date(day, literal_column("'+0 days'"), type_=String()) == day
    return func.isfinite(time)


class _BucketsFirst(Join):
    """A join that begins with the buckets whatever the statistics say; CROSS JOIN tells SQLite so."""

    inherit_cache = True


@compiles(_BucketsFirst, "sqlite")
def _cross_join(element: _BucketsFirst, compiler: Any, **options: Any) -> str:
    return str(compiler.visit_join(element, **options)).replace(" JOIN ", " CROSS JOIN ", 1)
