"""Buffered counters: how often a row was used, and when last, without a write for every use."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, Integer, Table, Update, and_, bindparam, func, inspect, select, text, update
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.model import Model, UtcTime
from holdfast.store.keys import key_of
from holdfast.store.store import Store
from holdfast.store.unit import Unit
from holdfast.store.write_behind import WriteBehind

Change = int | dt.datetime
Row = dict[str, Change]  # what happened to the columns of one row
Use = tuple[Any, Row]  # with its key


class Counters(WriteBehind[Use]):
    """Adds to columns of rows, and moves times forward, in memory first; one statement a table writes what came.

    What was added is written every `interval` seconds, when `size` rows wait, and by `close`. A process that is killed
    loses what it had not written: at most one interval of it, while the database takes writes. A write that fails is
    put back, and written with what comes later. Where the connection is lost during COMMIT nobody knows whether it
    happened: then it is **not** written again, so that nothing counts twice, and the log says so.

    Rows that are gone are left out, and the log says how many. Values that no column takes (a number that grows too
    large) cost their own row only. `capacity` rows may wait while the database is away; beyond that new ones are
    dropped, counted in `dropped`, and the log says so.

    The journal captures these writes as any other, with the actor `counters`. They leave `updated_at` and `version`
    alone: a row that is used is not edited. A key is enough: they do not ask whose the row is.

    Attributes:
        dropped: uses that were given up, for the log's reasons.

    Example::

        async with Counters(store) as counters:
            counters.add(ApiKey, key.id)          # usage_count + 1
            counters.touch(ApiKey, key.id)        # last_used_at = now
    """

    _name = "counters"
    _counted = "uses"
    _may_write_twice = False  # nothing tells that it counted already

    def __init__(self, store: Store, *, interval: float = 1.0, size: int = 5_000, capacity: int = 100_000) -> None:
        super().__init__(store, interval=interval, size=size, capacity=capacity)
        self._rows: dict[tuple[type[Model], Any], Row] = {}

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return len(self._rows)

    def add(
        self, model: type[Model], key: Any, column: str = "usage_count", by: int = 1, *, touching: str | None = None
    ) -> None:
        """Add `by` to a column of whole numbers, NULL counting as 0. Costs no statement; callable from any thread.

        Args:
            touching: a column of times that is moved forward to now along with it.

        Raises:
            InvalidValue: the model has no such column, it is of another kind, or `key` is none of the model's.
        """
        if type(by) is not int:
            raise InvalidValue(f"a counter is raised by a whole number, not by {by!r}")
        changes: Row = {_column(model, column, counts=True): by}
        if touching is not None:
            changes[_column(model, touching, counts=False)] = dt.datetime.now(dt.UTC)
        self._keep(model, key, changes)

    def touch(self, model: type[Model], key: Any, column: str = "last_used_at", at: dt.datetime | None = None) -> None:
        """Move a time forward to `at`, now unless given; one that is later already stays. As cheap as `add`.

        Raises:
            InvalidValue: as `add`; or `at` has no time zone.
        """
        if at is not None and at.tzinfo is None:
            raise InvalidValue("a time needs a time zone, as in datetime.now(UTC)")
        moment = dt.datetime.now(dt.UTC) if at is None else at.astimezone(dt.UTC)
        self._keep(model, key, {_column(model, column, counts=False): moment})

    def _keep(self, model: type[Model], key: Any, changes: Row) -> None:
        if self._closed:
            raise ConfigurationError("these counters are closed; what is counted now would never be written")
        place = (model, key_of(model).parse(key))
        with self._lock:
            row = self._rows.get(place)
            is_new = row is None
            if row is None:
                if len(self._rows) >= self._capacity:
                    self._drop(1, "full")
                    return
                row = self._rows[place] = {}
            for column, change in changes.items():
                row[column] = merged(row.get(column), change)
            waiting = len(self._rows)
        if is_new:
            self._came(waiting)

    def _take(self) -> dict[type[Model], list[Use]]:
        taken, self._rows = self._rows, {}
        by_table: dict[type[Model], list[Use]] = {}
        for (model, key), row in taken.items():
            by_table.setdefault(model, []).append((key, row))
        for rows in by_table.values():
            rows.sort(key=lambda item: item[0])
        return by_table

    def _put_back(self, model: type[Model], rows: list[Use]) -> None:
        for key, row in rows:
            newer = self._rows.setdefault((model, key), {})
            for column, change in row.items():
                newer[column] = merged(newer.get(column), change)

    async def _send(self, unit: Unit, model: type[Model], rows: list[Use]) -> int:
        with unit.translated():
            return await _send(await unit.connection(), model, rows)

    def _missed(self, model: type[Model], rows: int) -> None:
        self._log.info("counted_rows_are_gone", model=model.__name__, rows=rows)


def merged(one: Change | None, other: Change) -> Change:
    """Two changes of a column as one: numbers are added up, of times the later one stays. In any order the same."""
    if one is None:
        return other
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return max(one, other)


# Some hundred rows of some hundred thousand: PostgreSQL would rather read the whole table, which takes far longer.
_BY_KEY = text("SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)")


async def _send(connection: Any, model: type[Model], rows: Sequence[tuple[Any, Row]]) -> int:
    table: Table = model.__table__  # type: ignore[assignment]
    keys = key_of(model).columns
    names = tuple(sorted({name for _, row in rows for name in row}))
    counting = {name for name in names if not _is_time(table.c[name].type)}
    values = [
        {
            **{f"key_{n}": part for n, part in enumerate(key if len(keys) > 1 else (key,))},
            **{f"new_{name}": row.get(name, 0 if name in counting else None) for name in names},
        }
        for key, row in rows
    ]
    if connection.dialect.name == "sqlite":
        return int((await connection.execute(_one_by_one(table, keys, names), values)).rowcount)
    arrays = {f"{name}_": [row[name] for row in values] for name in values[0]}
    lock, statement = _from_arrays(table, keys, names)
    await connection.execute(_BY_KEY)
    # UPDATE locks rows in the order of its plan; two writers of the same rows must lock them in the same order.
    await connection.execute(lock, arrays)
    return int((await connection.execute(statement, arrays)).rowcount)


@lru_cache(maxsize=256)
def _one_by_one(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Update:
    """SQLite's: one prepared statement, run for each row in one transaction."""
    values: dict[str, Any] = _untouched(table)
    for name in names:
        column = table.c[name]
        new = bindparam(f"new_{name}", type_=column.type)
        if _is_time(column.type):
            values[name] = func.coalesce(func.max(func.coalesce(column, new), new), column)
        else:
            values[name] = func.coalesce(column, 0) + new
    where = [table.c[key] == bindparam(f"key_{n}", type_=table.c[key].type) for n, key in enumerate(keys)]
    return update(table).where(*where).values(values)


@lru_cache(maxsize=256)
def _from_arrays(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> tuple[Any, Update]:
    """PostgreSQL's: the rows locked in the order of their keys, and UPDATE … FROM one array a column."""
    given = {f"key_{n}": table.c[key].type for n, key in enumerate(keys)}
    given |= {f"new_{name}": table.c[name].type for name in names}
    arrays = (bindparam(f"{name}_", type_=ARRAY(kind, dimensions=1)) for name, kind in given.items())
    source = func.unnest(*arrays).table_valued(*given, name="given").render_derived()
    same = and_(*(table.c[key] == source.c[f"key_{n}"] for n, key in enumerate(keys)))
    columns = [table.c[key] for key in keys]
    lock = select(*columns).join(source, same).order_by(*columns).with_for_update(key_share=True, of=table)
    values: dict[str, Any] = _untouched(table)
    for name in names:
        new = source.c[f"new_{name}"]
        is_time = _is_time(table.c[name].type)
        values[name] = func.greatest(table.c[name], new) if is_time else func.coalesce(table.c[name], 0) + new
    return lock, update(table).where(same).values(values)


def _untouched(table: Table) -> dict[str, Any]:
    """What an update would set by itself, left as it is."""
    return {column.name: column for column in table.columns if column.onupdate is not None}


_columns: WeakKeyDictionary[type[Model], dict[tuple[str, bool], str]] = WeakKeyDictionary()


def _column(model: type[Model], name: str, *, counts: bool) -> str:
    known = _columns.setdefault(model, {})
    found = known.get((name, counts))
    if found is not None:
        return found
    attributes = {a.key: a.columns[0] for a in inspect(model).column_attrs}
    column = attributes.get(name)
    if column is None:
        raise InvalidValue(f"{model.__name__} has no column {name!r}; it has {', '.join(sorted(attributes))}")
    kind, wanted = (_is_count, "whole numbers") if counts else (_is_time, "times")
    if not kind(column.type) or column.primary_key or column.foreign_keys:
        raise InvalidValue(f"{model.__name__}.{name} is no column of {wanted} that counters can write")
    known[name, counts] = str(column.name)
    return str(column.name)


def _is_time(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind, UtcTime)


def _is_count(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind.impl_instance if isinstance(kind, TypeDecorator) else kind, Integer)
