"""Looking at migrations in a scratch: what they would do, make, and lack beside the models and the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from alembic.operations import Operations, ops
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import MigrationError
from holdfast.journal import schema as journal_schema
from holdfast.journal.capture import CapturedTable, captured_tables
from holdfast.migrate import history, schema
from holdfast.migrate.execution import Seen, run_script
from holdfast.migrate.files import Direction, MigrationFile, Phase
from holdfast.migrate.operations import CaptureOp, ReleaseOp, steps_of
from holdfast.migrate.runner import Migrations, failed
from holdfast.migrate.scratch import scratch
from holdfast.migrate.search import CreateSearchOp, DropSearchOp, SearchOp
from holdfast.migrate.selection import of_phase
from holdfast.store.search_index import SearchIndex

# What is asked, and the triggers that are put back after SQLite made a table anew.
_NOT_SHOWN = ("SELECT", "PRAGMA", "WITH", 'CREATE TRIGGER "holdfast_', 'CREATE TRIGGER "keep_holdfast_search_')


async def plan(migrations: Migrations, *, phase: Phase | None = None) -> list[tuple[MigrationFile, list[str]]]:
    """The statements that `up` would run, by migration; they are run in a scratch to be seen, and undone.

    Raises:
        MigrationError: the files are not what was applied, or one fails.
    """
    pending = {file.revision for file in of_phase(await migrations.pending(), phase)}
    planned: list[tuple[MigrationFile, list[str]]] = []
    async with scratch(migrations.store) as connection:
        await journal_schema.install(connection)
        for file in migrations.files():
            statements = await connection.run_sync(_recorded, file)
            if file.revision in pending:
                planned.append((file, statements))
    return planned


@dataclass
class Replayed:
    """What migrations make beside a schema: capture, by table, and what tables are searched by."""

    captured: dict[str, CapturedTable] = field(default_factory=dict)
    searches: set[SearchIndex] = field(default_factory=set)


async def replay(connection: AsyncConnection, chosen: Sequence[MigrationFile]) -> Replayed:
    """Run migrations on a scratch's connection."""
    made = Replayed()

    def seen(operations: Operations, operation: ops.MigrateOperation) -> None:
        if isinstance(operation, CaptureOp):
            made.captured[operation.table.name] = operation.table
        elif isinstance(operation, ReleaseOp | ops.DropTableOp):
            made.captured.pop(operation.table_name, None)
        elif isinstance(operation, CreateSearchOp):
            made.searches.add(operation.index)
        elif isinstance(operation, DropSearchOp):
            made.searches.discard(operation.index)

    await journal_schema.install(connection)
    for file in chosen:
        await connection.run_sync(partial(_run, file=file, direction="up", seen=seen))
    return made


async def drift(migrations: Migrations) -> list[str]:
    """How the database differs from what the migrations that it has would make, a line each."""
    have = {one.revision for one in history.applied(await migrations.events())}
    async with migrations.store.connect() as connection:
        there = await connection.run_sync(schema.read)
    async with scratch(migrations.store) as connection:
        await replay(connection, [file for file in migrations.files() if file.revision in have])
        wanted = await connection.run_sync(schema.read)
    return schema.differences(there, wanted)


async def declared(migrations: Migrations) -> schema.Schema:
    """The schema that the models ask for."""
    async with scratch(migrations.store) as connection:
        for metadata in migrations.metadatas:
            await connection.run_sync(metadata.create_all)
        return await connection.run_sync(schema.read)


async def undeclared(migrations: Migrations) -> list[str]:
    """How what the migrations make differs from the models, a line each: what a new migration is needed for."""
    async with scratch(migrations.store) as connection:
        captured = (await replay(connection, migrations.files())).captured
        made = await connection.run_sync(schema.read)
    wanted = await declared(migrations)
    lines = schema.differences(made, wanted)
    policies = {table.name: table for table in captured_tables(migrations.models)}
    for name in sorted({*captured, *policies} & wanted.tables.keys()):
        if captured.get(name) != policies.get(name):
            lines.append(f"{name}: capture is not what its policy asks for")
    return lines


async def irreversible(migrations: Migrations) -> list[str]:
    """How taking migrations back, and running them again, fails to lead where it should, a line each.

    What is declared irreversible, and what comes before it, is left as it is.
    """
    known = migrations.files()
    back: list[MigrationFile] = []
    for file in reversed(known):
        if file.irreversible is not None:
            break
        back.append(file)
    lines: list[str] = []
    async with scratch(migrations.store) as connection:
        await journal_schema.install(connection)
        before: list[schema.Schema] = []
        for file in known:
            before.append(await connection.run_sync(schema.read))
            await connection.run_sync(partial(_run, file=file, direction="up"))
        once = await connection.run_sync(schema.read)
        for file in back:
            await connection.run_sync(partial(_run, file=file, direction="down"))
            left = schema.differences(await connection.run_sync(schema.read), before[known.index(file)])
            lines += [f"{file.revision} taken back: {line}" for line in left]
        for file in reversed(back):
            await connection.run_sync(partial(_run, file=file, direction="up"))
        again = schema.differences(await connection.run_sync(schema.read), once)
    return lines + [f"up again: {line}" for line in again]


def _run(connection: Connection, *, file: MigrationFile, direction: Direction, seen: Seen | None = None) -> None:
    try:
        run_script(connection, file, direction, plainly=True, seen=seen)
    except MigrationError:
        raise
    except Exception as error:
        raise failed(file, direction, error, "an empty scratch database") from error


def _recorded(connection: Connection, file: MigrationFile) -> list[str]:
    """The statements of a migration, as the database would be told them in earnest."""
    statements: list[str] = []
    in_steps = connection.dialect.name == "postgresql" and not file.transactional
    is_shown = True

    def seen(operations: Operations, operation: ops.MigrateOperation) -> None:
        nonlocal is_shown
        steps = steps_of(operation, operations) if in_steps else None
        # In a scratch the steps are done the short way.
        is_shown = steps is None and not isinstance(operation, CaptureOp | SearchOp)
        statements.extend(step.sql for step in steps or ())
        if isinstance(operation, CaptureOp):
            statements.append(f"-- the triggers that capture {operation.table.name}")
        elif isinstance(operation, SearchOp) and steps is None:
            statements.append(f"-- {operation.rendered()}")

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if is_shown and not statement.lstrip().startswith(_NOT_SHOWN):
            statements.append(statement.strip())

    event.listen(connection, "before_cursor_execute", note)
    try:
        _run(connection, file=file, direction="up", seen=seen)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return statements
