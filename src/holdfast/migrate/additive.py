"""Brings a database to where the models are: what is missing is made, nothing is dropped or altered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    DefaultClause,
    Index,
    MetaData,
    Table,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.errors import MigrationError
from holdfast.migrate import tenant_policies, triggers
from holdfast.migrate.partitions import keep_partitions
from holdfast.migrate.schema import reading_indexes, written_indexes
from holdfast.model import Model, models_of
from holdfast.store import Store, search_index
from holdfast.store.search import search_indexes

_LOCK = 0x686F6C64  # "hold": one runner at a time on PostgreSQL; SQLite has one writer anyway


@dataclass(slots=True)
class Difference:
    """What the models have and the database lacks."""

    tables: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)  # `table.column`
    capture: list[str] = field(default_factory=list)  # what is wrong with it, a sentence each
    migrations: list[str] = field(default_factory=list)  # where there is a folder of them

    def __bool__(self) -> bool:
        return bool(self.tables or self.indexes or self.columns or self.capture or self.migrations)

    def lines(self) -> list[str]:
        """One line a difference."""
        return [
            *(f"table {name} is missing" for name in self.tables),
            *(f"column {name} is missing" for name in self.columns),
            *(f"index {name} is missing" for name in self.indexes),
            *self.capture,
            *(f"migration {name} is not applied" for name in self.migrations),
        ]


async def pending(store: Store, metadatas: Sequence[MetaData], models: Sequence[type[Model]]) -> Difference:
    """What `migrate_up` would do now."""
    async with store.connect() as connection:
        difference = await connection.run_sync(_difference, metadatas)
        if not difference.tables:
            difference.capture = await unsound(store, connection, models)
        return difference


async def migrate_up(store: Store, metadatas: Sequence[MetaData], models: Sequence[type[Model]]) -> Difference:
    """Make what is missing, in one transaction, and return what was made. Doing it again changes nothing.

    Raises:
        MigrationError: a table lacks a column that cannot be added without a value for the rows that are there.
        Unavailable: the database cannot be reached, or is read-only or full.
    """
    async with store.connect(write=True) as connection:
        if store.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        made = await connection.run_sync(make_missing, metadatas)
        made.tables += await keep_partitions(connection, models)
        made.capture = await unsound(store, connection, models)
        await make_sound(store, connection, models)
        return made


async def unsound(store: Store, connection: AsyncConnection, models: Sequence[type[Model]]) -> list[str]:
    """What is not whole of the capture of `models`, and of their row security where it is on; a sentence each."""
    problems = await triggers.verify(connection, models)
    if store.row_security:
        problems += await tenant_policies.verify(connection, models)
    return problems


async def make_sound(store: Store, connection: AsyncConnection, models: Sequence[type[Model]]) -> None:
    """Make it whole."""
    if await triggers.verify(connection, models):
        await triggers.install(connection, models)
    if store.row_security:
        await tenant_policies.install(connection, models)


def make_missing(connection: Connection, metadatas: Sequence[MetaData]) -> Difference:
    """Make the tables, columns and indexes that are not there; returns which."""
    difference = _difference(connection, metadatas)
    missing = set(difference.tables)
    for metadata in metadatas:
        for table in metadata.sorted_tables:
            if table.name in missing:
                connection.execute(CreateTable(table))
                for index in table.indexes:
                    connection.execute(CreateIndex(index))
            else:
                _complete(connection, table, difference)
        for search in search_indexes(models_of(metadata)):
            if search.table in missing or search.name in difference.indexes:
                search_index.create(connection, search)
    return difference


def _complete(connection: Connection, table: Table, difference: Difference) -> None:
    for column in table.columns:
        if f"{table.name}.{column.name}" in difference.columns:
            if not column.nullable and column.server_default is None:
                raise MigrationError(
                    f"{table.name}.{column.name} is new and NOT NULL, but the rows that are there have no value for it;"
                    " declare it nullable or with a server_default"
                )
            _add_column(connection, table, column)
    for index in table.indexes:
        if index.name in difference.indexes:
            connection.execute(CreateIndex(index))


def _add_column(connection: Connection, table: Table, column: Column[Any]) -> None:
    compiler: Any = connection.dialect.ddl_compiler(connection.dialect, None)  # type: ignore[arg-type]
    specification = compiler.get_column_specification(column)
    # A negative literal stands in parentheses as well, and is constant.
    is_computed = "DEFAULT (" in specification and not isinstance(_default_of(column), BindParameter)
    if is_computed and connection.dialect.name == "sqlite":
        rows = connection.execute(select(literal(1)).select_from(table).limit(1)).first()
        if rows is not None:
            raise MigrationError(
                f"{table.name}.{column.name} is new and has a computed default, which SQLite cannot give to the rows"
                " that are there; declare it nullable or with a constant server_default"
            )
    # Not as text(…), which takes ":word" in a default for a parameter.
    connection.exec_driver_sql(f"ALTER TABLE {_quoted(connection, table.name)} ADD COLUMN {specification}")


def _default_of(column: Column[Any]) -> Any:
    default = column.server_default
    return default.arg if isinstance(default, DefaultClause) else None


def _difference(connection: Connection, metadatas: Sequence[MetaData]) -> Difference:
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    difference = Difference()
    for metadata in metadatas:
        for table in metadata.sorted_tables:
            if table.name not in present:
                difference.tables.append(str(table.name))
                continue
            columns = {c["name"] for c in inspector.get_columns(table.name)}
            difference.columns.extend(f"{table.name}.{c.name}" for c in table.columns if c.name not in columns)
            with reading_indexes():
                indexes = {i["name"] for i in inspector.get_indexes(table.name)}
            if connection.dialect.name == "sqlite":
                indexes |= written_indexes(connection, table.name).keys()
            difference.indexes.extend(str(i.name) for i in _sorted(table.indexes) if i.name not in indexes)
        difference.indexes.extend(
            search.name
            for search in search_indexes(models_of(metadata))
            if search.table in present and not search_index.is_there(connection, search)
        )
    return difference


def _sorted(indexes: set[Index]) -> list[Index]:
    return sorted(indexes, key=lambda i: str(i.name))


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)
