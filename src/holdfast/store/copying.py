"""COPY: many rows into PostgreSQL by the driver's binary protocol, in the unit's own transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import HoldfastError, InvalidValue
from holdfast.store.binding import bound

LEAST = 200
"""Rows from which on COPY is quicker than one INSERT from arrays."""

Row = dict[str, Any]


def fits(dialect: Dialect, table: Table, rows: Sequence[Row]) -> bool:
    """Whether `rows`, all with the same columns, go by COPY: there are many, and none needs SQL to be written."""
    if dialect.name != "postgresql" or len(rows) < LEAST:
        return False
    return not any(column.type._has_bind_expression for column in _written(table, rows[0]))


async def copy(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> int:
    """Copy `rows` in, with the defaults of the columns that they leave out; returns how many.

    Raises:
        InvalidValue: a value is not what its column holds. What the driver raises is not translated.
    """
    columns = _written(table, rows[0])
    values = [_values(table, column, rows, connection.dialect) for column in columns]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if not driver.is_in_transaction():
        await connection.exec_driver_sql("SELECT 1")  # SQLAlchemy says BEGIN with its first statement
    # The values are made while they are sent, so that the server has work meanwhile.
    try:
        await driver.copy_records_to_table(
            table.name, records=zip(*values, strict=True), columns=[c.name for c in columns], schema_name=table.schema
        )
        return len(rows)
    except HoldfastError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        problem = type(error).__name__  # the driver's encoders have no error of their own, and quote the value
    raise InvalidValue(f"{table.name} cannot hold a value of the type that was given ({problem} as it was copied)")


def _written(table: Table, row: Row) -> list[Column[Any]]:
    """The columns that are given, and those whose default Python makes."""
    return [c for c in table.columns if c.name in row or _default(c) is not None]


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    return default if default is not None and (default.is_scalar or default.is_callable) else None


def _values(table: Table, column: Column[Any], rows: Sequence[Row], dialect: Dialect) -> Iterator[Any]:
    name = column.name
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    given: Iterator[Any]
    if name in rows[0]:
        given = (row[name] for row in rows)
    elif _default(column).is_callable:
        make = _default(column).arg
        given = (make(None) for _ in rows)
    else:
        scalar = _default(column).arg
        given = (scalar for _ in rows)
    return given if bind is None else bound(column, bind, given)
