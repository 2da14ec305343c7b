"""Which rule of its table a write has broken, in the words of the table: no SQL, and no values."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from sqlalchemy import CheckConstraint, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.schema import ColumnCollectionConstraint

Rule = Literal["unique", "foreign key", "check", "not null", "exclusion"]

# https://www.postgresql.org/docs/current/errcodes-appendix.html, class 23
_STATES: dict[str, Rule] = {
    "23505": "unique",
    "23503": "foreign key",
    "23514": "check",
    "23502": "not null",
    "23P01": "exclusion",
}
_CODES: dict[str, Rule] = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
    "SQLITE_CONSTRAINT_CHECK": "check",
    "SQLITE_CONSTRAINT_NOTNULL": "not null",
}
_SQLITE = re.compile(r"(?:UNIQUE|CHECK|NOT NULL) constraint failed: (?:index )?(?P<what>[^\n]+)")
_WORD = re.compile(r"\w+")
_preparer: Any = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


class BrokenRule(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint that a write has broken.

    Attributes:
        kind: which kind of constraint.
        constraint: its name, where the database tells it.
        columns: its columns, where the database tells them; SQLite tells of a foreign key neither.
    """

    kind: Rule
    constraint: str | None = None
    columns: tuple[str, ...] = ()

    @classmethod
    def told(cls, origin: BaseException, sqlstate: str | None, sqlite_code: str | None) -> BrokenRule | None:
        """What a driver's exception tells of a broken rule; None where it tells of something else."""
        if (kind := _STATES.get(sqlstate or "")) is not None:
            column = getattr(origin, "column_name", None)
            name = getattr(origin, "constraint_name", None)
            return cls(kind=kind, constraint=name, columns=(column,) if column else ())
        if (kind := _CODES.get(sqlite_code or "")) is None:
            return None
        found = _SQLITE.search(str(origin))
        if found is None:
            return cls(kind=kind)
        what = found["what"].strip()
        if kind == "check" or what.startswith("'"):
            return cls(kind=kind, constraint=what.strip("'"))
        return cls(kind=kind, columns=tuple(part.strip().rpartition(".")[2] for part in what.split(",")))

    def fields(self, table: Table) -> tuple[str, ...]:
        """The columns of `table` that the rule is about; of a foreign key that is not told every one that has any."""
        if self.columns:
            return tuple(name for name in self.columns if name in table.columns)
        items: tuple[Any, ...] = (*table.constraints, *table.indexes)
        for item in items:
            if self.constraint is not None and self.constraint in _names(item):
                named = {str(column.name) for column in item.columns}
                if isinstance(item, CheckConstraint):  # one that is written as text knows no columns
                    named |= set(_WORD.findall(str(item.sqltext)))
                return tuple(str(column.name) for column in table.columns if column.name in named)
        if self.kind == "foreign key":
            return tuple(str(column.name) for column in table.columns if column.foreign_keys)
        return ()


def _names(item: Any) -> set[str]:
    """What a constraint or an index is called, whole, and as PostgreSQL shortens it."""
    if item.name is None:
        return set()
    if isinstance(item, ColumnCollectionConstraint) or not hasattr(item, "unique"):
        return {str(item.name), str(_preparer.format_constraint(item)).strip('"')}
    return {str(item.name), str(_preparer.format_index(item)).strip('"')}
