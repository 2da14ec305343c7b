"""Holdfast's own revisions as its runner carries them out: steps, transactions, capture, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from alembic.operations import BatchOperations, Operations, ops

from holdfast.migrate.execution import no_batch
from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.operations import (
    CaptureOp,
    CreatePartitionsOp,
    ReleaseOp,
    SteppedOp,
    UncheckAmountsOp,
    called,
    steps_of,
    table_of,
)
from holdfast.migrate.renames import RenameConstraintOp, RenameIndexOp
from holdfast.migrate.search import SearchOp

if TYPE_CHECKING:
    from holdfast.migrate.lint.alembic_files import Rendered

Invoke = Callable[[ops.MigrateOperation], Any]

_REBUILDING = ops.AddColumnOp | ops.AlterColumnOp | ops.AddConstraintOp | ops.DropConstraintOp


def as_run(operations: Operations, rendered: Rendered, *, transactional: bool) -> Invoke:
    """What `operations.invoke` is to be so that `rendered` gets the SQL that the runner makes of each operation."""
    given: Any = operations
    given.migration_context.autocommit_block = lambda: _refused_block(rendered, transactional)
    plainly = operations.invoke
    if operations.impl.dialect.name == "sqlite":
        given.batch_alter_table = lambda table, schema=None, **_: _batch(operations, table, schema)
        return lambda operation: _on_sqlite(operation, plainly, rendered)
    if transactional:
        given.batch_alter_table = lambda table, schema=None, **_: _batch(operations, table, schema)
    else:
        given.batch_alter_table = no_batch
    is_part = False  # of an operation that is made of others

    def invoke(operation: ops.MigrateOperation) -> Any:
        nonlocal is_part
        if isinstance(operation, CaptureOp | ReleaseOp | CreatePartitionsOp):
            rendered.write(_comment(operation))
            return None
        steps = steps_of(operation, operations)
        if steps is not None:
            if transactional:
                rendered.note(_needs_steps(operation))
                rendered.write("COMMIT;\n")  # as if it stood where it belongs
            for step in steps:
                _alone(f"{step.sql};\n", rendered, begins=not step.alone)
            if transactional:
                rendered.write("BEGIN;\n")
            return None
        if isinstance(operation, SearchOp):
            _alone(f"{operation.sql(operations)};\n", rendered, begins=not transactional)
            return None
        if transactional or is_part:
            return plainly(operation)
        is_part = True
        rendered.write("BEGIN;\n")
        try:
            return plainly(operation)
        finally:
            rendered.write("COMMIT;\n")
            is_part = False

    return invoke


def _alone(sql: str, rendered: Rendered, *, begins: bool) -> None:
    if begins:
        rendered.write("BEGIN;\n")
    rendered.write(sql)
    if begins:
        rendered.write("COMMIT;\n")


def _on_sqlite(operation: ops.MigrateOperation, plainly: Invoke, rendered: Rendered) -> Any:
    """Where the runner makes the table anew, what is left to say of it is a comment."""
    if isinstance(operation, CaptureOp | ReleaseOp | CreatePartitionsOp):
        rendered.write(_comment(operation))
    elif isinstance(operation, SearchOp):
        rendered.write(f"-- {operation.rendered()}\n")
    elif isinstance(operation, SteppedOp | UncheckAmountsOp | RenameConstraintOp) or (
        isinstance(operation, _REBUILDING) and not _fails_on_rows(operation)
    ):
        rendered.write(f"-- {table_of(operation)} is made anew\n")
    elif isinstance(operation, RenameIndexOp):
        rendered.write(f"-- the index {operation.old} is called {operation.new}\n")
    else:
        return plainly(operation)
    return None


def _fails_on_rows(operation: ops.MigrateOperation) -> bool:
    if not isinstance(operation, ops.AddColumnOp):
        return False
    column = operation.column
    return not column.nullable and column.server_default is None and column.computed is None


@contextmanager
def _batch(operations: Operations, table: str, schema: str | None) -> Iterator[BatchOperations]:
    """A batch whose operations are seen one by one, as they would be without it."""
    impl: Any = SimpleNamespace(table_name=table, schema=schema, dialect=operations.impl.dialect)
    batch: Any = BatchOperations(operations.migration_context, impl=impl)
    batch.invoke = lambda operation: operations.invoke(operation)
    yield batch


@contextmanager
def _refused_block(rendered: Rendered, transactional: bool) -> Iterator[None]:
    rendered.note(
        Problem(
            "needs-steps",
            "autocommit_block() is Alembic's own runner's: here it fails",
            "transactional = False  # at the top, and the operation without the block: each is then run by itself",
        )
    )
    if transactional:
        rendered.write("COMMIT;\n")
    yield
    if transactional:
        rendered.write("BEGIN;\n")


def _needs_steps(operation: ops.MigrateOperation) -> Problem:
    return Problem(
        "needs-steps",
        f"{called(operation)} cannot run inside a transaction, and is refused there",
        "transactional = False  # at the top of a migration of its own with this operation",
    )


def _comment(operation: CaptureOp | ReleaseOp | CreatePartitionsOp) -> str:
    if isinstance(operation, CreatePartitionsOp):
        return f"-- the partitions of {operation.table_name}\n"
    # Triggers take SHARE ROW EXCLUSIVE for a moment, within the runner's lock timeout.
    if isinstance(operation, CaptureOp):
        return f"-- the triggers that capture {operation.table.name}\n"
    return f"-- without the triggers that capture {operation.table_name}\n"
