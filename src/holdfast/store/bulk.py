"""Many rows in one statement, without the session's bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Insert, Table, inspect, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.errors import InvalidValue
from holdfast.model import Model

_PARAMETERS = 30_000  # a statement: SQLite takes 32,766, PostgreSQL's protocol 32,767
_KEEP = ("id", "created_at", "version")


async def insert(session: AsyncSession, model: type[Model], rows: Sequence[Model | dict[str, Any]]) -> int:
    """Insert `rows` by the driver's executemany; returns how many."""
    values = [_values(model, row) for row in rows]
    if values:
        connection = await session.connection()
        await connection.execute(model.__table__.insert(), values)
    return len(values)


async def upsert(
    session: AsyncSession,
    model: type[Model],
    rows: Sequence[Model | dict[str, Any]],
    on: Sequence[str],
    update_columns: Sequence[str] | None,
) -> int:
    """INSERT … ON CONFLICT over multi-row statements; returns the rows inserted or changed."""
    if not rows:
        return 0
    table: Table = model.__table__  # type: ignore[assignment]
    unknown = [name for name in (*on, *(update_columns or ())) if name not in table.columns]
    if unknown:
        raise InvalidValue(f"{model.__name__} has no column {unknown[0]!r}; it has {', '.join(table.columns.keys())}")
    connection = await session.connection()
    values = [_values(model, row) for row in rows]
    names = list(values[0])
    if any(list(v) != names for v in values):
        raise InvalidValue(f"the rows to upsert into {table.name} must all give the same columns")
    changed = [n for n in names if n not in on and n not in _KEEP] if update_columns is None else list(update_columns)
    statement = _upsert(connection.dialect.name, table, on, changed)
    written = 0
    for part in _parts(_last_by_key(values, on), len(table.columns)):
        written += (await connection.execute(statement.values(part))).rowcount
    return written


def _upsert(dialect: str, table: Table, on: Sequence[str], changed: Sequence[str]) -> Insert:
    statement = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=list(on))
    new = statement.excluded
    updates: dict[str, Any] = {name: new[name] for name in changed}
    differs = or_(*(table.c[name].is_distinct_from(new[name]) for name in changed if name != "updated_at"))
    if "version" in table.columns:
        updates["version"] = table.c.version + 1
    return statement.on_conflict_do_update(index_elements=list(on), set_=updates, where=differs)


def _values(model: type[Model], row: Model | dict[str, Any]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if not isinstance(row, model):
        raise InvalidValue(f"{row!r} is no {model.__name__}")
    return {name: row.__dict__[name] for name in inspect(model).column_attrs.keys() if name in row.__dict__}


def _last_by_key(values: list[dict[str, Any]], on: Sequence[str]) -> list[dict[str, Any]]:
    """One row a key: PostgreSQL refuses to touch a row twice in one statement, and the last one is what is meant."""
    if not all(name in values[0] for name in on):
        return values
    return list({tuple(v[name] for name in on): v for v in values}.values())


def _parts(values: list[dict[str, Any]], width: int) -> Iterator[list[dict[str, Any]]]:
    step = max(1, _PARAMETERS // width)
    for start in range(0, len(values), step):
        yield values[start : start + step]
