"""Hazards on SQLite, where a writer locks the whole file anyway: what fails, and what loses rows.

A rebuild is the way SQLite's documentation gives for what ALTER TABLE cannot do
(https://www.sqlite.org/lang_altertable.html#otheralter): make a new table, copy, drop the old one, rename.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint import rules_columns, rules_data, rules_tables
from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.our_words import in_our_words
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Action, Alter, Drop, Maintain, Record, Setting, Write

_NOT_CONSTANT = ("current_timestamp", "current_date", "current_time", "(")


def problems_of(record: Record, situation: Situation) -> Iterator[Problem]:
    """What is wrong with a statement on SQLite, given what the statements before it did."""
    if isinstance(record, Alter) and record.what == "table":
        found: Iterator[tuple[Problem, Action | None]] = (
            (problem, action) for action in record.actions for problem in _action(record, action, situation)
        )
    else:
        found = ((problem, None) for problem in _of_others(record, situation))
    for problem, action in found:
        yield problem if situation.phase is None else in_our_words(problem, record, action)


def _of_others(record: Record, situation: Situation) -> Iterator[Problem]:
    if isinstance(record, Drop) and record.what == "table":
        for name in record.names:
            if name.key in situation.rebuilt:
                yield from _rebuild(name.text, situation)
            else:
                yield from rules_tables.drop(record, situation)
    elif isinstance(record, Write) and record.what in ("update", "delete"):
        yield from rules_data.write(record, situation)
    elif isinstance(record, Maintain) and record.what == "vacuum" and situation.in_transaction:
        yield from rules_tables.vacuum(record, situation)
    elif isinstance(record, Setting) and record.name == "pragma foreign_keys" and situation.in_transaction:
        yield Problem(
            "pragma-in-transaction",
            "PRAGMA foreign_keys does nothing inside a transaction",
            f"PRAGMA foreign_keys = {record.value or 'off'}; -- before BEGIN",
        )


def _action(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    if action.kind == "rename":
        if action.new_name.key not in situation.rebuilt and not situation.is_fresh(alter.name):
            yield from rules_tables.rename(alter, action, situation)
        return
    if situation.is_fresh(alter.name):
        return
    if action.kind == "drop column":
        yield from rules_columns.drop_column(alter, action, situation)
    elif action.kind == "rename column":
        yield from rules_columns.rename_column(alter, action, situation)
    elif action.kind == "add column" and action.column is not None:
        yield from _add_column(alter, action, situation)


def _add_column(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    column = action.column
    if column is None:
        return
    table, name, kind = alter.name.text, column.name.text, column.type.text
    if column.unique or column.primary_key:
        yield Problem(
            "add-column-unique",
            f"SQLite refuses to add {name} with UNIQUE or PRIMARY KEY",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n"
            f"CREATE UNIQUE INDEX {table}_{name}_key ON {table} ({name});",
        )
    if column.not_null and not column.default and not column.generated:
        yield Problem(
            "add-column-not-null",
            f"SQLite refuses to add {name} as NOT NULL without a default",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT …;",
        )
    if column.default and column.default[0].value in _NOT_CONSTANT:
        yield Problem(
            "add-column-not-constant",
            f"SQLite refuses to add {name} with a default that is not constant",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n-- and fill it by the application, or by a rebuild",
        )
    if column.generated == "stored":
        yield Problem(
            "add-column-stored-generated",
            f"SQLite refuses to add the stored generated column {name}",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind} GENERATED ALWAYS AS (…) VIRTUAL;",
        )


def _rebuild(table: str, situation: Situation) -> Iterator[Problem]:
    if situation.settings.get("pragma foreign_keys") not in ("off", "0", "false", "no"):
        yield Problem(
            "rebuild-with-foreign-keys",
            f"with foreign keys on, dropping {table} deletes what references it (ON DELETE CASCADE) or fails",
            "PRAGMA foreign_keys = OFF; -- before BEGIN\n-- the rebuild\nPRAGMA foreign_key_check;\n"
            "PRAGMA foreign_keys = ON; -- after COMMIT",
        )
