"""What a backfill reads: the rows of a table, page after page in the order of its key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Table,
    TypeDecorator,
    bindparam,
    func,
    inspect,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.types import UserDefinedType

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Model, SoftDeleted, model_of
from holdfast.model.encrypted import blind_columns
from holdfast.store import Query

Key = tuple[Any, ...]
VERSION = "holdfast_version"


class Xid(UserDefinedType[int]):
    """PostgreSQL's id of a transaction."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "xid"


@dataclass(frozen=True)
class Source:
    """Rows of one table.

    Attributes:
        conditions: which rows, all must hold.
        columns: what is read beside the key, by the name that the row shows it under.
    """

    table: Table
    conditions: tuple[ColumnElement[bool], ...] = ()
    columns: tuple[str, ...] = ()

    @cached_property
    def names(self) -> dict[str, str]:
        """Names that rows show, to the names of columns: a model's attributes, or the columns themselves."""
        model = model_of(self.table)
        if model is None:
            return {str(column.name): str(column.name) for column in self.table.columns}
        return {str(a.key): str(a.columns[0].name) for a in inspect(model).column_attrs}

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """The columns of the key."""
        return tuple(self.table.primary_key.columns)

    @cached_property
    def of_key(self) -> frozenset[str]:
        """The names of the key's columns."""
        return frozenset(column.name for column in self.key)

    @cached_property
    def blind(self) -> dict[str, str]:
        """The encrypted columns with a blind index, and the columns that keep it."""
        return blind_columns(self.table)

    def page(self, after: Key | None, size: int, *, versions: bool) -> Select[Any]:
        """The next rows behind a key: the key, the columns, and with `versions` which version of the row it is."""
        statement = self._reading(versions).order_by(*self.key).limit(size)
        if after is None:
            return statement
        bound = [literal(value, column.type) for value, column in zip(after, self.key, strict=True)]
        if len(self.key) == 1:
            return statement.where(self.key[0] > bound[0])
        return statement.where(tuple_(*self.key) > tuple_(*bound))

    def again(self, keys: Sequence[Key], *, versions: bool) -> Select[Any]:
        """Those of the rows with these keys that are still to be read."""
        if len(self.key) == 1:
            return self._reading(versions).where(self.key[0].in_([key[0] for key in keys]))
        return self._reading(versions).where(tuple_(*self.key).in_(list(keys)))

    def count(self) -> Select[Any]:
        """How many rows there are."""
        return select(func.count()).select_from(self.table).where(*self.conditions)

    def _reading(self, versions: bool) -> Select[Any]:
        shown = {column: name for name, column in self.names.items()}
        columns = [column.label(shown.get(column.name, column.name)) for column in self.key]
        columns += [self.table.c[self.names[n]].label(n) for n in self.columns if self.names[n] not in self.of_key]
        if versions:
            columns.append(literal_column(f'"{self.table.name}".xmin', Xid()).label(VERSION))
        return select(*columns).select_from(self.table).where(*self.conditions)

    def given(self, *more: tuple[str, Any]) -> Any:
        """The keys as a table of one array parameter a column (`key_0`, …), and `more` columns with their types."""
        columns = [(f"key_{number}", column.type) for number, column in enumerate(self.key)] + list(more)
        arrays = (bindparam(f"{name}_", type_=ARRAY(kind)) for name, kind in columns)
        return func.unnest(*arrays).table_valued(*(name for name, _ in columns), name="given").render_derived()

    def arrays(self, keys: Sequence[Key]) -> dict[str, list[Any]]:
        """The parameters of `given` for these keys."""
        return {f"key_{number}_": [key[number] for key in keys] for number in range(len(self.key))}

    def encode(self, key: Key) -> Key:
        """`key` as JSON can hold it."""
        return tuple(_plain(value) for value in key)

    def decode(self, key: Sequence[Any]) -> Key:
        """What `encode` was given."""
        return tuple(_typed(column.type, value) for column, value in zip(self.key, key, strict=True))


def source_of(given: Any, where: Sequence[ColumnElement[bool]], columns: Sequence[str] | None) -> Source:
    """What `given` (a query, a model or a table) and the rest say together.

    Raises:
        InvalidValue: it says something that pages by the key cannot follow, or names a column that is not there.
    """
    conditions = tuple(where)
    if isinstance(given, Query):
        if given.orders or given.included or given.at_most is not None or given.skip:
            raise InvalidValue("a backfill goes by the key; leave order, limit, offset and include out of its query")
        statement = given.filtered(select(given.model))
        conditions += (statement.whereclause,) if statement.whereclause is not None else ()
        if given.deleted == "without" and issubclass(given.model, SoftDeleted):
            conditions += (given.model.deleted_at.is_(None),)
        columns = columns if columns is not None else given.selected or None
        given = given.model
    elif isinstance(given, type) and issubclass(given, SoftDeleted):
        conditions += (given.deleted_at.is_(None),)
    table = given.__table__ if isinstance(given, type) and issubclass(given, Model) else given
    if not isinstance(table, Table):
        raise InvalidValue(f"a backfill's source is a Query, a model or a Table, not {given!r}")
    source = Source(table, conditions)
    if not source.key:
        raise InvalidValue(f"{table.name} has no primary key to go along; give the Table one")
    named = tuple(source.names) if columns is None else tuple(columns)
    for name in named:
        if name not in source.names:
            raise InvalidValue(f"{table.name} has no column {name!r}; it has {', '.join(source.names)}")
    return Source(table, conditions, named)


def _plain(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # JSON's numbers end before amounts do
    return msgspec.to_builtins(value)


def _typed(kind: Any, value: Any) -> Any:
    if isinstance(kind, Amount):
        return int(value)
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    wanted: type[Any] = kind.python_type
    if wanted not in (int, bool, float, UUID, dt.datetime, dt.date, dt.time, bytes) and wanted.__name__ != "Decimal":
        return value
    return msgspec.convert(value, wanted, strict=False)
