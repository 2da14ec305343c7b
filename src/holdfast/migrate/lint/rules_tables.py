"""Hazards for whole tables, and for what else the running application knows by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.rules_indexes import in_transaction
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Action, Alter, Column, CreateTable, Drop, Maintain, Rename

_BREAKING = ("table", "foreign table", "view", "materialized view", "schema", "database", "owned by")
_AFTERWARDS = ("table", "foreign table", "view", "materialized view", "schema")
"""What a migration may drop when no program uses it any more."""
_RULES = {"foreign table": "drop-table", "materialized view": "drop-view", "owned by": "drop-owned"}
_REWRITES = {
    "alter-column-type", "set-expression", "add-column-volatile-default", "add-column-auto-increment",
    "add-column-stored-generated", "set-tablespace", "set-access-method", "set-logged", "set-unlogged",
}  # fmt: skip
_WEAK_LOCKS = ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE")


def drop(record: Drop, situation: Situation) -> Iterator[Problem]:
    """DROP TABLE and its like: the running application still uses it, and the rows are gone."""
    for name in record.names:
        fresh = situation.is_fresh(name) or f"{record.what} {name.key}" in situation.fresh
        what = record.what.upper()
        if fresh:
            continue
        replaced = record.what.endswith("view") and name.key in situation.views_later
        rule = _RULES.get(record.what, f"drop-{record.what}")
        if record.what in _BREAKING and not replaced and not _is_afterwards(record, situation):
            backup = "" if rule == "drop-view" else ", with a backup"
            yield Problem(
                rule,
                f"{name.text} and what is in it are gone, and the application that runs now may still use it",
                f"-- holdfast: allow {rule} because no released code uses {name.text}\n"
                f"DROP {what} {name.text}; -- in a release after the one that stopped using it{backup}",
                # A view can be made again; only the program that is to use it tells whether it is missed.
                "warning" if rule == "drop-view" and situation.phase is None else "error",
            )
        if record.cascade and record.what not in ("owned by", "database"):
            yield Problem(
                "drop-cascade",
                f"CASCADE also drops whatever depends on {name.text}, which is not named here",
                f"-- drop what depends on it by name first, then\nDROP {what} {name.text};",
            )


def _is_afterwards(record: Drop, situation: Situation) -> bool:
    return situation.phase == "post" and record.what in _AFTERWARDS


def rename(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """RENAME TO: the running application knows the old name."""
    if alter.what not in ("table", "foreign table", "view", "materialized view", "schema"):
        return
    if alter.name.last.endswith("_seq") and action.new_name.last.endswith("_seq"):
        return  # a sequence, which ALTER TABLE renames too; its column knows it by number
    if alter.name.key in situation.views_later or f"schema {alter.name.key}" in situation.fresh:
        return
    what, old, new = alter.what, alter.name.text, action.new_name.text
    rule = {"schema": "rename-schema", "table": "rename-table", "foreign table": "rename-table"}.get(
        what, "rename-view"
    )
    if what == "schema":
        fix = f"CREATE SCHEMA {new};\n-- make the tables anew in it, copy in batches, move the application, drop {old}"
    else:
        fix = (
            f"BEGIN;\nALTER {what.upper()} {old} RENAME TO {new};\n"
            f"CREATE VIEW {old} AS SELECT * FROM {new}; -- until no released code uses the old name\nCOMMIT;"
        )
    yield Problem(rule, f"the application that runs now knows the {what} {old}: its statements fail", fix)


def set_schema(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """SET SCHEMA: for the running application it is a rename."""
    old, schema = alter.name.text, action.name.text
    yield Problem(
        "rename-table",
        f"the application that runs now looks for {old} where it was: its statements fail",
        f"BEGIN;\nALTER {alter.what.upper()} {old} SET SCHEMA {schema};\n"
        f"CREATE VIEW {old} AS SELECT * FROM {schema}.{old.rpartition('.')[2]};\nCOMMIT;",
    )


def rename_in_type(record: Rename, situation: Situation) -> Iterator[Problem]:
    """RENAME VALUE: the running application writes the old label; RENAME TO: it casts to the old name."""
    if f"type {record.name.key}" in situation.fresh:
        return
    if record.what == "type":
        if record.name.key not in situation.types_later:
            yield _renamed_type(record)
        return
    yield Problem(
        "rename-enum-value" if record.what == "value" else "rename-attribute",
        f"the application that runs now knows {record.old!r} of {record.name.text}: its statements fail",
        f"ALTER TYPE {record.name.text} ADD VALUE '{record.new}';\n"
        f"-- move the application and the rows to it; '{record.old}' stays",
    )


def _renamed_type(record: Rename) -> Problem:
    old, new = record.old, record.new
    return Problem(
        "rename-type",
        f"the application that runs now casts to {old}, as drivers do with values of an enum: its statements fail",
        f"-- leave the name; or make {new} anew beside it, move one column after the other to it, then drop {old}",
    )


def rewrite(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """SET TABLESPACE, SET LOGGED, SET ACCESS METHOD: the table is copied under ACCESS EXCLUSIVE."""
    table = alter.name.text or "every table of it"
    yield Problem(
        action.kind.replace(" ", "-"),
        f"{action.text} copies {table} and its indexes under ACCESS EXCLUSIVE: reads and writes wait",
        f"-- pg_repack can do it online; or make a new table so, copy {table} in batches, move to it",
    )


def rewrite_under_lock(alter: Alter, found: Sequence[Problem], situation: Situation) -> Iterator[Problem]:
    """A rewrite while the transaction keeps another table locked: that one waits too, for all of it."""
    others = [key for key in situation.held if key != alter.name.key]
    if not (others and situation.in_transaction and any(problem.rule in _REWRITES for problem in found)):
        return
    yield Problem(
        "rewrite-under-lock",
        f"{others[0]} is under ACCESS EXCLUSIVE since line {situation.held[others[0]]}, and its readers wait until "
        f"{alter.name.text} is rewritten",
        f"COMMIT; -- before it, or in a migration of its own:\nALTER TABLE {alter.name.text} …;",
    )


def disable_trigger(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """DISABLE TRIGGER: what the trigger keeps right is wrong for every writer meanwhile."""
    table = alter.name.text
    yield Problem(
        "disable-trigger",
        f"until it is enabled again no writer of {table} runs the trigger: foreign keys, audit and capture have gaps",
        f"-- leave the trigger on, and write to {table} in small batches; or SET LOCAL session_replication_role in "
        "the one session that must not fire it",
    )


def truncate(record: Maintain, situation: Situation) -> Iterator[Problem]:
    """TRUNCATE: the rows are gone, under ACCESS EXCLUSIVE."""
    for name in record.names:
        if not situation.is_fresh(name):
            also = " and of every table that references it" if record.cascade else ""
            yield Problem(
                "truncate",
                f"all rows of {name.text}{also} are gone, under ACCESS EXCLUSIVE",
                f"DELETE FROM {name.text} WHERE …; -- in small batches, outside of the migration",
            )


def vacuum(record: Maintain, situation: Situation) -> Iterator[Problem]:
    """VACUUM FULL and CLUSTER: the table is rewritten under ACCESS EXCLUSIVE."""
    if record.names and all(situation.is_fresh(name) for name in record.names):
        return
    table = record.names[0].text if record.names else "every table"
    if record.what == "cluster" or record.full:
        what = "CLUSTER" if record.what == "cluster" else "VACUUM FULL"
        yield Problem(
            "cluster" if record.what == "cluster" else "vacuum-full",
            f"{what} rewrites {table} under ACCESS EXCLUSIVE: reads and writes wait",
            f"VACUUM (ANALYZE) {record.names[0].text if record.names else ''}".rstrip()
            + "; -- or pg_repack, which rewrites it online",
        )
    elif situation.in_transaction:
        yield in_transaction("VACUUM", f"VACUUM {record.names[0].text if record.names else ''}".rstrip() + ";")


def lock(record: Maintain, situation: Situation) -> Iterator[Problem]:
    """LOCK TABLE: writers, or everybody, wait until the transaction ends."""
    existing = [name.text for name in record.names if not situation.is_fresh(name)]
    if not existing or record.mode in _WEAK_LOCKS:
        return
    yield Problem(
        "lock-table",
        f"{', '.join(existing)} stays locked ({record.mode}) until the transaction ends",
        "-- without LOCK TABLE: let each statement take its own lock, with a lock_timeout, and try again",
    )


def json_columns(columns: tuple[Column, ...], table: str, situation: Situation) -> Iterator[Problem]:
    """Columns of type json, which has no equality: SELECT DISTINCT and GROUP BY over the table fail."""
    for column in columns:
        if column.type.name == "json":
            name = column.name.text
            yield Problem(
                "json-column",
                f"{name} is json, which has no equality operator: SELECT DISTINCT and GROUP BY on {table} fail",
                f"-- use jsonb: {name} jsonb",
            )


def create_table(record: CreateTable, situation: Situation) -> Iterator[Problem]:
    """CREATE TABLE takes nothing from anybody but json columns its equality."""
    yield from json_columns(record.columns, record.name.text, situation)
