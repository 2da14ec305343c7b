"""Expand and contract: what Alembic found to be different, put in an order in which old and new programs both run.

Rules only. First what adds and is done at once, then what takes long and blocks nobody, and after the old program is
gone what takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column

from holdfast.migrate.operations import AddUniqueOp, SetNotNullOp, ValidateConstraintOp, table_of

Operation = ops.MigrateOperation


@dataclass
class Plan:
    """The operations of up to five migrations.

    Attributes:
        expand: additions, in one transaction, before the deployment.
        build: what PostgreSQL does step by step, before the deployment.
        tighten: what the old program need not keep, as NOT NULL, step by step, after it.
        drop_indexes: indexes that are dropped without blocking, after it.
        contract: removals, in one transaction, after it; also of columns that those indexes name.
        unfilled: columns that are to be NOT NULL and for which rows may have no value.
        rewrites: columns whose new type makes PostgreSQL write the table anew, or fails for some rows.
    """

    expand: list[Operation] = field(default_factory=list)
    build: list[Operation] = field(default_factory=list)
    tighten: list[Operation] = field(default_factory=list)
    drop_indexes: list[Operation] = field(default_factory=list)
    contract: list[Operation] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    rewrites: list[str] = field(default_factory=list)


def arrange(found: Sequence[Operation]) -> Plan:
    """Put what the comparison found into its phases."""
    plan = Plan()
    made = {operation.table_name for operation in found if isinstance(operation, ops.CreateTableOp)}
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            for part in operation.ops:
                _place(part, plan, made)
        else:
            _place(operation, plan, made)
    return plan


def _place(operation: Any, plan: Plan, made: set[str]) -> None:
    is_new = getattr(operation, "table_name", None) in made
    if isinstance(operation, ops.CreateTableOp) or (is_new and isinstance(operation, ops.CreateIndexOp)):
        plan.expand.append(operation)
    elif isinstance(operation, ops.CreateIndexOp):
        operation.kw["postgresql_concurrently"] = True
        plan.build.append(operation)
    elif isinstance(operation, ops.DropIndexOp):
        operation.kw["postgresql_concurrently"] = True
        plan.drop_indexes.append(operation)
    elif isinstance(operation, ops.AddColumnOp):
        _add_column(operation, plan)
    elif isinstance(operation, ops.CreateUniqueConstraintOp):
        plan.build.append(AddUniqueOp(str(operation.constraint_name), operation.table_name, _names(operation)))
    elif isinstance(operation, ops.CreateForeignKeyOp | ops.CreateCheckConstraintOp):
        operation.kw["postgresql_not_valid"] = True
        plan.expand.append(operation)
        plan.build.append(ValidateConstraintOp(table_of(operation), str(operation.constraint_name)))
    elif isinstance(operation, ops.AlterColumnOp):
        _alter_column(operation, plan)
    elif isinstance(operation, ops.DropColumnOp):
        _drop_column(operation, plan)
    elif isinstance(operation, ops.DropConstraintOp):
        plan.contract.insert(0, operation)
    elif isinstance(operation, ops.DropTableOp):
        plan.contract.append(operation)
    else:
        plan.expand.append(operation)


def _add_column(operation: Any, plan: Plan) -> None:
    column: Column[Any] = operation.column
    if not column.nullable and column.server_default is None and column.computed is None:
        plan.unfilled.append(f"{operation.table_name}.{column.name}")
        # Another column: this one is the model's.
        operation.column = Column(column.name, column.type, nullable=True, comment=column.comment)
        # Not before the deployment: the old program writes rows without it.
        plan.tighten.append(SetNotNullOp(operation.table_name, str(column.name)))
    plan.expand.append(operation)


def _drop_column(operation: Any, plan: Plan) -> None:
    column = operation.to_column()
    if not column.nullable and column.server_default is None:
        # The new program writes rows without it while the old one is still about.
        plan.expand.append(
            ops.AlterColumnOp(
                operation.table_name,
                operation.column_name,
                existing_type=column.type,
                existing_nullable=False,
                modify_nullable=True,
            )
        )
        column.nullable = True  # as it is by then, for when the removal is taken back
    plan.contract.append(operation)


def _alter_column(operation: Any, plan: Plan) -> None:
    if operation.modify_nullable is False:
        operation.modify_nullable = None
        plan.unfilled.append(f"{operation.table_name}.{operation.column_name}")
        plan.tighten.append(SetNotNullOp(operation.table_name, operation.column_name))
    if operation.modify_type is not None:
        plan.rewrites.append(f"{operation.table_name}.{operation.column_name}")
    if operation.has_changes():
        plan.expand.append(operation)


def _names(operation: Any) -> list[str]:
    return [str(column if isinstance(column, str) else column.name) for column in operation.columns]
