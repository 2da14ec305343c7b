"""The journal's own tables: made from scratch, with a version."""

from __future__ import annotations

import secrets
from importlib import resources

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import JournalError
from holdfast.journal.clock import UNIX_NOW

VERSION = 3

_EMIT = ".holdfast_emit("
_COUNTED = (  # version 2: what followers did
    ("handled", {"postgresql": "bigint NOT NULL DEFAULT 0", "sqlite": "INTEGER NOT NULL DEFAULT 0"}),
    ("failures", {"postgresql": "bigint NOT NULL DEFAULT 0", "sqlite": "INTEGER NOT NULL DEFAULT 0"}),
    ("last_error", {"postgresql": "text", "sqlite": "TEXT"}),
    ("last_failed", {"postgresql": "double precision", "sqlite": "REAL"}),
)


def statements(dialect: str, schema: str = "") -> list[str]:
    """The statements that make the journal's tables and functions; `schema` is quoted, for PostgreSQL."""
    script = resources.files("holdfast.journal").joinpath("sql", f"{dialect}.sql").read_text("utf-8")
    return [statement.strip() for statement in script.replace("@schema@", schema).split("\n--\n") if statement.strip()]


async def install(connection: AsyncConnection) -> None:
    """Make what is not there.

    Raises:
        JournalError: the journal was made by a newer version than this one.
    """
    version = await _version(connection)
    if version == VERSION:
        return
    if version is not None:
        await _upgrade(connection, version)
        return
    dialect = connection.dialect.name
    schema = "" if dialect == "sqlite" else await quoted_schema(connection)
    for statement in statements(dialect, schema):
        await connection.exec_driver_sql(statement)
    # The identity is what this database is not yet known by: the first look at it begins epoch 1.
    if dialect == "sqlite":
        await connection.exec_driver_sql(
            "INSERT INTO holdfast_epoch (one, number, identity, began, schema_version)"  # noqa: S608
            f" VALUES (1, 0, ?, {UNIX_NOW['sqlite']}, ?)",
            (f"new {secrets.token_hex(8)}", VERSION),
        )
    else:
        await connection.exec_driver_sql(
            "INSERT INTO holdfast_epoch (number, identity, schema_version) VALUES (0, $1, $2)",
            (f"new {secrets.token_hex(8)}", VERSION),
        )


async def verify(connection: AsyncConnection) -> str | None:
    """What is wrong with the journal's tables, or None."""
    version = await _version(connection)
    if version is None:
        return "the database has no journal"
    if version < VERSION:
        return f"the journal has version {version}, and this program needs {VERSION}"
    return None


async def quoted_schema(connection: AsyncConnection) -> str:
    """The application's schema on PostgreSQL, quoted.

    Raises:
        JournalError: search_path names no schema that exists.
    """
    schema = (await connection.exec_driver_sql("SELECT current_schema()")).scalar()
    if schema is None:
        raise JournalError(
            "search_path names no schema that exists; create the schema, or set search_path for this role"
        )
    return connection.dialect.identifier_preparer.quote_identifier(schema)


async def _upgrade(connection: AsyncConnection, version: int) -> None:
    """Bring the tables of an older version to this one; what they hold stays."""
    dialect = connection.dialect.name
    if version < 2:
        for name, kinds in _COUNTED:
            await connection.exec_driver_sql(f"ALTER TABLE holdfast_followers ADD COLUMN {name} {kinds[dialect]}")
    if dialect == "postgresql":  # version 3: the function that takes events looks at them
        for statement in statements(dialect, await quoted_schema(connection)):
            if _EMIT in statement:
                await connection.exec_driver_sql(statement)
    await connection.exec_driver_sql(f"UPDATE holdfast_epoch SET schema_version = {VERSION}")  # noqa: S608  a constant


async def _version(connection: AsyncConnection) -> int | None:
    if connection.dialect.name == "sqlite":
        there = "SELECT count(*) FROM sqlite_master WHERE name = 'holdfast_epoch'"
    else:
        there = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('holdfast_epoch')"
    if not (await connection.exec_driver_sql(there)).scalar():
        return None
    version = (await connection.exec_driver_sql("SELECT schema_version FROM holdfast_epoch")).scalar()
    if version is not None and version > VERSION:
        raise JournalError(
            f"the journal of this database has version {version}, this program knows {VERSION};"
            " install the version of holdfast that made it, or a newer one"
        )
    return version
