"""The locks that migrations really take: each statement is run in a scratch database, and pg_locks is looked at.

Static rules go by what a statement says; here is seen what it does: through functions, triggers, foreign keys and
casts. The tables are as empty as the schema given makes them, so durations mean nothing, but a scan is a scan.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import ConfigurationError, MigrationError, MissingExtra
from holdfast.migrate.lint.alembic_files import render
from holdfast.migrate.lint.files import Migration, lint_paths, migrations_of
from holdfast.migrate.lint.finding import Finding, Problem
from holdfast.migrate.lint.lint import not_allowed
from holdfast.migrate.lint.parse import parse
from holdfast.migrate.lint.statements import Statement, statements_of
from holdfast.migrate.lint.syntax import Control, Record, Write
from holdfast.store.urls import dialect_of, parse_url

if TYPE_CHECKING:
    from asyncpg import Connection
    from sqlalchemy import URL

_BLOCKING = {
    "ShareLock": "writes wait",
    "ShareRowExclusiveLock": "writes wait",
    "ExclusiveLock": "writes wait",
    "AccessExclusiveLock": "reads and writes wait",
}
_LOCKS = """
SELECT relation::oid::int8 AS relation, mode FROM pg_catalog.pg_locks
WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND granted
AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""
_TABLES = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
       pg_catalog.pg_relation_filenode(c.oid)::int8 AS filenode,
       coalesce(pg_catalog.pg_stat_get_xact_numscans(c.oid), 0) AS scans
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


class Table(msgspec.Struct, frozen=True):
    """A table at one moment: its file changes when it is rewritten, its scans count up in a transaction."""

    schema: str
    name: str
    filenode: int | None
    scans: int

    @property
    def text(self) -> str:
        """As a person writes it."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


class Moment(msgspec.Struct, frozen=True):
    """What a transaction holds between two statements."""

    tables: Mapping[int, Table]
    locks: frozenset[tuple[int, str]]


def trace_paths(paths: Iterable[str | Path], *, url: str, schema: str | Path | None = None) -> list[Finding]:
    """What running the migrations shows that their text does not, in a database made for it and dropped after.

    `url` is of a PostgreSQL server whose role may create databases; nothing in the database that it names is
    touched. `schema` is a SQL file that makes what is there before the first migration. A statement that the rules
    find unsafe already is not reported again.

    Raises:
        ConfigurationError: `url` or a path is wrong. MigrationError: the server refuses, or `schema` fails.
        MissingExtra: asyncpg is not installed.
    """
    place = parse_url(url)
    if dialect_of(place) != "postgresql":
        raise ConfigurationError("--trace looks at the locks of PostgreSQL: name a postgresql:// server")
    migrations = migrations_of(paths)
    before = migrations_of([schema])[0].text if schema is not None else ""
    return asyncio.run(_trace(place, migrations, before))


async def _trace(place: URL, migrations: list[Migration], before: str) -> list[Finding]:
    try:
        import asyncpg
    except ImportError:
        raise MissingExtra("--trace needs asyncpg: pip install 'holdfast[postgres]'") from None
    address = place.set(drivername="postgresql")
    scratch = f"holdfast_trace_{secrets.token_hex(6)}"
    try:
        server = await asyncpg.connect(address.render_as_string(hide_password=False))
    except (OSError, asyncpg.PostgresError) as error:
        raise MigrationError(f"--trace: cannot connect to {address.render_as_string()}: {error}") from None
    try:
        try:
            await server.execute(f'CREATE DATABASE "{scratch}" TEMPLATE template0')
        except asyncpg.PostgresError as error:
            raise MigrationError(
                f"--trace: cannot make a scratch database: {error}; name a role with CREATEDB"
            ) from None
        try:
            connection = await asyncpg.connect(address.set(database=scratch).render_as_string(hide_password=False))
            try:
                return await _trace_all(connection, migrations, before)
            finally:
                await connection.close()
        finally:
            await server.execute(f'DROP DATABASE "{scratch}" WITH (FORCE)')
    finally:
        await server.close()


async def _trace_all(connection: Connection[Any], migrations: list[Migration], before: str) -> list[Finding]:
    from asyncpg import PostgresError

    try:
        await connection.execute(before)
    except PostgresError as error:
        raise MigrationError(f"--trace: the schema to start from fails: {error}") from None
    findings: list[Finding] = []
    for migration in migrations:
        text, line_of = migration.text, None
        if migration.revision is not None:
            rendered, _ = render(migration.path, migration.text, "postgresql", migration.ours)
            text, line_of = rendered.text, rendered.line_of
        seen = [
            Finding(
                file=str(migration.path),
                line=line,
                rule=problem.rule,
                level="error",
                message=problem.message,
                fix=problem.fix,
            )
            for line, problem in await _trace_one(connection, text)
        ]
        told = {finding.line for finding in lint_paths([migration.path]) if finding.level == "error"}
        for finding in not_allowed(text, seen):
            line = line_of(finding.line) if line_of else finding.line
            if line not in told or finding.rule == "statement-failed":
                findings.append(msgspec.structs.replace(finding, line=line))
    return findings


async def _trace_one(connection: Connection[Any], text: str) -> list[tuple[int, Problem]]:
    """What the statements of one file do; after a failure the rest is not run."""
    from asyncpg import PostgresError

    existing = set((await _moment(connection)).tables)
    found: list[tuple[int, Problem]] = []
    inside = False
    try:
        for statement in statements_of(text):
            if not statement.tokens:
                continue
            record = parse(statement)
            sql = statement.text[statement.tokens[0].start - statement.start :]
            if isinstance(record, Control):
                inside = record.what == "begin" or (inside and record.what == "savepoint")
                await connection.execute(sql)
            elif not inside and _needs_no_transaction(statement):
                await connection.execute(sql)
            else:
                if not inside:
                    await connection.execute("BEGIN")
                earlier = await _moment(connection)
                await connection.execute(sql)
                later = await _moment(connection)
                if not inside:
                    await connection.execute("COMMIT")
                found += [
                    (statement.line, problem) for problem in problems(statement, record, earlier, later, existing)
                ]
    except PostgresError as error:
        found.append((statement.line, _failed(str(error))))
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")
    await connection.execute("RESET ALL")
    return found


async def _moment(connection: Connection[Any]) -> Moment:
    locks = await connection.fetch(_LOCKS)
    tables = await connection.fetch(_TABLES)
    return Moment(
        {row["oid"]: Table(row["schema"], row["name"], row["filenode"], row["scans"]) for row in tables},
        frozenset((row["relation"], row["mode"]) for row in locks),
    )


def problems(
    statement: Statement, record: Record, earlier: Moment, later: Moment, existing: set[int]
) -> Iterable[Problem]:
    """What a statement did to tables that were there before its file: rewrites, scans under a lock, hidden locks."""
    for oid in sorted(existing & set(earlier.tables)):
        table = earlier.tables[oid]
        now = later.tables.get(oid)
        modes = [mode for relation, mode in later.locks if relation == oid and mode in _BLOCKING]
        new = [mode for mode in modes if (oid, mode) not in earlier.locks]
        if now is not None and now.filenode != table.filenode:
            yield Problem(
                "table-rewritten",
                f"{table.text} was rewritten under ACCESS EXCLUSIVE: reads and writes wait as long as that takes",
                f"-- leave {table.text} as it is: add beside it what is new, fill it in batches, move over",
            )
        elif modes and now is not None and now.scans > table.scans and (new or not isinstance(record, Write)):
            yield Problem(
                "table-scanned",
                f"every row of {table.text} was read under {_sql_mode(modes[0])}: {_BLOCKING[modes[0]]}",
                "-- add the constraint NOT VALID, and VALIDATE it in a transaction of its own",
            )
        elif new and not any(token.value == table.name for token in statement.tokens):
            yield Problem(
                "lock-taken",
                f"{table.text}, which the statement does not name, was locked with {_sql_mode(new[0])}: "
                f"{_BLOCKING[new[0]]} until the transaction ends",
                f"SET lock_timeout = '2s'; -- before it; or take what locks {table.text} out of this migration",
            )


def _needs_no_transaction(statement: Statement) -> bool:
    words = [token.value for token in statement.tokens]
    return (
        "concurrently" in words
        or words[0] in ("vacuum", "reindex", "cluster")
        or words[1:2] in (["database"], ["tablespace"], ["system"])
    )


def _failed(said: str) -> Problem:
    return Problem(
        "statement-failed",
        f"PostgreSQL refused it, and the rest was not run: {said.partition(chr(10))[0]}",
        "-- mend it; if it needs tables that are not there, give them: --schema FILE.sql",
    )


def _sql_mode(mode: str) -> str:
    """`AccessExclusiveLock` as `ACCESS EXCLUSIVE`."""
    return "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock")).strip().upper()
