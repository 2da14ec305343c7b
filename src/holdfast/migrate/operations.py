"""What migrations may say beside Alembic's own operations: capture, and changes that block nobody.

Each is data (`…Op`); how it is carried out is a list of steps, of which PostgreSQL takes each by itself in a
migration with `transactional = False`, and which elsewhere run together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from alembic.operations import Operations, ops
from sqlalchemy.schema import CreateIndex, DropIndex

from holdfast.errors import MigrationError
from holdfast.journal.capture import CapturedTable
from holdfast.journal.shapes import Column, Shape
from holdfast.migrate.steps import (
    Step,
    concurrent_drop,
    concurrent_index,
    of_partition,
    partitioned_index,
    plain_drop,
    refuse,
)
from holdfast.model import Amount
from holdfast.model.types import AMOUNT_CHECK
from holdfast.store.partitions import THERE


@Operations.register_operation("capture")
class CaptureOp(ops.MigrateOperation):
    """Have committed writes to a table land in the journal, with these facts."""

    def __init__(self, table: CapturedTable) -> None:
        self.table = table

    @classmethod
    def capture(
        cls,
        operations: Operations,
        table: str,
        *,
        key: Mapping[str, str],
        tenant: Mapping[str, str] | None = None,
        facts: Mapping[str, str] | None = None,
        nullable: Sequence[str] = (),
        unique: Sequence[Sequence[str]] = (),
        truncate: bool = True,
    ) -> None:
        """Install or replace the capture of `table`; columns are given with the kind of what they hold."""
        shape = Shape(table=table, key=_columns(key), tenant=next(iter(_columns(tenant)), None), facts=_columns(facts))
        captured = CapturedTable(
            name=table,
            shape=shape,
            nullable=frozenset(nullable),
            unique=tuple(tuple(columns) for columns in unique),
            truncate=truncate,
        )
        operations.invoke(cls(captured))

    def arguments(self) -> dict[str, Any]:
        """What `capture` is called with besides the table's name; what is empty is left out."""
        shape = self.table.shape
        given: dict[str, Any] = {
            "key": {c.name: c.kind for c in shape.key},
            "tenant": {shape.tenant.name: shape.tenant.kind} if shape.tenant else None,
            "facts": {c.name: c.kind for c in shape.facts},
            "nullable": sorted(self.table.nullable),
            "unique": [list(columns) for columns in self.table.unique],
        }
        if not self.table.truncate:
            given["truncate"] = False
        return {name: value for name, value in given.items() if value not in (None, [], {})}


@Operations.register_operation("release")
class ReleaseOp(ops.MigrateOperation):
    """Take the capture of a table away: its writes are in no journal from then on."""

    def __init__(self, table_name: str) -> None:
        self.table_name = table_name

    @classmethod
    def release(cls, operations: Operations, table: str) -> None:
        """Remove the triggers of `table`, and on PostgreSQL their function."""
        operations.invoke(cls(table))


@Operations.register_operation("create_partitions")
class CreatePartitionsOp(ops.MigrateOperation):
    """Make the partitions of this month and those to come, as of when the migration runs."""

    def __init__(self, table_name: str, by: str, ahead: int) -> None:
        self.table_name = table_name
        self.by = by
        self.ahead = ahead

    @classmethod
    def create_partitions(cls, operations: Operations, table: str, *, by: str, ahead: int = 3) -> None:
        """Make those that `table` lacks; nothing on SQLite. They go with the table."""
        operations.invoke(cls(table, by, ahead))


class SteppedOp(ops.MigrateOperation):
    """One that PostgreSQL takes in several transactions, so that none of them blocks for long.

    Attributes:
        directive: what a migration calls it by: `op.directive(…)`.
        in_steps: False where it is only said to be done at once.
    """

    directive: ClassVar[str]
    in_steps: bool = True

    def steps(self, operations: Operations) -> list[Step]:
        """What PostgreSQL is told, in order."""
        raise NotImplementedError

    def at_once(self, operations: Operations) -> None:
        """The same where nobody else is at work: an empty database, and SQLite."""
        raise NotImplementedError


@Operations.register_operation("set_not_null")
class SetNotNullOp(SteppedOp):
    """Forbid NULL in a column, after a look at the rows that holds no lock that anybody waits for."""

    directive = "set_not_null"

    def __init__(self, table_name: str, column_name: str) -> None:
        self.table_name = table_name
        self.column_name = column_name

    def reverse(self) -> ops.MigrateOperation:
        return ops.AlterColumnOp(self.table_name, self.column_name, existing_nullable=False, modify_nullable=True)

    @classmethod
    def set_not_null(cls, operations: Operations, table: str, column: str) -> None:
        """Make `column` NOT NULL by way of a CHECK that is validated first."""
        operations.invoke(cls(table, column))

    def steps(self, operations: Operations) -> list[Step]:
        quote = operations.impl.dialect.identifier_preparer.quote
        table, column = quote(self.table_name), quote(self.column_name)
        name = f"{self.table_name}_{self.column_name}_not_null"[:63]
        check = quote(name)
        is_there = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2"
        had = "SELECT count(*) > 0 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
        no_check = "SELECT count(*) = 0 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
        of_column, of_check = (table, self.column_name), (table, name)
        return [
            # Before the CHECK: it would hold for new rows though the old ones cannot be validated.
            Step(self._empty(quote), done=[(is_there, of_column)], long=True, refused=self._refused()),
            Step(
                f"ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID",
                done=[(is_there, of_column), (had, of_check)],
            ),
            Step(f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}", done=[(is_there, of_column)], long=True),
            Step(f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL", done=[(is_there, of_column)]),
            Step(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}", done=[(no_check, of_check)]),
        ]

    def at_once(self, operations: Operations) -> None:
        quote = operations.impl.dialect.identifier_preparer.quote
        refuse(operations.get_bind().exec_driver_sql(self._empty(quote)).scalar() or 0, self._refused())
        with operations.batch_alter_table(self.table_name) as batch:
            batch.alter_column(self.column_name, nullable=False)

    def _empty(self, quote: Callable[[str], str]) -> str:
        column = quote(self.column_name)
        return f"SELECT count(*) FROM {quote(self.table_name)} WHERE {column} IS NULL"  # noqa: S608  names, quoted

    def _refused(self) -> str:
        where = f"{self.table_name}.{self.column_name}".replace("{", "{{").replace("}", "}}")
        return (
            f"{where} is NULL in {{count}} rows and cannot be NOT NULL; fill them (`holdfast.migrate.backfill`, or an"
            " UPDATE before op.set_not_null in this file) and run `holdfast migrate up` again"
        )


@Operations.register_operation("validate_constraint")
class ValidateConstraintOp(SteppedOp):
    """Look whether all rows keep a constraint that was added with `postgresql_not_valid=True`."""

    directive = "validate_constraint"

    def __init__(self, table_name: str, constraint_name: str) -> None:
        self.table_name = table_name
        self.constraint_name = constraint_name

    @classmethod
    def validate_constraint(cls, operations: Operations, table: str, constraint: str) -> None:
        """Validate `constraint` of `table`, which blocks no writer; SQLite looked when it was added."""
        operations.invoke(cls(table, str(constraint)))

    def steps(self, operations: Operations) -> list[Step]:
        quote = operations.impl.dialect.identifier_preparer.quote
        table = quote(self.table_name)
        done = "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
        return [
            Step(
                f"ALTER TABLE {table} VALIDATE CONSTRAINT {quote(self.constraint_name)}",
                done=[(done, (table, self.constraint_name))],
                long=True,
            )
        ]

    def at_once(self, operations: Operations) -> None:
        if operations.impl.dialect.name == "postgresql":
            operations.execute(self.steps(operations)[0].sql)


_UNIQUE = "WHERE c.contype = 'u' AND c.conrelid = to_regclass($1) AND c.conname = $2"
_COLUMNS = """(
    SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k (number, n)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
)"""

_UNIQUE_OF = f"SELECT count(*) > 0 FROM pg_constraint c {_UNIQUE} AND {_COLUMNS} = $3"  # noqa: S608  constants


@Operations.register_operation("add_unique")
class AddUniqueOp(SteppedOp):
    """A unique constraint whose index is built while others write."""

    directive = "add_unique"

    def __init__(self, constraint_name: str, table_name: str, columns: Sequence[str]) -> None:
        self.constraint_name = constraint_name
        self.table_name = table_name
        self.columns = list(columns)

    def reverse(self) -> ops.MigrateOperation:
        return ops.DropConstraintOp(
            self.constraint_name,
            self.table_name,
            "unique",
            _reverse=ops.CreateUniqueConstraintOp(self.constraint_name, self.table_name, self.columns),
        )

    @classmethod
    def add_unique(cls, operations: Operations, name: str, table: str, columns: Sequence[str]) -> None:
        """Add UNIQUE (columns) to `table`.

        Rows that break it are a `Conflict`, and nothing is left behind.
        """
        operations.invoke(cls(str(name), table, columns))

    def steps(self, operations: Operations) -> list[Step]:
        quote = operations.impl.dialect.identifier_preparer.quote
        table, name = quote(self.table_name), quote(self.constraint_name)
        columns = ", ".join(quote(column) for column in self.columns)
        self._refuse_another(operations)
        partitions = partitions_of(operations, self.table_name)
        if partitions is not None:
            return self._of_partitions(partitions, columns, quote)
        return self.whole(table, name, columns)

    def _of_partitions(self, partitions: Sequence[str], columns: str, quote: Callable[[str], str]) -> list[Step]:
        """A key of each, which that of the whole then takes in without building anything."""
        steps = []
        for partition in partitions:
            name = of_partition(partition, self.constraint_name)
            part = AddUniqueOp(name, partition, self.columns)
            steps += part.whole(quote(partition), quote(name), columns)
        table, name = quote(self.table_name), self.constraint_name
        add = f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} UNIQUE ({columns})"
        return [*steps, Step(add, done=[(_UNIQUE_OF, (table, name, self.columns))])]

    def whole(self, table: str, name: str, columns: str) -> list[Step]:
        """The steps for a table that is not in partitions; what is given is quoted."""
        done = (_UNIQUE_OF, (table, self.constraint_name, self.columns))
        build = concurrent_index(name, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns})", done=[done])
        return [*build, Step(f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}", done=[done])]

    def _refuse_another(self, operations: Operations) -> None:
        if operations.migration_context.as_sql:
            return
        given = (operations.impl.dialect.identifier_preparer.quote(self.table_name), self.constraint_name)
        there = f"SELECT {_COLUMNS} FROM pg_constraint c {_UNIQUE}"  # noqa: S608  constants
        columns = operations.get_bind().exec_driver_sql(there, given).scalar()
        if columns is not None and list(columns) != self.columns:
            raise MigrationError(
                f"{self.table_name} has a unique key {self.constraint_name} already, of {', '.join(columns)}; add the"
                " new one under another name, drop the old one, and rename it with op.rename_constraint"
            )

    def at_once(self, operations: Operations) -> None:
        with operations.batch_alter_table(self.table_name) as batch:
            batch.create_unique_constraint(self.constraint_name, self.columns)


@Operations.register_operation("check_amounts")
class CheckAmountsOp(SteppedOp):
    """Hold raw SQL to what an `Amount` column that was added can keep."""

    directive = "check_amounts"

    def __init__(self, table_name: str, column_name: str, digits: int) -> None:
        self.table_name = table_name
        self.column_name = column_name
        self.digits = digits

    @classmethod
    def check_amounts(cls, operations: Operations, table: str, column: str, digits: int = 78) -> None:
        """Add the CHECK of an `Amount` with this many digits."""
        operations.invoke(cls(table, column, digits))

    def reverse(self) -> ops.MigrateOperation:
        return UncheckAmountsOp(self.table_name, self.column_name, self.digits)

    def steps(self, operations: Operations) -> list[Step]:
        quote = operations.impl.dialect.identifier_preparer.quote
        name, table, column = _amount_check(self, "postgresql"), quote(self.table_name), quote(self.column_name)
        there = "SELECT count(*) > 0 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
        condition = f"{column} >= 0 AND {column} <= {Amount(self.digits).maximum}"
        add = f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} CHECK ({condition}) NOT VALID"
        return [
            Step(add, done=[(there, (table, name))]),
            *ValidateConstraintOp(self.table_name, name).steps(operations),
        ]

    def at_once(self, operations: Operations) -> None:
        name = operations.f(_amount_check(self, operations.impl.dialect.name))
        for check in Amount(self.digits).checks(self.column_name):
            if check.info[AMOUNT_CHECK][-1] == operations.impl.dialect.name:
                operations.invoke(ops.CreateCheckConstraintOp(name, self.table_name, check.sqltext))


@Operations.register_operation("uncheck_amounts")
class UncheckAmountsOp(ops.MigrateOperation):
    """Take back `check_amounts`."""

    def __init__(self, table_name: str, column_name: str, digits: int) -> None:
        self.table_name = table_name
        self.column_name = column_name
        self.digits = digits

    @classmethod
    def uncheck_amounts(cls, operations: Operations, table: str, column: str, digits: int = 78) -> None:
        """Drop the CHECK of an `Amount` with this many digits."""
        operations.invoke(cls(table, column, digits))

    def reverse(self) -> ops.MigrateOperation:
        return CheckAmountsOp(self.table_name, self.column_name, self.digits)


@Operations.implementation_for(UncheckAmountsOp)
def _uncheck_amounts(operations: Operations, operation: UncheckAmountsOp) -> None:
    name = _amount_check(operation, operations.impl.dialect.name)
    operations.invoke(ops.DropConstraintOp(operations.f(name), operation.table_name, "check"))


def _amount_check(operation: CheckAmountsOp | UncheckAmountsOp, dialect: str) -> str:
    """What the constraint is called."""
    form = f"is_{operation.digits}_digits" if dialect == "sqlite" else "in_range"
    return f"ck_{operation.table_name}_{operation.column_name}_{form}"


def table_of(operation: ops.MigrateOperation) -> str:
    """The table that an operation alters."""
    given: Any = operation
    return str(given.source_table if isinstance(operation, ops.CreateForeignKeyOp) else given.table_name)


def steps_of(operation: ops.MigrateOperation, operations: Operations) -> list[Step] | None:
    """The steps that PostgreSQL takes `operation` in, None for one that is a step by itself."""
    if isinstance(operation, SteppedOp):
        return operation.steps(operations) if operation.in_steps else None
    if isinstance(operation, ops.CreateIndexOp) and is_concurrent(operation):
        index = operation.to_index(operations.migration_context)
        text = str(CreateIndex(index).compile(dialect=operations.impl.dialect))
        preparer = operations.impl.dialect.identifier_preparer
        parts = partitions_of(operations, operation.table_name)
        _refuse_another(operations, operation, text, str(index.name))
        if parts is None:
            return concurrent_index(preparer.format_index(index), text)
        return partitioned_index(str(index.name), operation.table_name, text, parts, preparer.quote)
    if isinstance(operation, ops.DropIndexOp) and is_concurrent(operation):
        index = operation.to_index(operations.migration_context)
        text = str(DropIndex(index).compile(dialect=operations.impl.dialect))
        quoted = operations.impl.dialect.identifier_preparer.format_index(index)
        if operation.table_name and partitions_of(operations, operation.table_name) is not None:
            return plain_drop(quoted)
        return concurrent_drop(quoted, text)
    return None


_DEFINITION = """
    SELECT regexp_replace(pg_get_indexdef(indexrelid), '^CREATE (UNIQUE )?INDEX .*? ON .*? USING ', '\\1')
    FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid
"""


def _refuse_another(operations: Operations, operation: ops.CreateIndexOp, create: str, name: str) -> None:
    """Raise `MigrationError` when there is an index of that name which is not the one that is to be built.

    An interrupted run may have built it: then it is the same, as PostgreSQL says it of one on an empty copy.
    """
    if operations.migration_context.as_sql:
        return
    quote = operations.impl.dialect.identifier_preparer.quote
    connection = operations.get_bind()
    there = connection.exec_driver_sql(_DEFINITION, (quote(name),)).scalar()
    if there is None:
        return
    table = quote(operation.table_name)
    nested = connection.begin_nested()
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE holdfast_copy (LIKE {table})")
    copied = create.replace(" CONCURRENTLY ", " ", 1)
    copied = copied.replace(f" {quote(name)} ON {table} ", " holdfast_copied ON holdfast_copy ", 1)
    connection.exec_driver_sql(copied)
    wanted = connection.exec_driver_sql(_DEFINITION, ("holdfast_copied",)).scalar()
    nested.rollback()
    if there != wanted:
        raise MigrationError(
            f"{operation.table_name} has an index {name} already, and another one: {there}, not {wanted}; build the"
            " new one under another name, drop the old one, and rename it with op.rename_index"
        )


def partitions_of(operations: Operations, table: str) -> list[str] | None:
    """The partitions of a table, None for one that is whole, and where no database is asked."""
    if operations.migration_context.as_sql:
        return None
    connection = operations.get_bind()
    quoted = operations.impl.dialect.identifier_preparer.quote(table)
    if not connection.exec_driver_sql(_IS_PARTED, (quoted,)).scalar():
        return None
    return list(connection.exec_driver_sql(THERE, (quoted,)).scalars())


_IS_PARTED = "SELECT count(*) > 0 FROM pg_partitioned_table WHERE partrelid = to_regclass($1)"


def is_concurrent(operation: ops.CreateIndexOp | ops.DropIndexOp) -> bool:
    """Whether an index is to be built or dropped without blocking writers."""
    return bool(operation.kw.get("postgresql_concurrently"))


def needs_steps(operation: ops.MigrateOperation) -> bool:
    """Whether PostgreSQL cannot take `operation` inside a transaction, or not without blocking."""
    concurrent = isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp) and is_concurrent(operation)
    return concurrent or (isinstance(operation, SteppedOp) and operation.in_steps)


def without_concurrency(operation: Any) -> ops.MigrateOperation:
    """The same index, built or dropped the short way."""
    kept = {name: value for name, value in operation.kw.items() if name != "postgresql_concurrently"}
    if isinstance(operation, ops.CreateIndexOp):
        return ops.CreateIndexOp(
            operation.index_name,
            operation.table_name,
            operation.columns,
            schema=operation.schema,
            unique=operation.unique,
            if_not_exists=operation.if_not_exists,
            **kept,
        )
    return ops.DropIndexOp(
        operation.index_name,
        operation.table_name,
        schema=operation.schema,
        if_exists=operation.if_exists,
        **kept,
    )


def called(operation: ops.MigrateOperation) -> str:
    """What a person would call `operation`."""
    if isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp):
        return f"the index {operation.index_name} with postgresql_concurrently"
    assert isinstance(operation, SteppedOp)
    return f"op.{operation.directive}"


def _columns(given: Mapping[str, str] | None) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in (given or {}).items())  # type: ignore[arg-type]
