"""Making a table of SQLite anew, which is how it is altered, without losing what hangs on it.

Alembic copies what SQLAlchemy reads of a table. What that misses is given to it (collations, the table's options,
CHECKs without a name), put back behind it (triggers, views, indexes as they were written), or refused beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from alembic.operations import BatchOperations, Operations, ops
from sqlalchemy import CheckConstraint, Connection, Insert, event, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from holdfast.errors import MigrationError

_ON = """
    SELECT upper(type), name, tbl_name, sql FROM sqlite_master
    WHERE type IN ('index', 'trigger', 'view') AND sql IS NOT NULL ORDER BY rowid
"""
_TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|\w+|.""", re.S)


@dataclass(frozen=True)
class _Kept:
    """An index, trigger or view: its name, the table it is on, its definition."""

    kind: str
    name: str
    table: str
    sql: str

    def names(self, word: str) -> bool:
        return re.search(rf"\b{re.escape(word)}\b", self.sql, re.I) is not None


@contextmanager
def keeping(operations: Operations, table: str, schema: str | None = None, **options: Any) -> Iterator[BatchOperations]:
    """`Operations.batch_alter_table` for SQLite.

    The views and other tables' triggers that name the table step aside meanwhile: SQLite looks through them when a
    table gets its name, and misses the one that is being made anew. Indexes of columns that go, go with them.

    Raises:
        MigrationError: the table has what cannot be kept, or what is put back does not fit any more.
    """
    connection = operations.get_bind()
    _add_what_is_missed(connection, table, options)
    with _without_generated(connection), Operations.batch_alter_table(operations, table, schema, **options) as batch:
        yield batch
        kept = _set_aside(connection, table, _Changes.of(batch))
    for one in kept:
        _put_back(connection, one)


def _set_aside(connection: Connection, table: str, changes: _Changes) -> list[_Kept]:
    """Drop what Alembic would lose or stumble over; returns what is to be made again, in its order."""
    kept = []
    for one in [_Kept(*row) for row in connection.exec_driver_sql(_ON)] if changes.anew else ():
        if one.kind != "INDEX":
            if one.table != table and not one.names(table):
                continue
            kept.append(one)
        elif one.table != table or one.name in changes.dropped or (changes.renamed and _is_plain(connection, one)):
            continue
        elif not any(map(one.names, changes.gone)):
            kept.append(one)
        connection.exec_driver_sql(f"DROP {one.kind} {_quoted(one.name)}")
    return kept


def _is_plain(connection: Connection, index: _Kept) -> bool:
    """Whether Alembic can make the index anew with the new name of a column: it is one of columns alone."""
    expressions = "SELECT count(*) FROM pragma_index_xinfo(?) WHERE cid = -2"
    return connection.exec_driver_sql(expressions, (index.name,)).scalar() == 0


def renamed(operations: Operations, operation: ops.AlterColumnOp) -> ops.AlterColumnOp:
    """Rename a column as SQLite does it itself, in all that names it too; what else is to change of it is returned."""
    old, new = operation.column_name, str(operation.modify_name)
    table = operation.table_name
    operations.execute(f"ALTER TABLE {_quoted(table)} RENAME COLUMN {_quoted(old)} TO {_quoted(new)}")
    rest = copy(operation)
    rest.column_name, rest.modify_name = new, None
    return rest


@dataclass(frozen=True)
class _Changes:
    """What a batch is about to do."""

    anew: bool
    gone: frozenset[str]
    dropped: frozenset[str]  # indexes
    renamed: bool

    @classmethod
    def of(cls, batch: BatchOperations) -> _Changes:
        impl: Any = batch.impl
        return cls(
            anew=impl._should_recreate(),
            gone=frozenset(str(given[1].name) for what, given, _ in impl.batch if what == "drop_column"),
            dropped=frozenset(str(given[0].name) for what, given, _ in impl.batch if what == "drop_index"),
            renamed=any(what == "alter_column" and more.get("name") for what, _, more in impl.batch),
        )


def _put_back(connection: Connection, one: _Kept) -> None:
    try:
        connection.exec_driver_sql(one.sql)
    except DBAPIError as error:
        raise MigrationError(
            f"the {one.kind.lower()} {one.name} of {one.table} cannot be kept, since it names what changes"
            f" ({error.orig}); drop it before that, and make it again behind it"
        ) from error


def _add_what_is_missed(connection: Connection, table: str, options: dict[str, Any]) -> None:
    """Tell Alembic what SQLAlchemy does not read of `table`."""
    sql = connection.exec_driver_sql(_TABLE, (table,)).scalar()
    if sql is None or options.get("copy_from") is not None:
        return
    definitions, behind = _definitions(sql)
    collations, computed = {}, {}
    for name, text, inside in definitions:
        if re.search(r"\bON\s+CONFLICT\b", text, re.I):
            raise MigrationError(
                f"{table} must be made anew, and would lose `ON CONFLICT` of {name}; make the new table yourself, with"
                " op.execute: CREATE TABLE, INSERT … SELECT, DROP TABLE, ALTER TABLE … RENAME"
            )
        if found := re.search(r"\bCOLLATE\s+[\"`\[]?(\w+)", text, re.I):
            collations[name.lower()] = found[1]
        if re.search(r"\bAS\b", text, re.I):
            # The last parentheses are those of the expression; SQLAlchemy reads on behind them.
            persisted = re.search(r"\bSTORED\b", text, re.I) is not None
            computed[name.lower()] = {"sqltext": _escaped(inside[-1]), "persisted": persisted}

    def reflected(inspector: Any, of: Any, column: Any) -> None:
        if (collation := collations.get(column["name"].lower())) is not None:
            column["type"] = copy(column["type"])
            column["type"].collation = collation
        if isinstance(column.get("default"), str):
            column["default"] = _escaped(column["default"])
        if column.get("computed") and column["name"].lower() in computed:
            column["computed"] = computed[column["name"].lower()]

    reflect: dict[str, Any] = dict(options.get("reflect_kwargs") or {})
    reflect["listeners"] = [*reflect.get("listeners", ()), ("column_reflect", reflected)]
    options["reflect_kwargs"] = reflect
    given: dict[str, Any] = dict(options.get("table_kwargs") or {})
    if re.search(r"\bWITHOUT\s+ROWID\b", behind, re.I):
        given.setdefault("sqlite_with_rowid", False)
    if re.search(r"\bSTRICT\b", behind, re.I):
        given.setdefault("sqlite_strict", True)
    if any(re.search(r"\bAUTOINCREMENT\b", text, re.I) for _, text, _ in definitions):
        given.setdefault("sqlite_autoincrement", True)
    options["table_kwargs"] = given
    checks = inspect(connection).get_check_constraints(table)
    for check in checks:
        if check["name"] and _escaped(check["sqltext"]) != check["sqltext"]:
            raise MigrationError(
                f"{table} must be made anew, and would lose what stands behind the colon in the CHECK {check['name']}:"
                f" {check['sqltext']}; write it without one, in a migration before"
            )
    unnamed = [CheckConstraint(_escaped(check["sqltext"])) for check in checks if not check["name"]]
    options["table_args"] = (*options.get("table_args", ()), *unnamed)
    if unnamed and options.get("naming_convention"):
        # The one for CHECKs makes their names of given ones.
        options["naming_convention"] = {k: v for k, v in options["naming_convention"].items() if k != "ck"}


def _escaped(sql: str) -> str:
    """`sql` as SQLAlchemy takes text, for which `:word` is a parameter."""
    return re.sub(r"(?<![:\\]):(?=\w)", r"\\:", sql)


def _definitions(create: str) -> tuple[list[tuple[str, str, list[str]]], str]:
    """What CREATE TABLE says: of each column or constraint its first word, its text outside of parentheses, and what
    stands in each of those; and the table's options.
    """
    parts: list[tuple[list[str], list[str]]] = [([], [])]
    depth, options = 0, ""
    for token in _TOKEN.findall(create):
        if token.startswith(("--", "/*")):
            continue
        depth += (token == "(") - (token == ")")
        outside, inside = parts[-1]
        if depth == 0:
            options = "" if token == ")" else options + token
        elif depth == 1 and token == ",":
            parts.append(([], []))
        elif depth == 1 and token not in "()":
            outside.append(token)
        elif depth == 2 and token == "(":
            inside.append("")
        elif depth >= 2:
            inside[-1] += token
    found = (("".join(outside).strip(), inside) for outside, inside in parts)
    return [(_first_word(text), text, inside) for text, inside in found if text], options


def _first_word(text: str) -> str:
    found = _TOKEN.match(text)
    return found[0].strip("\"'`[]") if found is not None else ""


@contextmanager
def _without_generated(connection: Connection) -> Iterator[None]:
    """Leave generated columns out where a table's rows are copied into the new one: it computes them itself."""

    def copied(connection: Any, statement: Any, many: Any, params: Any, options: Any) -> Any:
        if isinstance(statement, Insert) and statement.select is not None and _is_new(statement.table):
            columns = statement.select.selected_columns
            pairs = zip(statement._select_names or (), columns, strict=True)
            table: Any = statement.table
            kept = [(name, value) for name, value in pairs if table.c[name].computed is None]
            chosen = select(*(value for _, value in kept))
            statement = insert(table).inline().from_select([name for name, _ in kept], chosen)
        return statement, many, params

    event.listen(connection, "before_execute", copied, retval=True)
    try:
        yield
    finally:
        event.remove(connection, "before_execute", copied)


def _is_new(table: Any) -> bool:
    return str(table.name).startswith("_alembic_tmp_")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
