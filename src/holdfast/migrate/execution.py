"""Running one migration: in a transaction, or step by step so that it can be taken up again."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import await_only, greenlet_spawn

from holdfast.errors import MigrationError
from holdfast.journal import capture
from holdfast.logs import get_logger
from holdfast.migrate import history
from holdfast.migrate.backfills.operation import BackfillOp
from holdfast.migrate.backfills.report import Progress
from holdfast.migrate.files import Direction, MigrationFile
from holdfast.migrate.limits import Limits, LockBudget, is_worth_another_try, pause
from holdfast.migrate.operations import (
    CaptureOp,
    CreatePartitionsOp,
    ReleaseOp,
    SteppedOp,
    called,
    needs_steps,
    steps_of,
    table_of,
    without_concurrency,
)
from holdfast.migrate.rebuild import keeping, renamed
from holdfast.migrate.search import CreateSearchOp, DropSearchOp
from holdfast.migrate.steps import Step, refuse
from holdfast.model import NAMING
from holdfast.store import Store
from holdfast.store.partitions import make_partitions, months

T = TypeVar("T")
Seen = Callable[[Operations, ops.MigrateOperation], None]

log = get_logger("holdfast.migrate")

_ALTERING = ops.AddColumnOp | ops.AlterColumnOp | ops.DropColumnOp | ops.AddConstraintOp | ops.DropConstraintOp

# Constraints that a migration leaves without a name get the one that the models' would have.
_NAMED = MetaData(naming_convention=NAMING)


@Operations.implementation_for(CaptureOp)
def _capture(operations: Operations, operation: CaptureOp) -> None:
    await_only(capture.install_table(_asynchronous(operations), operation.table))


@Operations.implementation_for(ReleaseOp)
def _release(operations: Operations, operation: ReleaseOp) -> None:
    await_only(capture.release_table(_asynchronous(operations), operation.table_name))


@Operations.implementation_for(CreatePartitionsOp)
def _create_partitions(operations: Operations, operation: CreatePartitionsOp) -> None:
    if operations.impl.dialect.name == "postgresql":
        wanted = months(dt.datetime.now(dt.UTC), operation.ahead)
        made = make_partitions(_asynchronous(operations), operation.table_name, operation.by, wanted)
        await_only(made)


@Operations.implementation_for(CreateSearchOp)
@Operations.implementation_for(DropSearchOp)
def _search(operations: Operations, operation: CreateSearchOp | DropSearchOp) -> None:
    operation.at_once(operations)


def _asynchronous(operations: Operations) -> AsyncConnection:
    """The connection of `operations` as the journal takes it."""
    connection = operations.get_bind()
    return AsyncConnection(AsyncEngine(connection.engine), connection)


@asynccontextmanager
async def writing(store: Store) -> AsyncIterator[AsyncConnection]:
    """A transaction in which tables may be rebuilt: on SQLite foreign keys are looked at when it ends.

    SQLite deletes the children of every row of a table that is dropped, and it drops a table to rebuild it, unless
    foreign keys are off; and they cannot be switched inside a transaction.

    Raises:
        MigrationError: rows refer to others that are not there.
    """
    if store.dialect != "sqlite":
        async with store.connect(write=True) as connection:
            yield connection
        return
    async with store.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute_fetchall("PRAGMA foreign_keys=OFF")
        try:
            async with connection.begin():
                yield connection
                await _check_foreign_keys(connection)
        finally:
            await driver.execute_fetchall("PRAGMA foreign_keys=ON")


async def _check_foreign_keys(connection: AsyncConnection) -> None:
    orphans = (await connection.exec_driver_sql("SELECT * FROM pragma_foreign_key_check LIMIT 1")).first()
    if orphans is not None:
        table, row, parent, _ = tuple(orphans)
        raise MigrationError(
            f"row {row} of {table} refers to a row of {parent} that is not there, and nothing was migrated;"
            " `holdfast migrate validate` lists such rows"
        )


def run_script(
    connection: Connection, file: MigrationFile, direction: Direction, *, plainly: bool, seen: Seen | None = None
) -> None:
    """Run `file` in the connection's transaction.

    Args:
        plainly: nobody else is at work, so indexes and constraints are made the short way.
        seen: told each operation before it is carried out.

    Raises:
        MigrationError: it has an operation that cannot run in a transaction beside others.
    """

    is_part = False  # of an operation that is made of others

    def invoke(operation: ops.MigrateOperation) -> Any:
        nonlocal is_part
        if seen is not None and not is_part:
            seen(operations, operation)
        if needs_steps(operation):
            if not plainly:
                raise MigrationError(
                    f"{file.path.name}: {called(operation)} cannot run inside a transaction; put it into a migration"
                    " of its own with `transactional = False`"
                )
            if isinstance(operation, SteppedOp):
                is_part = True
                try:
                    return operation.at_once(operations)
                finally:
                    is_part = False
            operation = without_concurrency(operation)
        if isinstance(operation, ops.AlterColumnOp) and operation.modify_name and connection.dialect.name == "sqlite":
            operation = renamed(operations, operation)
            if not operation.has_changes():
                return None
        if isinstance(operation, _ALTERING) and connection.dialect.name == "sqlite":
            # SQLite alters next to nothing: the table is made anew under its name, rows and triggers with it.
            with operations.batch_alter_table(table_of(operation), naming_convention=NAMING) as batch:
                return batch.invoke(operation)
        return Operations.invoke(operations, operation)

    context = MigrationContext.configure(connection=connection, opts={"target_metadata": _NAMED})
    with Operations.context(context) as operations:
        operations.invoke = invoke  # type: ignore[method-assign]
        if connection.dialect.name == "sqlite":
            operations.batch_alter_table = partial(keeping, operations)  # type: ignore[method-assign]
        file.script(direction)()


class Stepped:
    """Runs a migration without a transaction on PostgreSQL: each step by itself, noted when it is done.

    Args:
        event: the history's entry that keeps how many steps are done.
        done: how many an interrupted run did.
        resumes: one was interrupted, perhaps in the midst of its first.
        progress: called after each batch of a backfill.
    """

    def __init__(
        self,
        store: Store,
        event: int,
        done: int,
        limits: Limits,
        *,
        timeout: float | None = None,
        resumes: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._store = store
        self._engine = store.engine.sync_engine
        self._event = event
        self._done = done
        self._limits = limits
        self._timeout = timeout
        self._progress = progress
        self._number = 0
        self.began = resumes
        """Whether anything was done to the database, by this run or an interrupted one."""

    async def run(self, file: MigrationFile, direction: Direction) -> None:
        """Run all steps that are not done yet.

        Raises:
            MigrationError: an operation that cannot be taken up again when it is interrupted.
        """
        await greenlet_spawn(self._run, file, direction)

    def _run(self, file: MigrationFile, direction: Direction) -> None:
        with self._engine.connect() as asked:
            context = MigrationContext.configure(connection=asked, opts={"target_metadata": _NAMED})
            with Operations.context(context) as operations:
                operations.invoke = partial(self._invoke, operations)  # type: ignore[method-assign,assignment]
                operations.batch_alter_table = no_batch  # type: ignore[method-assign,assignment]
                file.script(direction)()

    def _invoke(self, operations: Operations, operation: ops.MigrateOperation) -> None:
        operations.get_bind().rollback()  # what the script asked must not stay open while others are waited for
        self._number += 1
        if self._number <= self._done:
            return
        if isinstance(operation, BackfillOp):
            self.began = True
            operation.beside_others(operations, self._store, self._event, self._number, self._progress)
            self._once(lambda connection: None, ends=True)
            return
        steps = steps_of(operation, operations)
        operations.get_bind().rollback()  # nor what was asked for the steps
        if steps is None:
            self._once(lambda connection: _on(connection, operation), ends=True)
            return
        for step in steps:
            if step.alone:
                patiently(partial(self._alone, step), self._limits)
            else:
                self._once(partial(_unless_done, step), long=step.long)
        self._once(lambda connection: None, ends=True)

    def _once(self, work: Callable[[Connection], Any], *, long: bool = False, ends: bool = False) -> None:
        """Do `work` in a transaction of its own; the one that `ends` the operation also notes that it is done."""

        def attempt() -> None:
            with self._engine.begin() as connection:
                with LockBudget(connection, self._limits, statement_timeout=0 if long else self._timeout):
                    work(connection)
                self.began = True
                if ends:
                    history.stepped(connection, self._event, self._number)

        patiently(attempt, self._limits)

    def _alone(self, step: Step) -> None:
        self.began = True
        await_only(self._autocommit(step))

    async def _autocommit(self, step: Step) -> None:
        async with self._store.raw() as connection:
            if self._store.settings.pooler == "none":
                # It waits for others without making anybody wait; behind a pooler the server's own settings stand.
                await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
            for question, values in step.done:
                if await connection.fetchval(question, *values):
                    return
            await connection.execute(step.sql)


def _unless_done(step: Step, connection: Connection) -> None:
    for question, values in step.done:
        if connection.exec_driver_sql(question, values).scalar():
            return
    outcome = connection.exec_driver_sql(step.sql)
    if step.refused:
        refuse(outcome.scalar() or 0, step.refused)


def _on(connection: Connection, operation: ops.MigrateOperation) -> None:
    context = MigrationContext.configure(connection=connection, opts={"target_metadata": _NAMED})
    Operations(context).invoke(operation)


def no_batch(table: str, *args: Any, **options: Any) -> Any:
    """What stands in for `op.batch_alter_table` where each operation is a step. MigrationError: always."""
    raise MigrationError(
        f"op.batch_alter_table({table!r}) cannot be taken up again when it is interrupted; in a migration with"
        " `transactional = False` write each operation by itself"
    )


def patiently(work: Callable[[], T], limits: Limits) -> T:
    """Do `work` again, after a pause, as long as it does not get its locks; called inside a greenlet.

    Raises:
        MigrationError: it did not get them for `limits.give_up` seconds. Whatever else `work` raises.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        try:
            return work()
        except Exception as error:
            if not is_worth_another_try(error):
                raise
            waited = time.monotonic() - began
            if waited >= limits.give_up:
                raise MigrationError(
                    f"the locks that are needed were not had in {waited:.0f} s: a long transaction holds the table"
                    " (see pg_stat_activity); end it, or try again at a quieter time"
                ) from error
            log.info("locks_not_had", attempt=attempt + 1, waited=round(waited, 1))
        await_only(asyncio.sleep(pause(attempt)))
        attempt += 1
