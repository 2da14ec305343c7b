"""An index or constraint that takes the name of the one that it replaced."""

from __future__ import annotations

import re
from typing import Any

from alembic.autogenerate.render import renderers
from alembic.operations import Operations, ops
from sqlalchemy import inspect

from holdfast.errors import MigrationError
from holdfast.migrate.operations import partitions_of
from holdfast.migrate.steps import of_partition

_SQL = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?"


@Operations.register_operation("rename_index")
class RenameIndexOp(ops.MigrateOperation):
    """Give an index another name, which takes an instant."""

    directive = "rename_index"

    def __init__(self, table_name: str, old: str, new: str) -> None:
        self.table_name = table_name
        self.old = old
        self.new = new

    @classmethod
    def rename_index(cls, operations: Operations, table: str, old: str, new: str) -> None:
        """Rename the index `old` of `table`; of a table in partitions those of its partitions too."""
        operations.invoke(cls(table, str(old), str(new)))

    def reverse(self) -> ops.MigrateOperation:
        return type(self)(self.table_name, self.new, self.old)


@Operations.register_operation("rename_constraint")
class RenameConstraintOp(RenameIndexOp):
    """Give a unique key another name, which takes an instant; SQLite makes the table anew."""

    directive = "rename_constraint"

    @classmethod
    def rename_constraint(cls, operations: Operations, table: str, old: str, new: str) -> None:
        """Rename the constraint `old` of `table`; of a table in partitions those of its partitions too."""
        operations.invoke(cls(table, str(old), str(new)))


@renderers.dispatch_for(RenameIndexOp)
@renderers.dispatch_for(RenameConstraintOp)
def _render(context: Any, operation: RenameIndexOp) -> str:
    return f"op.{operation.directive}({operation.table_name!r}, {operation.old!r}, {operation.new!r})"


@Operations.implementation_for(RenameIndexOp)
def _rename_index(operations: Operations, operation: RenameIndexOp) -> None:
    quote = operations.impl.dialect.identifier_preparer.quote
    if operations.impl.dialect.name == "sqlite":
        connection = operations.get_bind()
        sql = connection.exec_driver_sql(_SQL, (operation.old,)).scalar()
        if sql is None:
            raise MigrationError(f"there is no index {operation.old} that could be called {operation.new}")
        connection.exec_driver_sql(f"DROP INDEX {quote(operation.old)}")
        named = re.sub(r"(?i)(INDEX\s+)(\"[^\"]+\"|\w+)", lambda found: found[1] + quote(operation.new), sql, count=1)
        connection.exec_driver_sql(named)
        return
    operations.execute(f"ALTER INDEX {quote(operation.old)} RENAME TO {quote(operation.new)}")
    for partition in partitions_of(operations, operation.table_name) or ():
        old, new = quote(of_partition(partition, operation.old)), quote(of_partition(partition, operation.new))
        operations.execute(f"ALTER INDEX IF EXISTS {old} RENAME TO {new}")


@Operations.implementation_for(RenameConstraintOp)
def _rename_constraint(operations: Operations, operation: RenameConstraintOp) -> None:
    table, old, new = operation.table_name, operation.old, operation.new
    if operations.impl.dialect.name == "sqlite":
        _replace_constraint(operations, table, old, new)
        return
    quote = operations.impl.dialect.identifier_preparer.quote
    operations.execute(f"ALTER TABLE {quote(table)} RENAME CONSTRAINT {quote(old)} TO {quote(new)}")
    for partition in partitions_of(operations, table) or ():
        there = "SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
        of_part = of_partition(partition, old)
        if operations.get_bind().exec_driver_sql(there, (quote(partition), of_part)).scalar():
            renamed = f"{quote(of_part)} TO {quote(of_partition(partition, new))}"
            operations.execute(f"ALTER TABLE {quote(partition)} RENAME CONSTRAINT {renamed}")


def _replace_constraint(operations: Operations, table: str, old: str, new: str) -> None:
    for unique in inspect(operations.get_bind()).get_unique_constraints(table):
        if unique["name"] == old:
            with operations.batch_alter_table(table) as batch:
                batch.drop_constraint(batch.f(old), type_="unique")
                batch.create_unique_constraint(batch.f(new), unique["column_names"])
            return
    raise MigrationError(f"{table} has no unique key {old} that could be called {new}")
