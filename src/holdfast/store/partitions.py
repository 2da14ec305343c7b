"""`Monthly`: a table whose rows are kept in one partition a month, on PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import DateTime, UniqueConstraint
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import ModelError
from holdfast.model import Aspect, UtcTime, require_columns

_NAME = 63  # bytes PostgreSQL keeps of an identifier

THERE = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)
"""


class Monthly(Aspect):
    """Keeps the rows of each month (UTC, half-open) in a partition of their own; on SQLite and libSQL in one table.

    A month is then removed in an instant, and a query about some days reads little. The column is part of the
    primary key and of every unique constraint, as PostgreSQL wants it::

        class Usage(KeyedModel):
            __policy__ = Policy(Monthly("at", ahead=12))
            id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
            at: Mapped[datetime] = mapped_column(primary_key=True)

    Args:
        by: the time that decides.
        ahead: how many months to come have a partition; a row of a month without one is refused.
    """

    def __init__(self, by: str, *, ahead: int = 3) -> None:
        if ahead < 1:
            raise ModelError(f"Monthly({by!r}, ahead={ahead}): at least the next month must have a partition; say 1")
        self.by = by
        self.ahead = ahead

    def check(self, model: type[Any]) -> None:
        """Raise `ModelError` where PostgreSQL could not partition the table, and have it partitioned."""
        where = f"{model.__name__}: Monthly({self.by!r})"
        require_columns(model, (self.by,), "Monthly(…)")
        table = model.__table__
        column = table.columns[self.by]
        if not isinstance(column.type, UtcTime | DateTime):
            raise ModelError(f"{where} needs a time; {self.by} is {column.type!r}")
        if not column.primary_key:
            raise ModelError(f"{where} needs {self.by} in the primary key; declare it with primary_key=True")
        keys = [c.columns for c in table.constraints if isinstance(c, UniqueConstraint)]
        for columns in [*keys, *(index.columns for index in table.indexes if index.unique)]:
            if self.by not in columns:
                names = ", ".join(c.name for c in columns)
                raise ModelError(f"{where}: UNIQUE ({names}) spans partitions; add {self.by} to it")
        quoted = '"' + str(column.name).replace('"', '""') + '"'
        table.dialect_options["postgresql"]["partition_by"] = f"RANGE ({quoted})"


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month of UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: dt.datetime) -> Month:
        """The one that holds `moment`."""
        utc = moment.astimezone(dt.UTC)
        return cls(utc.year, utc.month)

    def plus(self, months: int) -> Month:
        """The one so many later, or earlier."""
        count = self.year * 12 + self.number - 1 + months
        return Month(count // 12, count % 12 + 1)

    def begin(self) -> str:
        """Its first moment, as SQL."""
        return f"{self.year:04d}-{self.number:02d}-01 00:00:00+00"


def months(now: dt.datetime, ahead: int) -> Iterator[Month]:
    """The month of `now`, the one before it for what comes late, and those ahead."""
    return (Month.of(now).plus(number) for number in range(-1, ahead + 1))


def partition_name(table: str, month: Month) -> str:
    """What the partition of a month is called."""
    end = f"_{month.year:04d}_{month.number:02d}"
    return table.encode()[: _NAME - len(end)].decode(errors="ignore") + end


async def make_partitions(connection: AsyncConnection, table: str, by: str, wanted: Iterable[Month]) -> list[str]:
    """Make the partitions that `table` lacks of `wanted`, without blocking its readers and writers; returns which.

    Each is made beside the table and attached: CREATE TABLE … PARTITION OF would lock the table against everybody.
    """
    quote = connection.dialect.identifier_preparer.quote
    there = set((await connection.exec_driver_sql(THERE, (quote(table),))).scalars())
    made: list[str] = []
    for month in wanted:
        name = partition_name(table, month)
        if name in there:
            continue
        parent, child, column = quote(table), quote(name), quote(by)
        check = quote(f"{name}_bounds"[:_NAME])
        first, behind = f"'{month.begin()}'", f"'{month.plus(1).begin()}'"
        for statement in (
            f"CREATE TABLE {child} (LIKE {parent} INCLUDING ALL)",
            # So that attaching it looks at no row.
            f"ALTER TABLE {child} ADD CONSTRAINT {check} CHECK ({column} >= {first} AND {column} < {behind})",
            f"ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ({first}) TO ({behind})",
            f"ALTER TABLE {child} DROP CONSTRAINT {check}",
        ):
            await connection.exec_driver_sql(statement)
        made.append(name)
    return made
