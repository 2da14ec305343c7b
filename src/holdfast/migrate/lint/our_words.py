"""The safe rewrite as Holdfast's own revisions say it: `op.add_unique(…)` in place of the SQL of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.reader import Name, written
from holdfast.migrate.lint.syntax import Action, Alter, CreateIndex, Drop, Record, Write

_STEPS = "  # in a migration with transactional = False"
_BATCHES = "in batches: a backfill, or an op.execute a batch in a migration with transactional = False"


def in_our_words(problem: Problem, record: Record, action: Action | None = None) -> Problem:
    """The same problem; its fix names our operation where there is one for it."""
    fix = ""
    if isinstance(record, Alter) and action is not None and problem.rule in _ACTIONS:
        fix = _ACTIONS[problem.rule](record, action)
    elif isinstance(record, CreateIndex) and problem.rule in ("create-index", "concurrently-in-transaction"):
        fix = _index(record)
    elif isinstance(record, Drop) and problem.rule in ("drop-index", "concurrently-in-transaction"):
        names = (name.last for name in record.names)
        fix = "\n".join(
            f"op.drop_index({name!r}, table_name=…, postgresql_concurrently=True){_STEPS}" for name in names
        )
    elif isinstance(record, Drop) and problem.rule in ("drop-table", "drop-view", "drop-schema"):
        fix = _post(", ".join(name.text for name in record.names))
    elif isinstance(record, Write) and problem.rule == "update-all-rows":
        fix = f"# fill {record.table.text} {_BATCHES}"
    elif isinstance(record, Write) and problem.rule == "delete-all-rows":
        fix = f"# take the rows from {record.table.text} {_BATCHES}"
    elif problem.rule == "work-under-lock":
        fix = "# in a migration of its own, behind the one that alters the table"
    return msgspec.structs.replace(problem, fix=fix) if fix else problem


def _post(what: str) -> str:
    return f'phase = "post"  # at the top of a migration of its own: it runs when no program uses {what} any more'


def _index(record: CreateIndex) -> str:
    columns = list(record.columns) if record.columns and all(record.columns) else None
    said = repr(columns) if columns else "[sa.text('…')]"
    unique = ", unique=True" if record.unique else ""
    name = record.name.last or f"ix_{record.table.last}"
    return f"op.create_index({name!r}, {_of(record.table)}, {said}{unique}, postgresql_concurrently=True){_STEPS}"


def _set_not_null(alter: Alter, action: Action) -> str:
    columns = (action.name.last,) if action.constraint is None else action.constraint.columns
    steps = f'{_STEPS} and phase = "post"'
    return "\n".join(f"op.set_not_null({_of(alter.name)}, {column!r}){steps}" for column in columns)


def _add_unique(alter: Alter, action: Action) -> str:
    columns = action.constraint.columns if action.constraint is not None else (action.name.last,)
    name = action.constraint.name.last if action.constraint is not None else ""
    return _unique(alter.name, name, columns)


def _unique(table: Name, name: str, columns: Sequence[str]) -> str:
    name = name or f"uq_{table.last}_{'_'.join(columns)}"
    return f"op.add_unique({name!r}, {_of(table)}, {list(columns)!r}){_STEPS}"


def _foreign_key(alter: Alter, action: Action) -> str:
    constraint = action.constraint
    assert constraint is not None
    name = constraint.name.last or f"fk_{alter.name.last}_{'_'.join(constraint.columns)}"
    target = constraint.references.last if constraint.references is not None else "…"
    return _key(alter.name, name, target, constraint.columns)


def _key(table: Name, name: str, target: str, columns: Sequence[str]) -> str:
    given = f"{name!r}, {_of(table)}, {target!r}, {list(columns)!r}, […]"
    return f"op.create_foreign_key({given}, postgresql_not_valid=True)\n{_validate(table, name)}"


def _check(alter: Alter, action: Action) -> str:
    constraint = action.constraint
    assert constraint is not None
    return _checked(alter.name, constraint.name.last or f"ck_{alter.name.last}", written(constraint.expression))


def _checked(table: Name, name: str, condition: str) -> str:
    return (
        f"op.create_check_constraint({name!r}, {_of(table)}, {condition!r}, postgresql_not_valid=True)\n"
        + _validate(table, name)
    )


def _validate(table: Name, name: str) -> str:
    return f"op.validate_constraint({_of(table)}, {name!r}){_STEPS}, behind it"


def _column(alter: Alter, action: Action) -> str:
    return f"op.add_column({_of(alter.name)}, sa.Column({action.name.last!r}, …, nullable=True))"


def _column_not_null(alter: Alter, action: Action) -> str:
    return f"{_column(alter, action)}\n# fill it {_BATCHES}, then\n{_set_not_null(alter, action)}"


def _column_unique(alter: Alter, action: Action) -> str:
    return f"{_column(alter, action)}\n{_unique(alter.name, '', [action.name.last])}"


def _column_foreign_key(alter: Alter, action: Action) -> str:
    target = action.column.references.last if action.column is not None and action.column.references else "…"
    name = f"fk_{alter.name.last}_{action.name.last}"
    return f"{_column(alter, action)}\n{_key(alter.name, name, target, [action.name.last])}"


def _column_check(alter: Alter, action: Action) -> str:
    condition = written(action.column.check or ()) if action.column is not None else "…"
    return f"{_column(alter, action)}\n{_checked(alter.name, f'ck_{alter.name.last}_{action.name.last}', condition)}"


def _column_filled(alter: Alter, action: Action) -> str:
    return f"{_column(alter, action)}\n# then op.alter_column(…, server_default=…), and fill it {_BATCHES}"


def _moved(alter: Alter, action: Action) -> str:
    old = action.name.last
    new = action.new_name.last or f"{old}_new"
    return (
        f"op.add_column({_of(alter.name)}, sa.Column({new!r}, …))\n"
        f"# have the program write both, fill {new} {_BATCHES}, have it read {new}, then\n"
        f'op.drop_column({_of(alter.name)}, {old!r})  # in a migration with phase = "post"'
    )


def _of(table: Name) -> str:
    return repr(table.last)


_ACTIONS: Mapping[str, Callable[[Alter, Action], str]] = {
    "add-column-not-null": _column_not_null,
    "add-column-volatile-default": _column_filled,
    "add-column-auto-increment": _column_filled,
    "add-column-unique": _column_unique,
    "add-column-foreign-key": _column_foreign_key,
    "add-column-check": _column_check,
    "set-not-null": _set_not_null,
    "add-unique-constraint": _add_unique,
    "add-foreign-key": _foreign_key,
    "add-check-constraint": _check,
    "validate-in-same-transaction": lambda alter, action: _validate(alter.name, action.name.last),
    "alter-column-type": _moved,
    "rename-column": _moved,
    "drop-column": lambda alter, action: _post(action.name.text),
}
