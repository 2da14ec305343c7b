"""What is captured: from models to triggers in the database, and whether they are all there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import JournalError
from holdfast.journal import capture_postgres, capture_sqlite, schema
from holdfast.journal.kinds import kind_of
from holdfast.journal.shapes import Column, Shape
from holdfast.model import Model


class CapturedTable(msgspec.Struct, frozen=True, kw_only=True):
    """What capture must know of a table.

    Attributes:
        name: the table, in the application's schema.
        shape: its key, tenant and facts, in the order in which they are written.
        nullable: the names of the shape's columns that may be NULL.
        unique: the columns of each unique constraint beside the key.
        truncate: False when TRUNCATE is to be refused.
    """

    name: str
    shape: Shape
    nullable: frozenset[str]
    unique: tuple[tuple[str, ...], ...]
    truncate: bool


def captured_table(model: type[Model]) -> CapturedTable | None:
    """What capture must know of `model`; None when its policy keeps it out of the journal."""
    policy = model.__policy__
    if not policy.capture:
        return None
    table: Table = model.__table__  # type: ignore[assignment]
    if table.schema is not None:
        raise JournalError(
            f"{model.__name__} is in the schema {table.schema!r}; captured tables live in the application's own schema:"
            " leave `schema` out and set search_path, or say Policy(capture=False)"
        )

    def column(name: str) -> Column:
        return Column(str(name), kind_of(table.columns[name].type))

    shape = Shape(
        table=str(table.name),
        key=tuple(column(c.name) for c in table.primary_key.columns),
        tenant=column(policy.tenant) if policy.tenant else None,
        facts=tuple(column(name) for name in policy.needs(model)),
    )
    names = {c.name for c in (*shape.key, *shape.facts)} | ({policy.tenant} if policy.tenant else set())
    keys = [item.columns for item in table.constraints if isinstance(item, UniqueConstraint)]
    keys += [index.columns for index in table.indexes if index.unique]
    return CapturedTable(
        name=str(table.name),
        shape=shape,
        nullable=frozenset(name for name in names if table.columns[name].nullable),
        unique=tuple(sorted(tuple(str(c.name) for c in columns) for columns in keys)),
        truncate=policy.truncate,
    )


def captured_tables(models: Iterable[type[Model]]) -> list[CapturedTable]:
    """What capture must know of each captured model."""
    return [table for model in models if (table := captured_table(model)) is not None]


async def install(connection: AsyncConnection, models: Iterable[type[Model]]) -> None:
    """Make the journal's own tables and every captured model's triggers, in the connection's transaction.

    May be repeated: triggers are replaced by those of the models as they are now (new facts, new partitions, tables
    that a batch migration made anew). What is captured in between is not lost: it is one transaction.

    Raises:
        JournalError: the database was written by a newer version, or a table has no way to be captured.
    """
    await schema.install(connection)
    for table in captured_tables(models):
        await install_table(connection, table)


async def install_table(connection: AsyncConnection, table: CapturedTable) -> None:
    """Make or replace the triggers of one table; the journal's own tables are there already.

    Raises:
        JournalError: the table does not exist, or has no way to be captured.
    """
    number = await _shape_number(connection, table.shape)
    dialect: Any = capture_sqlite if connection.dialect.name == "sqlite" else capture_postgres
    for statement in await dialect.statements(connection, table, number):
        await connection.exec_driver_sql(statement)


async def release_table(connection: AsyncConnection, name: str) -> None:
    """Remove the triggers of the table `name`: its writes are in no journal from then on."""
    dialect: Any = capture_sqlite if connection.dialect.name == "sqlite" else capture_postgres
    for statement in await dialect.removal(connection, name):
        await connection.exec_driver_sql(statement)


async def verify(connection: AsyncConnection, models: Iterable[type[Model]]) -> list[str]:
    """What is missing, disabled or outdated in the capture of `models`, a sentence each; empty when it is whole.

    `install` mends all of it. What was written meanwhile is in no journal: the followers must rebuild.
    """
    wrong = await schema.verify(connection)
    if wrong is not None:
        return [wrong]
    problems = []
    dialect: Any = capture_sqlite if connection.dialect.name == "sqlite" else capture_postgres
    for table in captured_tables(models):
        number = await _known_shape(connection, table.shape)
        if number is None:
            problems.append(f"{table.name} is not captured with its present facts")
        else:
            problems += await dialect.verify(connection, table, number)
    return problems


async def _shape_number(connection: AsyncConnection, shape: Shape) -> int:
    insert = "INSERT INTO holdfast_shapes (tbl, definition) VALUES ({0}, {1}) ON CONFLICT (definition) DO NOTHING"
    marks = ("?", "?") if connection.dialect.name == "sqlite" else ("$1", "$2")
    await connection.exec_driver_sql(insert.format(*marks), (shape.table, shape.definition()))
    number = await _known_shape(connection, shape)
    assert number is not None
    return number


async def _known_shape(connection: AsyncConnection, shape: Shape) -> int | None:
    mark = "?" if connection.dialect.name == "sqlite" else "$1"
    found = await connection.exec_driver_sql(
        f"SELECT id FROM holdfast_shapes WHERE definition = {mark}",  # noqa: S608  a placeholder
        (shape.definition(),),
    )
    return found.scalar()
