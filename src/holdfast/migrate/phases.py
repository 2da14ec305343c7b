"""Expand and contract: what Alembic found to be different, put in an order in which old and new programs both run.

Rules only. First what adds and is done at once, then what takes long and blocks nobody, and after the old program is
gone what takes away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Enum, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.elements import conv

from holdfast.migrate.foreign_keys import AddForeignKeyOp
from holdfast.migrate.lint.sql_types import keeps_rows, type_of
from holdfast.migrate.operations import AddUniqueOp, SetNotNullOp, ValidateConstraintOp, table_of
from holdfast.migrate.renames import RenameConstraintOp, RenameIndexOp

Operation = ops.MigrateOperation
_POSTGRES: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
_DROPS = ops.DropIndexOp | ops.DropConstraintOp
_CHECKS = ops.DropConstraintOp | ops.CreateCheckConstraintOp
_MAKES = ops.CreateIndexOp | ops.CreateUniqueConstraintOp


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
        unfilled_back: the same for the way back.
        rewrites: columns whose new type makes PostgreSQL write the table anew, or fails for some rows.
    """

    expand: list[Operation] = field(default_factory=list)
    build: list[Operation] = field(default_factory=list)
    tighten: list[Operation] = field(default_factory=list)
    drop_indexes: list[Operation] = field(default_factory=list)
    contract: list[Operation] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    unfilled_back: list[str] = field(default_factory=list)
    rewrites: list[str] = field(default_factory=list)


def arrange(found: Sequence[Operation], parted: Collection[str] = ()) -> Plan:
    """Put what the comparison found into its phases; `parted` are the tables in partitions."""
    plan = Plan()
    made = {operation.table_name for operation in found if isinstance(operation, ops.CreateTableOp)}
    flat = [part for one in found for part in (one.ops if isinstance(one, ops.ModifyTableOps) else [one])]
    replaced = _replaced(flat)
    for operation in _checks(_keys(flat, parted, plan), plan):
        _place(operation, plan, made)
    for table, name, is_index in replaced:
        if is_index:
            plan.drop_indexes.append(RenameIndexOp(table, _beside(name), name))
        else:
            plan.contract.append(RenameConstraintOp(table, _beside(name), name))
    return plan


def _keys(found: Sequence[Any], parted: Collection[str], plan: Plan) -> list[Any]:
    """The rest of `found`, without the foreign keys that change and keep their name, and those of partitions.

    A changed one holds once no old program is left: what is deleted with what may be another thing then.
    """
    made = {(o.source_table, _named(o)): o for o in found if isinstance(o, ops.CreateForeignKeyOp)}
    rest = []
    for operation in found:
        if isinstance(operation, ops.DropConstraintOp):
            new = made.get((operation.table_name, _named(operation)))
            old = operation.reverse() if new is not None else None
            if new is not None and isinstance(old, ops.CreateForeignKeyOp):
                plan.tighten.append(AddForeignKeyOp.of(new, replaced=AddForeignKeyOp.of(old)))
                made.pop((operation.table_name, _named(operation)))
                continue
        rest.append(operation)
    kept = []
    for operation in rest:
        if isinstance(operation, ops.CreateForeignKeyOp):
            if (operation.source_table, _named(operation)) not in made:
                continue
            if operation.source_table in parted:
                plan.build.append(AddForeignKeyOp.of(operation))
                continue
        kept.append(operation)
    return kept


def _checks(found: Sequence[Any], plan: Plan) -> list[Any]:
    """The rest of `found`, without the CHECKs that change: one program may not keep the one of the other.

    So the old one goes before the deployment, and the new one comes after it.
    """
    new = {(o.table_name, _named(o)): o for o in found if isinstance(o, ops.CreateCheckConstraintOp)}
    rest = []
    for operation in found:
        key = (getattr(operation, "table_name", ""), _named(operation) if isinstance(operation, _CHECKS) else "")
        if isinstance(operation, ops.DropConstraintOp) and key in new:
            plan.expand.insert(0, operation)
            made = new[key]
            made.kw["postgresql_not_valid"] = True
            plan.tighten += [made, ValidateConstraintOp(made.table_name, str(made.constraint_name))]
        elif not any(operation is made for made in plan.tighten):
            rest.append(operation)
    return rest


def _replaced(found: Sequence[Any]) -> list[tuple[str, str, bool]]:
    """What changes and keeps its name: table, name, whether it is an index. The new one has another name first.

    So it can be made while the old one is there and used, in both directions.
    """
    dropped = {(operation.table_name, _named(operation)) for operation in found if isinstance(operation, _DROPS)}
    replaced = []
    for operation in found:
        if not isinstance(operation, _MAKES) or (table_of(operation), _named(operation)) not in dropped:
            continue
        name = _named(operation)
        replaced.append((table_of(operation), name, isinstance(operation, ops.CreateIndexOp)))
        if isinstance(operation, ops.CreateIndexOp):
            operation.index_name = _beside(name)
        else:
            operation.constraint_name = conv(_beside(name))
    return replaced


def _named(operation: Any) -> str:
    return str(operation.index_name if hasattr(operation, "index_name") else operation.constraint_name)


def _beside(name: str) -> str:
    return f"{name[:58]}_next"


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
        if not _keeps_rows(operation.existing_type, operation.modify_type):
            plan.rewrites.append(f"{operation.table_name}.{operation.column_name}")
        plan.expand += retyped(operation)
    elif operation.has_changes():
        plan.expand.append(operation)


def _keeps_rows(old: Any, new: Any) -> bool:
    """Whether PostgreSQL leaves the rows as they are; False where nobody can say."""
    try:
        before, after = (type_of(kind.compile(dialect=_POSTGRES)) for kind in (old, new))
    except (AttributeError, CompileError):  # no old type, or one that PostgreSQL has not
        return False
    return keeps_rows(before, after)


def retyped(operation: ops.AlterColumnOp) -> list[Operation]:
    """A change of type as PostgreSQL takes it: with a cast, and the default, which has none, by itself."""
    assert operation.modify_type is not None
    if isinstance(operation.modify_type, Enum):
        # Its CHECK comes by itself.
        operation.modify_type = String(operation.modify_type.length)
    where: tuple[str, str] = (operation.table_name, operation.column_name)
    quoted = _POSTGRES.identifier_preparer.quote(operation.column_name)
    operation.kw["postgresql_using"] = f"{quoted}::{operation.modify_type.compile(dialect=_POSTGRES)}"
    old = operation.existing_server_default
    new = old if operation.modify_server_default is False else operation.modify_server_default
    operation.modify_server_default = False
    operation.existing_server_default = None
    around: list[list[Operation]] = [[], []]
    for given, kind, at in ((old, operation.existing_type, 0), (new, operation.modify_type, 1)):
        if given:
            alter = ops.AlterColumnOp(*where, existing_type=kind, existing_nullable=operation.existing_nullable)
            alter.existing_server_default, alter.modify_server_default = (given, None) if at == 0 else (None, given)
            around[at].append(alter)
    return [*around[0], operation, *around[1]]


def _names(operation: Any) -> list[str]:
    return [str(column if isinstance(column, str) else column.name) for column in operation.columns]
