"""Many rows in one statement, without the session's bookkeeping.

SQLite takes them by executemany, which reports how many rows it wrote. PostgreSQL takes one array a column
and unnests them: one statement of constant text whatever the number of rows, so it is compiled and planned
once, capture fires once, and the number of rows written comes back (executemany does not say).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ARRAY, Insert, Table, bindparam, func, inspect, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.errors import InvalidValue
from holdfast.model import Model

_ROWS = 10_000  # a statement: bounds the memory of one round trip
_KEEP = ("id", "created_at", "version")  # what an update of an existing row leaves alone unless told


async def insert(session: AsyncSession, model: type[Model], rows: Sequence[Model | dict[str, Any]]) -> int:
    """Insert `rows` by the driver's executemany; returns how many."""
    values = [_values(model, row) for row in rows]
    if values:
        connection = await session.connection()
        await connection.execute(model.__table__.insert(), values)  # type: ignore[attr-defined]
    return len(values)


async def upsert(
    session: AsyncSession,
    model: type[Model],
    rows: Sequence[Model | dict[str, Any]],
    on: Sequence[str],
    update_columns: Sequence[str] | None,
) -> int:
    """INSERT … ON CONFLICT; returns the rows inserted or changed."""
    if not rows:
        return 0
    table: Table = model.__table__  # type: ignore[assignment]
    unknown = [name for name in (*on, *(update_columns or ())) if name not in table.columns]
    if unknown:
        raise InvalidValue(f"{model.__name__} has no column {unknown[0]!r}; it has {', '.join(table.columns.keys())}")
    values = [_values(model, row) for row in rows]
    names = values[0].keys()
    if any(v.keys() != names for v in values):
        raise InvalidValue(f"the rows to upsert into {table.name} must all give the same columns")
    changed = [n for n in names if n not in on and n not in _KEEP] if update_columns is None else list(update_columns)
    values = _with_defaults(table, _last_by_key(values, on))
    connection = await session.connection()
    written = 0
    if connection.dialect.name == "sqlite":
        statement = _on_conflict(table, sqlite.insert(table), on, changed)
        for part in _parts(values):
            written += (await connection.execute(statement, part)).rowcount
        return written
    statement = _on_conflict(table, _insert_arrays(table, list(values[0])), on, changed)
    for part in _parts(values):
        arrays = {f"{name}_": [row[name] for row in part] for name in part[0]}
        written += (await connection.execute(statement, arrays)).rowcount
    return written


def _insert_arrays(table: Table, names: Sequence[str]) -> postgresql.Insert:
    """INSERT … SELECT from one array parameter a column, named after it with `_` behind."""
    arrays = (bindparam(f"{name}_", type_=ARRAY(table.c[name].type)) for name in names)
    source = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return postgresql.insert(table).from_select(names, select(*(source.c[name] for name in names)))


def _on_conflict(table: Table, statement: Any, on: Sequence[str], changed: Sequence[str]) -> Insert:
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=list(on))  # type: ignore[no-any-return]
    new = statement.excluded
    updates: dict[str, Any] = {name: new[name] for name in changed}
    differs = or_(*(table.c[name].is_distinct_from(new[name]) for name in changed if name != "updated_at"))
    if "version" in table.columns:
        updates["version"] = table.c.version + 1
    return statement.on_conflict_do_update(index_elements=list(on), set_=updates, where=differs)  # type: ignore[no-any-return]


def _values(model: type[Model], row: Model | dict[str, Any]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if not isinstance(row, model):
        raise InvalidValue(f"{row!r} is no {model.__name__}")
    return {name: row.__dict__[name] for name in inspect(model).column_attrs.keys() if name in row.__dict__}


def _with_defaults(table: Table, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with what the columns' Python defaults give: INSERT … SELECT would evaluate each of them only once."""
    missing = [c for c in table.columns if c.default is not None and c.name not in values[0]]
    for column in missing:
        default: Any = column.default
        if default.is_scalar:
            values = [{**row, column.name: default.arg} for row in values]
        elif default.is_callable:
            values = [{**row, column.name: default.arg(None)} for row in values]
    return values


def _last_by_key(values: list[dict[str, Any]], on: Sequence[str]) -> list[dict[str, Any]]:
    """One row a key: PostgreSQL refuses to touch a row twice in one statement, and the last one is what is meant."""
    if not all(name in values[0] for name in on):
        return values
    return list({tuple(v[name] for name in on): v for v in values}.values())


def _parts(values: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(values), _ROWS):
        yield values[start : start + _ROWS]
