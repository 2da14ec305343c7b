"""Hazards of ALTER TABLE for a table's columns."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.reader import Name, Reader, written
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.sql_types import is_plain_cast, is_serial, keeps_rows
from holdfast.migrate.lint.syntax import Action, Alter, Column
from holdfast.migrate.lint.volatility import volatile_call


def add_column(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """ADD COLUMN: a rewrite, a scan, or a failure on a table with rows."""
    column = action.column
    if column is None:
        return
    table, name, kind = alter.name.text, column.name.text, column.type.text
    backfill = f"-- then fill {name} in small batches outside of the migration"
    if is_serial(column.type) or column.identity:
        yield Problem(
            "add-column-auto-increment",
            f"a new auto-incrementing column {name} rewrites {table} under ACCESS EXCLUSIVE: reads and writes wait",
            f"ALTER TABLE {table} ADD COLUMN {name} bigint;\n"
            f"CREATE SEQUENCE {_safe(table, name)}_seq OWNED BY {table}.{name};\n"
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT nextval('{_safe(table, name)}_seq');\n{backfill}",
        )
    if column.generated == "stored":
        yield Problem(
            "add-column-stored-generated",
            f"a stored generated column {name} is computed for every row: {table} is rewritten under ACCESS EXCLUSIVE",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n-- fill it by a trigger for new rows; {backfill[3:]}",
        )
    volatile = volatile_call(column.default) if column.default else None
    if volatile and not _is_computed(column):
        yield Problem(
            "add-column-volatile-default",
            f"the default of {name} calls {volatile}() for every row: {table} is rewritten under ACCESS EXCLUSIVE",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n"
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {written(column.default or ())};\n{backfill}",
        )
    yield from add_not_null(alter, column)
    if column.unique or column.primary_key:
        word = "PRIMARY KEY" if column.primary_key else "UNIQUE"
        index = f"{_safe(table, name)}_key"
        yield Problem(
            "add-column-unique",
            f"{word} on the new column {name} builds its index while {table} is under ACCESS EXCLUSIVE",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n"
            f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} ({name});\n"
            f"ALTER TABLE {table} ADD CONSTRAINT {index} {word} USING INDEX {index};",
        )
    if column.references is not None and not situation.is_fresh(alter.name):
        target, made = column.references.text, f"{_safe(table, name)}_fkey"
        yield Problem(
            "add-column-foreign-key",
            f"REFERENCES on the new column {name} locks {table} and {target} in one statement: writes to "
            "both wait, and a value by default is checked in every row",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n"
            f"ALTER TABLE {table} ADD CONSTRAINT {made} FOREIGN KEY ({name}) REFERENCES {target} NOT VALID;\n"
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {made}; -- in a transaction of its own",
        )
    if column.check is not None:
        made = f"{_safe(table, name)}_check"
        yield Problem(
            "add-column-check",
            f"CHECK on the new column {name} reads every row of {table} under ACCESS EXCLUSIVE",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};\n"
            f"ALTER TABLE {table} ADD CONSTRAINT {made} CHECK ({written(column.check)}) NOT VALID;\n"
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {made}; -- in a transaction of its own",
        )
    dropped = situation.defaults_dropped_later.get(alter.name.key, ())
    if column.not_null and column.default and not _is_null(column) and name_key(column.name) in dropped:
        yield Problem(
            "add-column-default-dropped",
            f"the default of {name} is dropped again: rows that the application inserts before it knows {name} "
            "fail on NOT NULL",
            f"ALTER TABLE {table} {action.text};\n"
            f"-- and keep the default until every instance of the application writes {name}",
        )


def add_not_null(alter: Alter, column: Column) -> Iterator[Problem]:
    """ADD COLUMN … NOT NULL with no value for the rows that are there."""
    if not column.not_null or _is_computed(column) or (column.default and not _is_null(column)):
        return
    table, name = alter.name.text, column.name.text
    yield Problem(
        "add-column-not-null",
        f"{name} is NOT NULL without a default: it fails on a table with rows, and the application that runs "
        f"now cannot insert into {table} any more",
        f"ALTER TABLE {table} ADD COLUMN {name} {column.type.text};\n"
        f"-- then fill {name} in small batches outside of the migration, then\n{_not_null_steps(table, name)}",
    )


def set_not_null(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """SET NOT NULL: a scan under ACCESS EXCLUSIVE unless a valid CHECK spares it, and inserts that fail."""
    table, column = alter.name.text, action.name.text
    if situation.proves_not_null(alter.name, action.name.last):
        if situation.phase == "pre" and not situation.has_default(alter.name, action.name.last):
            yield Problem(
                "not-null-before-deployment",
                f"{column} has no default: the program that still runs may write {table} without it, and then fails",
                f'phase = "post"  # at the top of a migration of its own: once every program writes {column}',
            )
        return
    yield Problem(
        "set-not-null",
        f"SET NOT NULL reads every row of {table} under ACCESS EXCLUSIVE: reads and writes wait",
        _not_null_steps(table, column),
    )


def alter_column_type(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """ALTER COLUMN … TYPE: a rewrite, unless the old type is known and its values stay as they are."""
    new = action.type
    if new is None:
        return
    old = situation.known_type(alter.name, action.name.last)
    plain = action.using is None or is_plain_cast(action.using, action.name.last, new)
    utc = situation.settings.get("timezone") in ("utc", "gmt", "etc/utc", "0")
    if old is not None and plain and keeps_rows(old, new, utc):
        return
    table, column = alter.name.text, action.name.text
    fresh = f"{column.strip(chr(34))}_new"
    was = f" from {old.text}" if old else ""
    hint = (
        ""
        if old
        else "; if the rows stay as they are (varchar(n) to a longer one, say), name the old type above it: "
        f"-- holdfast: {table}.{column} was TYPE"
    )
    yield Problem(
        "alter-column-type",
        f"changing {column}{was} to {new.text} may rewrite {table} and its indexes under ACCESS EXCLUSIVE{hint}",
        f"ALTER TABLE {table} ADD COLUMN {fresh} {new.text};\n"
        f"-- write both columns (by a trigger or in the application), fill {fresh} in batches, "
        f"move reads to {fresh}, then drop {column}",
    )


def drop_column(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """DROP COLUMN: the running application still reads it; once no old one runs, nothing is wrong with it."""
    if action.name.last in situation.added.get(alter.name.key, ()):
        return
    table, column = alter.name.text, action.name.text
    if action.cascade:
        yield Problem(
            "drop-cascade",
            f"CASCADE also drops whatever depends on {column}, which is not named here",
            f"-- drop what depends on it by name first, then\nALTER TABLE {table} DROP COLUMN {column};",
            # Some tools write it with every column: alone it says no more than the removal itself.
            "warning" if situation.phase is None else "error",
        )
    if situation.phase != "post":
        yield Problem(
            "drop-column",
            f"the application that runs now may still read or write {column}: its statements on {table} fail",
            f"-- holdfast: allow drop-column because no released code uses {column}\n"
            f"ALTER TABLE {table} DROP COLUMN {column}; -- in a release after the one that stopped using it",
        )


def rename_column(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """RENAME COLUMN: the running application knows the old name, unless the script has made the column."""
    if action.name.last in situation.added.get(alter.name.key, ()):
        return
    table, old, new = alter.name.text, action.name.text, action.new_name.text
    yield Problem(
        "rename-column",
        f"the application that runs now knows the column {old}: its statements on {table} fail",
        f"ALTER TABLE {table} ADD COLUMN {new} …; -- the type of {old}\n"
        f"-- write both columns, fill {new} in batches, move reads to {new}, then drop {old} in a later release",
    )


def set_expression(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """SET EXPRESSION: the stored values are computed again."""
    table = alter.name.text
    yield Problem(
        "set-expression",
        f"a new expression of {action.name.text} rewrites {table} under ACCESS EXCLUSIVE",
        f"-- add another column to {table} with the new expression, fill it in batches, move reads to it",
    )


def name_key(name: Name) -> str:
    """A column's name, folded."""
    return name.last


def _is_computed(column: Column) -> bool:
    return bool(is_serial(column.type) or column.identity or column.generated)


def _is_null(column: Column) -> bool:
    return bool(column.default) and Reader(column.default or ()).sees("null")


def _safe(table: str, column: str) -> str:
    return f"{table.rpartition('.')[2].strip(chr(34))}_{column.strip(chr(34))}"


def _not_null_steps(table: str, column: str) -> str:
    check = f"{_safe(table, column)}_not_null"
    return (
        f"ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID;\n"
        f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}; -- in a transaction of its own\n"
        f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL;\n"
        f"ALTER TABLE {table} DROP CONSTRAINT {check};"
    )
