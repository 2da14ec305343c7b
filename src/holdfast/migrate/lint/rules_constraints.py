"""Hazards of adding, validating and dropping constraints."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Action, Alter, Constraint

_NO_WRITER_WAITS = ("validate constraint", "set statistics", "set", "reset", "attach partition", "cluster on")
"""Actions of ALTER TABLE beside which a scan keeps nobody from writing."""


def add_constraint(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """ADD CONSTRAINT: what reads every row or builds an index while the table is locked."""
    constraint = action.constraint
    if constraint is None:
        return
    table = alter.name.text
    if constraint.kind in ("unique", "primary key"):
        yield from _index_backed(alter, constraint, situation)
    elif constraint.kind == "exclude":
        yield Problem(
            "add-exclusion-constraint",
            f"an exclusion constraint builds its index while {table} is under ACCESS EXCLUSIVE; it cannot be "
            "made in steps",
            f"-- make a new table with the constraint, copy {table} into it in batches, keep it up by a trigger, "
            "and move the application to it",
        )
    elif constraint.not_valid:
        return
    elif constraint.kind == "foreign key":
        name = constraint.name.text or f"{_bare(table)}_{'_'.join(constraint.columns)}_fkey"
        target = constraint.references.text if constraint.references else "the other table"
        yield Problem(
            "add-foreign-key",
            f"checking every row keeps {table} and {target} locked against writes",
            _two_steps(table, name, constraint.text),
        )
    elif constraint.kind == "check":
        name = constraint.name.text or f"{_bare(table)}_check"
        yield Problem(
            "add-check-constraint",
            f"checking every row keeps {table} under ACCESS EXCLUSIVE: reads and writes wait",
            _two_steps(table, name, constraint.text),
        )
    elif constraint.kind == "not null" and not all(
        situation.proves_not_null(alter.name, column) for column in constraint.columns
    ):
        name = constraint.name.text or f"{_bare(table)}_{'_'.join(constraint.columns)}_not_null"
        yield Problem(
            "set-not-null",
            f"checking every row keeps {table} under ACCESS EXCLUSIVE: reads and writes wait",
            _two_steps(table, name, constraint.text),
        )


def _index_backed(alter: Alter, constraint: Constraint, situation: Situation) -> Iterator[Problem]:
    table, kind = alter.name.text, constraint.kind.upper()
    if constraint.using_index is not None:
        index = situation.indexes.get(constraint.using_index.last)
        known = situation.tables.get(alter.name.key)
        if constraint.kind == "unique" or index is None or known is None:
            return
        nullable = [
            column
            for column in index.columns
            if column in known.columns and not situation.proves_not_null(alter.name, column)
        ]
        if nullable:
            columns = ", ".join(nullable)
            yield Problem(
                "primary-key-on-nullable",
                f"PRIMARY KEY sets {columns} NOT NULL, which reads every row of {table} under ACCESS EXCLUSIVE",
                f"ALTER TABLE {table} ADD CONSTRAINT {_bare(table)}_not_null "
                f"CHECK ({' AND '.join(f'{column} IS NOT NULL' for column in nullable)}) NOT VALID;\n"
                f"ALTER TABLE {table} VALIDATE CONSTRAINT {_bare(table)}_not_null; -- in a transaction of its own\n"
                + "".join(f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL;\n" for column in nullable)
                + "-- then the primary key USING INDEX",
            )
        return
    columns = ", ".join(constraint.columns)
    suffix = "pkey" if constraint.kind == "primary key" else "key"
    default = "_".join([_bare(table), *(constraint.columns if suffix == "key" else ()), suffix])
    name = constraint.name.text or default
    yield Problem(
        "add-primary-key" if constraint.kind == "primary key" else "add-unique-constraint",
        f"{kind} builds its index while {table} is under ACCESS EXCLUSIVE: reads and writes wait",
        f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns});\n"
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name};",
    )


def validate_constraint(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """VALIDATE CONSTRAINT under a lock that it does not need: of its own statement, or of its transaction."""
    together = next((other for other in alter.actions if other.kind not in _NO_WRITER_WAITS), None)
    if together is not None and not situation.is_fresh(alter.name):
        yield Problem(
            "validate-in-same-transaction",
            f"{together.kind} in the same statement keeps writers of {alter.name.text} waiting while every row is read",
            f"ALTER TABLE {alter.name.text} VALIDATE CONSTRAINT {action.name.text}; -- in a statement of its own",
        )
        return
    if not situation.in_transaction:
        return
    known = situation.tables.get(alter.name.key)
    check = known.checks.get(action.name.last) if known else None
    table, name = alter.name.text, action.name.text
    if check is not None and check.transaction == situation.transaction and not check.valid:
        why = f"{name} was added in this transaction: the lock of that is held while every row of {table} is read"
    elif alter.name.key in situation.held:
        why = f"{table} is under ACCESS EXCLUSIVE since line {situation.held[alter.name.key]}: reads wait for the scan"
    else:
        return
    yield Problem(
        "validate-in-same-transaction",
        why,
        f"COMMIT; -- before it, or in a migration of its own:\nALTER TABLE {table} VALIDATE CONSTRAINT {name};",
    )


def drop_constraint(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """DROP CONSTRAINT of a primary key, or of all that depends on it."""
    table, name = alter.name.text, action.name.text
    replaced = any(
        other.constraint is not None and other.constraint.kind == "primary key" and other.constraint.using_index
        for other in alter.actions
    )
    known = situation.tables.get(alter.name.key)
    primary = action.kind == "drop primary key" or action.name.last.endswith(("_pkey", "_pk"))
    if known is not None and known.primary_key:
        primary = primary or known.primary_key == action.name.last
    if action.cascade:
        yield Problem(
            "drop-cascade",
            f"CASCADE also drops the foreign keys of other tables that depend on {name}",
            f"-- drop what depends on it by name first, then\nALTER TABLE {table} DROP CONSTRAINT {name};",
        )
    elif primary and not replaced:
        yield Problem(
            "drop-primary-key",
            f"without its primary key {table} takes duplicates, and replication cannot tell its rows apart",
            f"CREATE UNIQUE INDEX CONCURRENTLY {_bare(table)}_new_pkey ON {table} (…);\n"
            f"ALTER TABLE {table} DROP CONSTRAINT {name}, "
            f"ADD CONSTRAINT {_bare(table)}_new_pkey PRIMARY KEY USING INDEX {_bare(table)}_new_pkey;",
        )


def domain_constraint(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """ALTER DOMAIN … ADD CONSTRAINT: every table with a column of the domain is read."""
    if f"domain {alter.name.key}" in situation.fresh:
        return
    constraint = action.constraint
    domain = alter.name.text
    if action.kind == "set not null":
        yield Problem(
            "alter-domain-constraint",
            f"NOT NULL on the domain {domain} reads every table that uses it, under SHARE locks",
            f"ALTER DOMAIN {domain} ADD CONSTRAINT {_bare(domain)}_not_null CHECK (VALUE IS NOT NULL) NOT VALID;\n"
            f"ALTER DOMAIN {domain} VALIDATE CONSTRAINT {_bare(domain)}_not_null; -- in a transaction of its own",
        )
    elif constraint is not None and not constraint.not_valid:
        name = constraint.name.text or f"{_bare(domain)}_check"
        yield Problem(
            "alter-domain-constraint",
            f"the constraint reads every table that uses the domain {domain}, under SHARE locks: writes wait",
            f"ALTER DOMAIN {domain} ADD CONSTRAINT {name} {constraint.text} NOT VALID;\n"
            f"ALTER DOMAIN {domain} VALIDATE CONSTRAINT {name}; -- in a transaction of its own",
        )


def _two_steps(table: str, name: str, text: str) -> str:
    return (
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {text} NOT VALID;\n"
        f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}; -- in a transaction of its own"
    )


def _bare(name: str) -> str:
    return name.rpartition(".")[2].strip('"')
