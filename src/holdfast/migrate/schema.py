"""What a schema is, as the database tells it; and how two differ."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.sql.elements import ClauseElement

from holdfast.store.search_index import searches

_OURS = ("holdfast_", "alembic_version", "sqlite_")

_PARTITIONS = "SELECT relname FROM pg_class WHERE relispartition AND pg_table_is_visible(oid)"
_PARTED = """
    SELECT c.relname, pg_get_partkeydef(c.oid) AS parted_by
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid WHERE pg_table_is_visible(c.oid)
"""

_WRITTEN = """
    SELECT name, sql FROM sqlite_master WHERE type = 'index' AND lower(tbl_name) = lower(?) AND sql IS NOT NULL
        AND EXISTS (SELECT 1 FROM pragma_index_xinfo(sqlite_master.name) x WHERE x.key AND (x.cid = -2 OR x."desc"))
"""
_INDEX = re.compile(r"CREATE\s+(UNIQUE\s+)?INDEX\s.*?\sON\s+(?:\"[^\"]+\"|\w+)\s*", re.I | re.S)

Details = dict[str, str]  # what it is called (`column title`), how it is


@dataclass(frozen=True)
class Schema:
    """Tables by name; each a dictionary of what it has to how that is declared."""

    tables: Mapping[str, Details] = field(default_factory=dict)


def read(connection: Connection) -> Schema:
    """The schema that `connection` sees first, without Holdfast's own tables."""
    inspector = inspect(connection)
    apart = partitions(connection)
    names = [name for name in inspector.get_table_names() if not is_ours(name) and name not in apart]
    with reading_indexes():
        tables = {name: _details(inspector, name) for name in sorted(names)}
    if connection.dialect.name == "sqlite":
        for name, details in tables.items():
            details |= {f"index {index}": how for index, how in written_indexes(connection, name).items()}
    for name, parted in _parted(connection).items():
        if name in tables:
            tables[name]["partitions"] = parted
    # On PostgreSQL it is an index.
    for (name, search), parts in searches(connection).items() if connection.dialect.name == "sqlite" else ():
        if name in tables:
            tables[name][f"search {search}"] = parts
    return Schema(tables)


@contextmanager
def reading_indexes() -> Iterator[None]:
    """Let SQLAlchemy leave out what it cannot read of SQLite's indexes; `written_indexes` has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        yield


def written_indexes(connection: Connection, table: str) -> dict[str, str]:
    """The indexes of a SQLite table of more than columns, or in another order, as they are written: `(lower(name))`."""
    rows = connection.exec_driver_sql(_WRITTEN, (table,))
    return {name: _spaced(_INDEX.sub(lambda found: (found[1] or "").lower(), sql, count=1)) for name, sql in rows}


def partitions(connection: Connection) -> set[str]:
    """The tables that are partitions of others: they come and go with time, and no model declares them."""
    if connection.dialect.name != "postgresql":
        return set()
    return set(connection.exec_driver_sql(_PARTITIONS).scalars())


def _parted(connection: Connection) -> dict[str, str]:
    if connection.dialect.name != "postgresql":
        return {}
    return {row.relname: row.parted_by for row in connection.exec_driver_sql(_PARTED)}


def is_ours(table: str) -> bool:
    """Whether Holdfast, Alembic or SQLite keeps the table for itself."""
    return table.startswith(_OURS)


def differences(there: Schema, wanted: Schema, *, of: Iterable[str] | None = None) -> list[str]:
    """How `there` differs from `wanted`, a line each; only for the tables `of`, if given."""
    names = sorted({*there.tables, *wanted.tables} if of is None else set(of))
    found: list[str] = []
    for name in names:
        if name not in there.tables:
            found.append(f"table {name} is missing")
        elif name not in wanted.tables:
            found.append(f"table {name} is there, and nothing declares it")
        else:
            found += _of_table(name, there.tables[name], wanted.tables[name])
    return found


def _of_table(name: str, there: Details, wanted: Details) -> list[str]:
    found = [f"{name}: {what} is missing ({wanted[what]})" for what in wanted if what not in there]
    found += [f"{name}: {what} is there, and nothing declares it" for what in there if what not in wanted]
    changed = (what for what in wanted if what in there and there[what] != wanted[what])
    return found + [f"{name}: {what} is {there[what]}, and declared {wanted[what]}" for what in changed]


def _details(inspector: Any, table: str) -> Details:
    details: Details = {}
    for column in inspector.get_columns(table):
        kind = column["type"].compile(dialect=inspector.dialect)
        null = "" if column["nullable"] else " NOT NULL"
        default = f" DEFAULT {_plain(column['default'])}" if column.get("default") is not None else ""
        computed = f" GENERATED {_plain(column['computed']['sqltext'])}" if column.get("computed") else ""
        details[f"column {column['name']}"] = f"{kind}{null}{default}{computed}"
    key = inspector.get_pk_constraint(table)
    if key.get("constrained_columns"):
        details["primary key"] = ", ".join(key["constrained_columns"])
    for constraint in inspector.get_unique_constraints(table):
        details[f"unique {constraint['name']}"] = ", ".join(constraint["column_names"])
    for constraint in inspector.get_foreign_keys(table):
        target = f"{constraint['referred_table']} ({', '.join(constraint['referred_columns'])})"
        options = {k: v for k, v in sorted(constraint.get("options", {}).items()) if k != "not_valid"}
        described = f"({', '.join(constraint['constrained_columns'])}) to {target} {options or ''}".strip()
        details[f"foreign key {constraint['name'] or described}"] = described
    for constraint in inspector.get_check_constraints(table):
        text = _plain(constraint["sqltext"])
        details[f"check {constraint['name'] or text}"] = text
    for index in inspector.get_indexes(table):
        if index.get("duplicates_constraint"):
            continue
        columns = ", ".join(str(c) for c in index.get("expressions") or index["column_names"])
        options = {
            # The condition of a partial index has no truth of its own.
            k: _plain(v)
            for k, v in sorted(index.get("dialect_options", {}).items())
            if isinstance(v, ClauseElement) or v
        }
        details[f"index {index['name']}"] = f"{'unique ' if index['unique'] else ''}({columns}) {options or ''}".strip()
    return details


def _plain(value: Any) -> str:
    """SQL without what two ways of writing the same differ in: spaces, quotes around names, a schema's name."""
    text = re.sub(r"\bholdfast_scratch\.", "", _spaced(str(value)))
    while text.startswith("(") and text.endswith(")") and _closes_at_end(text):
        text = text[1:-1].strip()
    return text


def _spaced(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def _closes_at_end(text: str) -> bool:
    depth = 0
    for number, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return number == len(text) - 1
    return False
