"""How a batch is written so that nothing is overwritten that somebody else wrote meanwhile.

On PostgreSQL a page is read without locks; the statement that writes locks those of its rows that are still the
version that was read (`xmin`) and that nobody holds (SKIP LOCKED), and tells which they were. It never waits, so it
cannot hold locks while it waits. On SQLite the page is read in the transaction that writes, of which there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import ARRAY as Array
from sqlalchemy import (
    JSON,
    Column,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import InvalidValue
from holdfast.migrate.backfills.source import Key, Source, Xid
from holdfast.model import Attributed, Model, Versioned, model_of
from holdfast.model.encrypted import Blinded, encrypted_columns
from holdfast.store import bulk

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Item:
    """One row that is to be written: its key, the version that was read, and what the transform made of it."""

    key: Key
    version: int
    values: Any


@dataclass(frozen=True)
class Written:
    """What came of a batch: the keys that were dealt with, how many rows were written, and since when locks are held.

    The first run of a statement is one without rows: to make its text takes longer than to run it.
    """

    keys: set[Key]
    count: int
    since: float


class Work(Protocol):
    """What is done with a page."""

    @property
    def reads(self) -> bool:
        """Whether rows are looked at in Python, so that they must not have changed since."""

    def prepare(self, row: Any) -> Any:
        """What is to be written for a row; None for nothing. InvalidValue: it cannot be."""

    async def write(self, connection: AsyncConnection, items: Sequence[Item]) -> Written:
        """Write what was prepared."""


@dataclass(frozen=True)
class Into:
    """Rows that a transform makes are inserted into another table.

    Args:
        model: a model, or a Table.
        on: columns of a unique key: a row that is there already is left alone, or updated in the columns `update`.
            Without it, one that is there is a `Conflict`.
    """

    model: type[Model] | Table
    on: Sequence[str] = ()
    update: Sequence[str] = ()

    @property
    def table(self) -> Table:
        """The table to insert into."""
        return self.model if isinstance(self.model, Table) else self.model.__table__  # type: ignore[return-value]


@dataclass(frozen=True)
class Updating:
    """The source's own rows get what a transform says."""

    source: Source
    transform: Transform
    actor: str
    reads: bool = True

    def prepare(self, row: Any) -> Any:
        values = self.transform(row)
        if values is None or (isinstance(values, Mapping) and not values):
            return None
        if not isinstance(values, Mapping):
            raise InvalidValue(f"a transform returns the columns to set as a dict, or None, not {values!r}")
        return _checked(self.source, values)

    async def write(self, connection: AsyncConnection, items: Sequence[Item]) -> Written:
        written: set[Key] = set()
        since = time.monotonic()
        for names, group in groupby(sorted(items, key=_columns_of), key=_columns_of):
            part = list(group)
            if connection.dialect.name == "sqlite":
                await connection.execute(self._one(names), [self._bound(item) for item in part])
                written |= {item.key for item in part}
            else:
                values: dict[str, list[Any]] = self.source.arrays([item.key for item in part])
                values["version_"] = [item.version for item in part]
                for number, name in enumerate(names):
                    values[f"value_{number}_"] = [item.values[name] for item in part]
                if names not in self._made:
                    await connection.execute(self._statement(names), {key: [] for key in values})
                    since = since if written else time.monotonic()
                rows = await connection.execute(self._statement(names), values)
                written |= {tuple(row) for row in rows}
        return Written(written, len(written), since)

    def _bound(self, item: Item) -> dict[str, Any]:
        keys = {f"key_{number}_": value for number, value in enumerate(item.key)}
        return {**keys, **{f"value_{number}_": item.values[name] for number, name in enumerate(_columns_of(item))}}

    def _one(self, names: Sequence[str]) -> Update:
        table = self.source.table
        is_it = [c == bindparam(f"key_{n}_", type_=c.type) for n, c in enumerate(self.source.key)]
        given = {name: bindparam(f"value_{n}_", type_=table.c[name].type) for n, name in enumerate(names)}
        return update(table).where(and_(*is_it)).values({**kept(table, names, self.actor), **given})

    def _statement(self, names: tuple[str, ...]) -> Update:
        if names not in self._made:
            table = self.source.table
            for name in names:
                if isinstance(getattr(table.c[name].type, "impl_instance", table.c[name].type), Array | JSON):
                    raise InvalidValue(
                        f"{table.name}.{name} is of a type of which PostgreSQL takes no arrays; write it with set_=…"
                    )
            kinds = [(f"value_{number}", table.c[name].type) for number, name in enumerate(names)]
            given = self.source.given(("version", Xid()), *kinds)
            same = literal_column(f'"{table.name}".xmin', Xid()) == given.c.version
            rows = _unheld(self.source, given, [same], *(given.c[name] for name, _ in kinds)).cte("unheld")
            values = {name: rows.c[f"value_{number}"] for number, name in enumerate(names)}
            self._made[names] = _update(self.source, rows, {**kept(table, names, self.actor), **values})
        return self._made[names]

    @cached_property
    def _made(self) -> dict[tuple[str, ...], Update]:
        return {}


@dataclass(frozen=True)
class Setting:
    """The source's own rows get what SQL expressions say of them; no row comes to Python."""

    source: Source
    values: Mapping[str, Any]
    actor: str
    reads: bool = False

    def prepare(self, row: Any) -> Any:
        return self.values

    async def write(self, connection: AsyncConnection, items: Sequence[Item]) -> Written:
        keys = [item.key for item in items]
        if connection.dialect.name == "sqlite":
            done = await connection.execute(self._among(keys))
            return Written(set(keys), done.rowcount, time.monotonic())
        if "_statement" not in self.__dict__:
            await connection.execute(self._statement, self.source.arrays([]))
        since = time.monotonic()
        rows = await connection.execute(self._statement, self.source.arrays(keys))
        written = {tuple(row) for row in rows}
        return Written(written, len(written), since)

    @cached_property
    def _all(self) -> dict[str, Any]:
        return {**kept(self.source.table, self.values, self.actor), **self.values}

    def _among(self, keys: Sequence[Key]) -> Update:
        key = self.source.key
        among = key[0].in_([k[0] for k in keys]) if len(key) == 1 else tuple_(*key).in_(list(keys))
        return update(self.source.table).where(among, *self.source.conditions).values(self._all)

    @cached_property
    def _statement(self) -> Update:
        rows = _unheld(self.source, self.source.given(), self.source.conditions).cte("unheld")
        return _update(self.source, rows, self._all)


@dataclass(frozen=True)
class Inserting:
    """Rows of another table are made from the source's."""

    source: Source
    transform: Transform
    into: Into
    reads: bool = True
    conflict: tuple[tuple[str, ...], tuple[str, ...]] | None = field(init=False)

    def __post_init__(self) -> None:
        conflict = (tuple(self.into.on), tuple(self.into.update)) if self.into.on else None
        object.__setattr__(self, "conflict", conflict)

    def prepare(self, row: Any) -> Any:
        made = self.transform(row)
        if made is None:
            return None
        rows = [made] if isinstance(made, Mapping) else list(made)
        for one in rows:
            if not isinstance(one, Mapping):
                raise InvalidValue(
                    f"a transform into another table returns dicts, a list of them, or None, not {one!r}"
                )
        return rows or None

    async def write(self, connection: AsyncConnection, items: Sequence[Item]) -> Written:
        keys = {item.key for item in items}
        since = time.monotonic()
        if connection.dialect.name != "sqlite":
            values: dict[str, Any] = self.source.arrays([item.key for item in items])
            values["version_"] = [item.version for item in items]
            if "_hold" not in self.__dict__:
                await connection.execute(self._hold, {key: [] for key in values})
            since = time.monotonic()
            keys = {tuple(row) for row in await connection.execute(self._hold, values)}
        rows = [dict(row) for item in items if item.key in keys for row in item.values]
        written = await bulk.write(connection, self.into.table, rows, self.conflict) if rows else 0
        return Written(keys, written, since)

    @cached_property
    def _hold(self) -> Select[Any]:
        """Keep the rows from changing until what was made of them is committed."""
        given = self.source.given(("version", Xid()))
        same = literal_column(f'"{self.source.table.name}".xmin', Xid()) == given.c.version
        held: Select[Any] = _unheld(self.source, given, [same], read=True)
        return held


def kept(table: Table, given: Iterable[str], actor: str) -> dict[str, Any]:
    """What the library keeps with every update, as far as it is not given: when, by whom, which version."""
    model = model_of(table)
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.onupdate is not None and column.onupdate.is_callable:
            values[column.name] = column.onupdate.arg(None)  # type: ignore[attr-defined]
    if model is not None and issubclass(model, Attributed):
        values["updated_by"] = actor
    if model is not None and issubclass(model, Versioned):
        values["version"] = table.c.version + literal_column("1")
    return {name: value for name, value in values.items() if name not in set(given)}


def checked_expressions(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """`set_` by names of columns.

    Raises:
        InvalidValue: it is empty, or names what is not there or is part of the key.
    """
    if not given:
        raise InvalidValue("set_ is empty; write set_={'column': expression}")
    encrypted = {str(column.name) for column in encrypted_columns(source.table)}
    for name in given:
        if source.names.get(name) in encrypted:
            raise InvalidValue(f"{name!r} is encrypted, which no SQL can do; write it with transform=…")
    return _checked(source, given)


def _checked(source: Source, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        column = source.names.get(name)
        if column is None:
            raise InvalidValue(f"{source.table.name} has no column {name!r}; it has {', '.join(source.names)}")
        if column in source.of_key:
            raise InvalidValue(f"{name!r} is part of the key of {source.table.name}, which a backfill goes along")
        found[column] = value
    for column, blind in source.blind.items():
        if column in found:
            found[blind] = Blinded(found[column])
    return found


def _columns_of(item: Item) -> tuple[str, ...]:
    return tuple(sorted(item.values))


def _unheld(source: Source, given: Any, conditions: Iterable[Any], *more: Column[Any], read: bool = False) -> Any:
    """Lock the given rows that nobody holds and that meet the conditions."""
    keys = [given.c[f"key_{number}"] for number in range(len(source.key))]
    is_it = and_(*(column == key for column, key in zip(source.key, keys, strict=True)))
    locked = select(*keys, *more).select_from(source.table).join(given, is_it).where(*conditions)
    return locked.with_for_update(of=source.table, skip_locked=True, key_share=not read, read=read)


def _update(source: Source, rows: Any, values: Mapping[str, Any]) -> Update:
    is_it = (column == rows.c[f"key_{number}"] for number, column in enumerate(source.key))
    return update(source.table).where(*is_it).values(dict(values)).returning(*source.key)
