"""Writing migrations: what the models have and the migrations so far do not make."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op, renderers
from alembic.migration import MigrationContext
from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import BindParameter, Connection, DefaultClause, Integer, MetaData, Numeric, String, inspect

from holdfast.journal.capture import CapturedTable
from holdfast.migrate import phases
from holdfast.migrate.operations import (
    AddUniqueOp,
    CaptureOp,
    CheckAmountsOp,
    CreatePartitionsOp,
    ReleaseOp,
    SetNotNullOp,
    UncheckAmountsOp,
    ValidateConstraintOp,
)
from holdfast.migrate.schema import is_ours, partitions, reading_indexes
from holdfast.model import (
    Amount,
    BlindIndex,
    Encrypted,
    Model,
    Text,
    Total,
    UtcTime,
    database_actor,
    database_id,
    database_now,
)
from holdfast.model.types import AMOUNT_CHECK
from holdfast.store import Monthly, search_index

_OUR_TYPES = (Amount, Text, UtcTime)
_AMOUNT_CHECK = re.compile(r"ck_(?P<table>.+)_(?P<column>.+)_(?:is_(?P<digits>\d+)_digits|in_range)")


def compare(connection: Connection, metadatas: Sequence[MetaData]) -> list[ops.MigrateOperation]:
    """What brings the schema that `connection` sees to that of `metadatas`, as Alembic finds it."""
    apart = partitions(connection)
    context = MigrationContext.configure(
        connection=connection,
        opts={
            "target_metadata": list(metadatas),
            "compare_type": True,
            "compare_server_default": True,
            "include_object": _is_compared,
            "include_name": lambda name, kind, parents: kind != "table" or not (is_ours(name or "") or name in apart),
            "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname", _defaults.name],
        },
    )
    with warnings.catch_warnings():
        # It looks at the journal's tables too, before it leaves them out.
        warnings.filterwarnings("ignore", "Did not recognize type 'pg_snapshot'")
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        with reading_indexes():
            script = produce_migrations(context, list(metadatas))  # type: ignore[arg-type]
    assert script.upgrade_ops is not None
    found = list(script.upgrade_ops.ops)
    for operation in found:
        if isinstance(operation, ops.CreateTableOp):
            operation.info = None  # classes, which no text can say
    return found


def _is_compared(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    if kind == "table":
        return not is_ours(name or "")
    if kind == "index" and (name or "").startswith(search_index.PREFIX):
        return False
    # The checks of amounts differ by dialect; they come and go with their columns.
    return not (kind == "check_constraint" and (AMOUNT_CHECK in item.info or _AMOUNT_CHECK.fullmatch(name or "")))


def _compare_defaults(
    context: AutogenContext, change: ops.AlterColumnOp, schema: str | None, table: str, name: str, now: Any, wanted: Any
) -> PriorityDispatchResult:
    """Compare what Alembic cannot; as a plugin, since the function that it takes is not safe from computed columns."""
    there, declared = now.server_default, wanted.server_default
    change.existing_server_default = there
    if isinstance(getattr(declared, "arg", declared), database_actor | database_id | database_now):
        differs = there is None  # what one function of ours computes every database writes in another way
    elif (
        isinstance(there, DefaultClause)
        and isinstance(declared, DefaultClause)
        and now.type._type_affinity is not wanted.type.dialect_impl(context.dialect)._type_affinity
    ):
        differs = True  # PostgreSQL would be asked whether they are equal, and has no answer
    else:
        return PriorityDispatchResult.CONTINUE
    if differs:
        change.modify_server_default = declared
    return PriorityDispatchResult.STOP


_defaults = Plugin("holdfast.defaults")
_defaults.add_autogenerate_comparator(_compare_defaults, "column", "server_default", priority=DispatchPriority.FIRST)


def capture_changes(
    captured: Mapping[str, CapturedTable], wanted: Iterable[CapturedTable], dropped: Iterable[str]
) -> list[ops.MigrateOperation]:
    """What brings the capture that the migrations make to what the models' policies ask for."""
    by_name = {table.name: table for table in wanted}
    made: list[ops.MigrateOperation] = [
        ReplaceCaptureOp(captured.get(name), table) for name, table in by_name.items() if captured.get(name) != table
    ]
    gone = captured.keys() - by_name.keys() - set(dropped)
    return made + [ReplaceCaptureOp(captured[name], None) for name in sorted(gone)]


def partitions_of(models: Iterable[type[Model]], made: Iterable[str]) -> list[ops.MigrateOperation]:
    """The partitions that the tables among `made` begin with."""
    names = set(made)
    parted = ((model.__tablename__, model.__policy__.aspect(Monthly)) for model in models)
    return [CreatePartitionsOp(name, by.by, by.ahead) for name, by in parted if by is not None and name in names]


class ReplaceCaptureOp(ops.MigrateOperation):
    """From one capture of a table to another; None where there is none."""

    def __init__(self, before: CapturedTable | None, after: CapturedTable | None) -> None:
        self.before = before
        self.after = after

    def reverse(self) -> ops.MigrateOperation:
        return ReplaceCaptureOp(self.after, self.before)


def amounts_of(plan: phases.Plan) -> None:
    """Give the amounts that are added to tables that are there the checks that new tables' amounts have."""
    for operation in plan.expand:
        if isinstance(operation, ops.AddColumnOp) and isinstance(operation.column.type, Amount):
            digits = operation.column.type.digits
            plan.build.append(CheckAmountsOp(operation.table_name, str(operation.column.name), digits))


def unchecks(connection: Connection, plan: phases.Plan) -> None:
    """Drop the checks of amounts before their columns, which SQLite would else refuse."""

    for operation in list(plan.contract):
        if not isinstance(operation, ops.DropColumnOp):
            continue
        inspector: Any = inspect(connection)
        columns = {column["name"]: column["type"] for column in inspector.get_columns(operation.table_name)}
        for check in inspector.get_check_constraints(operation.table_name):
            prefix = f"ck_{operation.table_name}_{operation.column_name}_"
            found = _AMOUNT_CHECK.fullmatch(check["name"] or "")
            if found is None or not check["name"].startswith(prefix):
                continue
            digits = int(found["digits"] or columns[operation.column_name].precision)
            at = plan.contract.index(operation)
            plan.contract.insert(at, UncheckAmountsOp(operation.table_name, operation.column_name, digits))


def reversed_operations(operations: Sequence[ops.MigrateOperation]) -> list[ops.MigrateOperation]:
    """What takes `operations` back, last one first."""
    back: list[ops.MigrateOperation] = []
    for operation in reversed(operations):
        if isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable:
            back.append(RefillOp(operation))
        if not isinstance(operation, ValidateConstraintOp | CreatePartitionsOp):
            back.append(_back(operation.reverse()))
    return back


def _back(operation: ops.MigrateOperation) -> ops.MigrateOperation:
    if isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
        phases.retyped(operation)  # the cast is that of the other direction
    return operation


class RefillOp(ops.MigrateOperation):
    """Fill a column whose values went with it, before it is NOT NULL once more.

    Attributes:
        value: what stands for none, as SQL; None where a person must say it.
    """

    def __init__(self, allowed: ops.AlterColumnOp) -> None:
        self.table_name = allowed.table_name
        self.column_name = allowed.column_name
        self.value = _neutral(allowed.existing_type)


def unfilled(back: Iterable[ops.MigrateOperation]) -> list[str]:
    """`table.column` of the columns of which a person must say what they are filled with."""
    return [f"{one.table_name}.{one.column_name}" for one in back if isinstance(one, RefillOp) and one.value is None]


def _neutral(kind: Any) -> str | None:
    """A value of a reflected type that stands for none, as SQL."""
    if isinstance(kind, String):
        amount = {Amount().digits, Total().digits}
        return f"'{0:0{kind.length}d}'" if kind.length in amount else "''" if kind.length is None else None
    return "0" if isinstance(kind, Numeric | Integer) else None


def _ansi(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@renderers.dispatch_for(RefillOp)
def _render_refill(context: Any, operation: RefillOp) -> list[str]:
    where, value = f"{operation.table_name}.{operation.column_name}", operation.value
    said = f"# What {where} held went with the column."
    if value is None:
        return [said, f'raise NotImplementedError("say here what {where} becomes")']
    table, column = _ansi(operation.table_name), _ansi(operation.column_name)
    fill = f"UPDATE {table} SET {column} = {value} WHERE {column} IS NULL"  # noqa: S608  names, quoted
    return [said, f"op.execute({fill!r})"]


def render(operations: Sequence[ops.MigrateOperation], connection: Connection) -> tuple[str, set[str]]:
    """The body of a function, and what of `holdfast.model` it names."""
    context = MigrationContext.configure(connection=connection)
    used: set[str] = set()
    given = AutogenContext(
        context,
        opts={
            "sqlalchemy_module_prefix": "sa.",
            "alembic_module_prefix": "op.",
            "render_item": lambda kind, item, _: _rendered(kind, item, used, connection),
            "render_as_batch": False,
            "user_module_prefix": None,
        },
    )
    given.imports = set()
    lines = [line for operation in operations for line in _lines(given, operation)]
    text = "\n".join(lines).strip() or "pass"
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines()), used | given.imports


def _lines(context: AutogenContext, operation: ops.MigrateOperation) -> list[str]:
    lines = render_op(context, operation)
    using = operation.kw.get("postgresql_using") if isinstance(operation, ops.AlterColumnOp) else None
    if using is not None:  # which Alembic leaves out
        lines[-1] = f"{lines[-1].removesuffix(')')}, postgresql_using={using!r})"
    return lines


def _rendered(kind: str, item: Any, used: set[str], connection: Connection) -> Any:
    if kind == "type" and isinstance(item, _OUR_TYPES):
        return _type(item, used)
    if kind == "type" and isinstance(item, BlindIndex | Encrypted):
        return "sa.LargeBinary()"  # which is what the database has; the model knows what is in it
    if kind == "check" and AMOUNT_CHECK in item.info:
        column, digits, dialect = item.info[AMOUNT_CHECK]
        used.add("Amount")
        number = 0 if dialect == "sqlite" else 1
        return f"Amount({digits}).checks({column!r})[{number}]"
    if kind == "server_default":
        return _server_default(item, used)
    return False


def _type(item: Any, used: set[str]) -> str:
    used.add(type(item).__name__)
    if isinstance(item, Amount):
        return f"Amount({item.digits})"
    length = getattr(item, "length", None)  # of a Text
    return f"{type(item).__name__}({'' if length is None else length})"


def _server_default(item: Any, used: set[str]) -> Any:
    argument = getattr(item, "arg", None)
    if isinstance(argument, database_actor | database_id | database_now):
        used.add(type(argument).__name__)
        return f"{type(argument).__name__}()"
    if isinstance(argument, BindParameter) and isinstance(argument.type, _OUR_TYPES):
        return f"sa.literal({argument.value!r}, {_type(argument.type, used)})"
    return False


@renderers.dispatch_for(ReplaceCaptureOp)
def _render_capture(context: Any, operation: ReplaceCaptureOp) -> str:
    if operation.after is None:
        assert operation.before is not None
        return f"op.release({operation.before.name!r})"
    given = "".join(f",\n    {name}={value!r}" for name, value in CaptureOp(operation.after).arguments().items())
    return f"op.capture(\n    {operation.after.name!r}{given},\n)"


@renderers.dispatch_for(CreatePartitionsOp)
def _render_partitions(context: Any, operation: CreatePartitionsOp) -> str:
    return f"op.create_partitions({operation.table_name!r}, by={operation.by!r}, ahead={operation.ahead})"


@renderers.dispatch_for(ReleaseOp)
def _render_release(context: Any, operation: ReleaseOp) -> str:
    return f"op.release({operation.table_name!r})"


@renderers.dispatch_for(SetNotNullOp)
def _render_not_null(context: Any, operation: SetNotNullOp) -> str:
    return f"op.set_not_null({operation.table_name!r}, {operation.column_name!r})"


@renderers.dispatch_for(ValidateConstraintOp)
def _render_validate(context: Any, operation: ValidateConstraintOp) -> str:
    return f"op.validate_constraint({operation.table_name!r}, {operation.constraint_name!r})"


@renderers.dispatch_for(AddUniqueOp)
def _render_unique(context: Any, operation: AddUniqueOp) -> str:
    return f"op.add_unique({operation.constraint_name!r}, {operation.table_name!r}, {operation.columns!r})"


@renderers.dispatch_for(CheckAmountsOp)
def _render_check(context: Any, operation: CheckAmountsOp) -> str:
    return f"op.check_amounts({operation.table_name!r}, {operation.column_name!r}, {operation.digits})"


@renderers.dispatch_for(UncheckAmountsOp)
def _render_uncheck(context: Any, operation: UncheckAmountsOp) -> str:
    return f"op.uncheck_amounts({operation.table_name!r}, {operation.column_name!r}, {operation.digits})"


def text_of(
    name: str, title: str, follows: str | None, *, phase: str, transactional: bool, up: str, down: str, used: set[str]
) -> str:
    """The text of a migration."""
    ours = sorted(word for word in used if word.isidentifier())
    others = sorted(word for word in used if not word.isidentifier())
    imports = ["import sqlalchemy as sa", "from alembic import op", *others]
    if ours:
        imports += ["", f"from holdfast.model import {', '.join(ours)}"]
    if "sa." not in up + down:
        imports.remove("import sqlalchemy as sa")
    body = "" if transactional else "transactional = False\n"
    after = f"after {follows}" if follows else "the first"
    return (
        f'"""{title}\n\n{name}, {after}; written on {dt.datetime.now(dt.UTC):%Y-%m-%d}.\n"""\n\n'
        + "\n".join(imports)
        + f'\n\nrevision = "{name}"\ndown_revision = {_quoted(follows)}\nphase = "{phase}"\n{body}'
        + f"\n\ndef upgrade() -> None:\n{up}\n\n\ndef downgrade() -> None:\n{down}\n"
    )


def _quoted(name: str | None) -> str:
    return "None" if name is None else f'"{name}"'


def write(folder: Path, name: str, text: str) -> Path:
    """Put a new migration into `folder`, which is made if need be. FileExistsError: there is one of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path
