"""Many rows in one statement, without the session's bookkeeping.

SQLite takes them by executemany, which reports how many rows it wrote. PostgreSQL takes many new rows by COPY (see
`copying`). A few, and rows that may be there already, it takes as one array a column and unnests them: one statement
of constant text whatever the number of rows, so it is compiled and planned once, capture fires once, and the number
of rows written comes back (executemany does not say).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Dialect,
    Insert,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    inspect,
    literal_column,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql import ClauseElement

from holdfast.errors import InvalidValue
from holdfast.model import Attributed, Encrypted, Model, SoftDeleted, Versioned, model_of
from holdfast.model.encrypted import Blinded, blind_columns, encrypted_columns
from holdfast.store import copying
from holdfast.store.binding import all_bound, unfit
from holdfast.store.flushing import other_tenant
from holdfast.store.scope import Scope
from holdfast.store.slow_queries import ROWS
from holdfast.store.whole_numbers import are_whole, as_whole

Row = dict[str, Any]
Conflict = tuple[tuple[str, ...], tuple[str, ...]]  # the columns of a unique key, the columns to overwrite

_ROWS = 10_000  # a statement: bounds the memory of one round trip
_PARAMETERS = 30_000  # a statement of VALUES: PostgreSQL's protocol takes 32,767
_KEEP = ("created_at", "created_by", "version")  # beside the key what an update leaves alone unless told


async def insert(session: AsyncSession, scope: Scope, model: type[Model], rows: Sequence[Model | Row]) -> int:
    """Insert `rows`; returns how many."""
    table: Table = model.__table__  # type: ignore[assignment]
    values = _alike(table, _owned(scope, model, _values(model, rows)))
    await session.flush()
    connection = await session.connection()
    for _, group in groupby(values, key=tuple):
        alike = list(group)
        if copying.fits(connection.dialect, table, alike):
            await copying.copy(connection, table, alike)
            continue
        for part in _parts(_with_defaults(table, alike)):
            await _send(connection, table, part, None)
    return len(values)


async def upsert(
    session: AsyncSession,
    scope: Scope,
    model: type[Model],
    rows: Sequence[Model | Row],
    on: Sequence[str],
    update_columns: Sequence[str] | None,
) -> int:
    """INSERT … ON CONFLICT; returns the rows inserted or changed."""
    if not rows:
        return 0
    table: Table = model.__table__  # type: ignore[assignment]
    for name in (*on, *(update_columns or ())):
        _check_column(table, name)
    values = _values(model, rows)
    given = values[0].keys()
    for name in given:
        _check_column(table, name)
    if any(v.keys() != given for v in values):
        raise InvalidValue(f"the rows to upsert into {table.name} must all give the same columns")
    values = _owned(scope, model, values)
    names = values[0].keys()
    keep = {*_KEEP, *(c.name for c in table.primary_key.columns), model.__policy__.tenant}
    changed = [n for n in names if n not in on and n not in keep] if update_columns is None else list(update_columns)
    for name in update_columns or ():
        if name not in names and table.c[name].onupdate is None:
            raise InvalidValue(f"update_columns names {name}, which no row gives; give it, or leave it out")
    if model.__policy__.tenant in changed:
        raise InvalidValue(f"a row of {model.__name__} stays with its tenant; leave it out of update_columns")
    changed += [blind for name, blind in blind_columns(table).items() if name in changed and blind not in changed]
    conflict = (tuple(on), tuple(changed))
    if changed:
        values = _last_by_key(values, on)
    await session.flush()
    connection = await session.connection()
    return sum([await _send(connection, table, part, conflict) for part in _parts(_with_defaults(table, values))])


async def write(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], conflict: Conflict | None = None
) -> int:
    """Insert `rows`, which all tenants' units may have made, without a session; returns the rows written.

    Args:
        conflict: the columns of a unique key, and which columns a row that is there gets; none leaves it alone.
    """
    for name in (*conflict[0], *conflict[1]) if conflict is not None else ():
        _check_column(table, name)
    for column, blind in blind_columns(table).items():
        rows = [{**row, blind: Blinded(row[column])} if column in row else row for row in rows]
    written = 0
    for _, group in groupby(_alike(table, list(rows)), key=tuple):
        values = _with_defaults(table, list(group))
        values = _last_by_key(values, conflict[0]) if conflict is not None else values
        written += sum([await _send(connection, table, part, conflict) for part in _parts(values)])
    return written


def _owned(scope: Scope, model: type[Model], rows: list[Row]) -> list[Row]:
    """Rows with whose they are and who wrote them.

    Raises:
        WrongTenant: a row names another tenant than the unit, or the unit names none.
    """
    if issubclass(model, Attributed):
        rows = [{"created_by": scope.actor, "updated_by": scope.actor, **row} for row in rows]
    for column, blind in blind_columns(model.__table__).items():
        rows = [{**row, blind: Blinded(row[column])} if column in row else row for row in rows]
    value = scope.tenant_of(model)
    if value is None:
        return rows
    name = model.__policy__.tenant or ""
    if any(row.get(name) not in (None, value) for row in rows):
        raise other_tenant(model)
    return [{**row, name: value} for row in rows]


async def _send(connection: AsyncConnection, table: Table, rows: list[Row], conflict: Conflict | None) -> int:
    names = tuple(rows[0])
    if connection.dialect.name == "sqlite":
        text, columns = _positional(table, names, conflict, connection.dialect)
        bound = zip(*(_bound(table, name, bind, rows) for name, bind in columns), strict=True)
        return (await connection.exec_driver_sql(text, list(bound))).rowcount
    if not any(_spreads(table.c[name]) for name in names):
        arrays = {f"{name}_": [row[name] for row in rows] for name in names}
        statement = _from_arrays(table, names, conflict)
        return (await connection.execute(statement, arrays, execution_options={ROWS: len(rows)})).rowcount
    step = max(1, _PARAMETERS // len(names))
    multiple = _on_conflict(table, postgresql.insert(table), conflict)
    written = 0
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        for name in names:  # else SQLAlchemy would write an expression out, which nothing confines
            for row in part:
                if isinstance(row[name], ClauseElement):
                    raise unfit(table.c[name], row[name], "an expression")
        options = {ROWS: len(part)}
        written += (await connection.execute(multiple.values(part), execution_options=options)).rowcount
    return written


def _bound(table: Table, name: str, bind: Callable[[Any], Any] | None, rows: list[Row]) -> list[Any]:
    """The values of one column, as the driver takes them."""
    plain = [row[name] for row in rows]
    if bind is None:
        return plain
    if bind is not as_whole:
        return all_bound(table.c[name], bind, plain)
    if not are_whole(plain):
        raise unfit(table.c[name], next(value for value in plain if not are_whole([value])), "not a whole number")
    return plain


@lru_cache(maxsize=256)
def _positional(
    table: Table, names: tuple[str, ...], conflict: Conflict | None, dialect: Dialect
) -> tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]:
    """The statement's text, and its parameters in order: the column, and how its values are bound.

    To let SQLAlchemy make each row's parameters would take longer than SQLite takes for the row.
    """
    statement = _on_conflict(table, sqlite.insert(table), conflict)
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names), for_executemany=True)
    order: Sequence[str] = compiled.positiontup
    binders = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names}
    return compiled.string, [(name, binders[name]) for name in order]


@lru_cache(maxsize=256)
def _from_arrays(table: Table, names: tuple[str, ...], conflict: Conflict | None) -> Insert:
    """INSERT … SELECT from one array parameter a column, named after it with `_` behind."""
    arrays = (bindparam(f"{name}_", type_=ARRAY(table.c[name].type, dimensions=1)) for name in names)
    source = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    statement = postgresql.insert(table).from_select(
        list(names), select(*(source.c[name] for name in names)), include_defaults=False
    )
    return _on_conflict(table, statement, conflict)


def _on_conflict(table: Table, statement: Any, conflict: Conflict | None) -> Insert:
    if conflict is None:
        return statement  # type: ignore[no-any-return]
    on, changed = conflict
    where = _index_condition(table, on)
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=on, index_where=where)  # type: ignore[no-any-return]
    new = statement.excluded
    model = model_of(table) or Model
    # What an update sets by itself (updated_at) is set here too, and is no reason to update.
    touched = {c.name for c in table.columns if c.onupdate is not None and c.default is not None} - set(on)
    if issubclass(model, Attributed):
        touched.add("updated_by")
    updates: dict[str, Any] = {name: new[name] for name in {*changed, *touched}}
    skipped = touched | _told_apart(table)
    differs = [_raw(table.c[n]).is_distinct_from(_raw(new[n])) for n in changed if n not in skipped]
    if issubclass(model, Versioned):
        updates["version"] = table.c.version + literal_column("1")
    conditions = [or_(*differs)] if differs else []
    if issubclass(model, SoftDeleted):
        conditions.append(table.c.deleted_at.is_(None))
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=on, index_where=where, set_=updates, where=and_(*conditions) if conditions else None
    )


def _raw(column: Any) -> Any:
    """`column` as it is stored: what is encrypted refuses to be compared, and PostgreSQL compares no `json`."""
    if isinstance(column.type, JSON):
        return cast(column, String)
    return type_coerce(column, LargeBinary()) if isinstance(column.type, Encrypted) else column


def _told_apart(table: Table) -> set[str]:
    """Encrypted columns whose blind index tells whether they differ: two ciphertexts always do."""
    return {str(c.name) for c in encrypted_columns(table) if c.type.blind and c.type.normalise is None}


def _index_condition(table: Table, on: tuple[str, ...]) -> Any:
    """The condition of the partial unique index on these columns, without which it is not recognised; or None."""
    for index in table.indexes:
        if index.unique and {c.name for c in index.columns} == set(on):
            return index.dialect_options["postgresql"]["where"]
    return None


def _values(model: type[Model], rows: Sequence[Model | Row]) -> list[Row]:
    """Each row as a dictionary by column name."""
    attributes = {a.key: a.columns[0].name for a in inspect(model).column_attrs}
    renamed = any(key != name for key, name in attributes.items())
    found: list[Row] = []
    for row in rows:
        if not isinstance(row, dict):
            if not isinstance(row, model):
                raise InvalidValue(f"a row for {model.__name__} is one of its instances or a dict, not {type(row)}")
            given = row.__dict__
            found.append({name: given[key] for key, name in attributes.items() if key in given})
        else:
            found.append({attributes.get(key, key): value for key, value in row.items()} if renamed else row)
    return found


def _alike(table: Table, rows: list[Row]) -> list[Row]:
    """Rows with the same columns in the same order, as far as NULL is what a missing one means."""
    if not rows:
        return rows
    first = list(rows[0])
    if all(list(row) == first for row in rows):
        names = first
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        _check_column(table, name)
    if names is first:
        return rows
    without = {n for n in names if table.c[n].default is None and table.c[n].server_default is None}
    return [{n: row.get(n) for n in names if n in row or n in without} for row in rows]


def _check_column(table: Table, name: str) -> None:
    if name not in table.columns:
        raise InvalidValue(f"{table.name} has no column {name!r}; it has {', '.join(table.columns.keys())}")


def _with_defaults(table: Table, rows: list[Row]) -> list[Row]:
    """Rows with what the columns' Python defaults give: INSERT … SELECT would evaluate each of them only once."""
    missing = [c for c in table.columns if c.default is not None and c.name not in rows[0]]
    for column in missing:
        default: Any = column.default
        if default.is_scalar:
            rows = [{**row, column.name: default.arg} for row in rows]
        elif default.is_callable:
            rows = [{**row, column.name: default.arg(None)} for row in rows]
    return rows


def _last_by_key(rows: list[Row], on: Sequence[str]) -> list[Row]:
    """One row a key: PostgreSQL refuses to touch a row twice in one statement, and the last one is what is meant."""
    if not all(name in rows[0] for name in on):
        return rows
    last: dict[Any, Row] = {}
    for number, row in enumerate(rows):
        key = tuple(row[name] for name in on)
        last[number if None in key else key] = row  # NULLs are not equal
    return list(last.values())


def _spreads(column: Column[Any]) -> bool:
    """Whether unnest would take the values apart (arrays), or a NULL among them for another (JSON)."""
    return isinstance(getattr(column.type, "impl_instance", column.type), ARRAY | JSON)


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]
