"""What Alembic's comparison does not see: the texts of CHECKs, lengths of types, SQLite's indexes of expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Connection, Index, MetaData, Table, inspect, text
from sqlalchemy.sql.elements import conv

from holdfast.migrate.schema import Details, Schema
from holdfast.model.types import AMOUNT_CHECK

_ANY = re.compile(r"(\w+|\"[^\"]+\")::text = ANY \(\(?ARRAY\[(('[^']*'::character varying(, )?)+)\]\)?::text\[\]\)")
_KIND = re.compile(r"(.*?)(?= NOT NULL| DEFAULT | GENERATED |$)", re.S)


def missed(
    connection: Connection,
    found: Sequence[ops.MigrateOperation],
    made: Schema,
    wanted: Schema,
    metadatas: Sequence[MetaData],
) -> list[ops.MigrateOperation]:
    """What Alembic `found`, with what it missed between the schema that is `made` and the one `wanted`."""
    flat = [part for one in found for part in (one.ops if isinstance(one, ops.ModifyTableOps) else [one])]
    tables = {str(table.name): table for metadata in metadatas for table in metadata.tables.values()}
    for name in made.tables.keys() & wanted.tables.keys() & tables.keys():
        there, declared = made.tables[name], wanted.tables[name]
        changed = {what for what in there.keys() & declared.keys() if there[what] != declared[what]}
        flat += _checks(connection, tables[name], changed, there)
        flat += _types(connection, tables[name], changed, there, declared, flat)
    if connection.dialect.name == "sqlite":
        for name in tables.keys() & wanted.tables.keys():
            flat = _expressions(tables[name], made.tables.get(name, {}), wanted.tables[name], flat)
        for name in made.tables.keys() - wanted.tables.keys():
            flat = _with_table(name, made.tables[name]) + flat
    return flat


def _with_table(table: str, there: Details) -> list[Any]:
    """The indexes that go with a table, dropped before it, so that they come back with it."""
    written = {what.removeprefix("index "): how for what, how in there.items() if what.startswith("index ")}
    return [
        ops.DropIndexOp(name, table, _reverse=_index_op(name, table, how))
        for name, how in sorted(written.items())
        if _is_written(how)
    ]


def _checks(connection: Connection, table: Table, changed: set[str], there: Details) -> list[Any]:
    """CHECKs whose text changed, an Enum's members too: the old one goes, the new one comes."""
    made: list[Any] = []
    for check in table.constraints:
        if not isinstance(check, CheckConstraint) or AMOUNT_CHECK in check.info or check.name is None:
            continue
        preparer = connection.dialect.identifier_preparer
        name = (preparer.format_constraint(check) or "").strip('"')
        if f"check {name}" not in changed:
            continue
        compiled = check.sqltext.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        new = str(compiled).replace(f"{preparer.quote(str(table.name))}.", "")
        old = ops.CreateCheckConstraintOp(conv(name), str(table.name), _text(_as_list(there[f"check {name}"])))
        made.append(ops.DropConstraintOp(conv(name), str(table.name), "check", _reverse=old))
        made.append(ops.CreateCheckConstraintOp(conv(name), str(table.name), _text(new)))
    return made


def _as_list(rule: str) -> str:
    """`a IN (…)` as it was written: PostgreSQL tells it as an array, and reads that as another one."""
    found = _ANY.fullmatch(rule)
    return rule if found is None else f"{found[1]} IN ({found[2].replace('::character varying', '')})"


def _types(
    connection: Connection,
    table: Table,
    changed: set[str],
    there: Details,
    declared: Details,
    found: Sequence[Any],
) -> list[Any]:
    """Columns of another type, which Alembic takes for the same: another length, or none."""
    seen = {
        one.column_name
        for one in found
        if isinstance(one, ops.AlterColumnOp) and one.table_name == table.name and one.modify_type is not None
    }
    made: list[Any] = []
    for column in table.columns:
        what = f"column {column.name}"
        if what not in changed or column.name in seen or _kind(there[what]) == _kind(declared[what]):
            continue
        [now] = [one for one in inspect(connection).get_columns(str(table.name)) if one["name"] == column.name]
        made.append(
            ops.AlterColumnOp(
                str(table.name),
                str(column.name),
                existing_type=now["type"],
                existing_nullable=now["nullable"],
                modify_type=column.type,
            )
        )
    return made


def _kind(described: str) -> str:
    found = _KIND.match(described)
    return found[0] if found is not None else described


def _expressions(table: Table, there: Details, declared: Details, found: list[Any]) -> list[Any]:
    """SQLite's indexes of expressions, or in an order, as they are written: Alembic leaves them out or drops them."""
    written = {
        what
        for what in there.keys() | declared.keys()
        if what.startswith("index ") and any(_is_written(details.get(what, "")) for details in (there, declared))
    }
    kept = [
        one
        for one in found
        if not (
            isinstance(one, ops.CreateIndexOp | ops.DropIndexOp)
            and one.table_name == table.name
            and f"index {one.index_name}" in written
        )
    ]
    for what in sorted(written):
        if there.get(what) == declared.get(what):
            continue
        name = what.removeprefix("index ")
        if what in there:
            old = _index_op(name, str(table.name), there[what])
            kept.append(ops.DropIndexOp(name, str(table.name), _reverse=old))
        if what in declared:
            [index] = [one for one in table.indexes if one.name == name]
            kept.append(ops.CreateIndexOp.from_index(index))
    return kept


def _is_written(described: str) -> bool:
    """Whether an index is told by its SQL: of columns alone it has no parentheses, quotes or order inside."""
    inside = re.match(r"(?:unique )?\((.*?)\)( \{.*\})?$", described, re.S)
    return bool(described) and (inside is None or re.search(r"[(\s](?!,)", inside[1].replace(", ", ",")) is not None)


def _index_op(name: str, table: str, described: str) -> ops.CreateIndexOp:
    """The operation that makes an index that is there, of its SQL."""
    is_unique = described.startswith("unique ")
    body = described.removeprefix("unique ").strip()
    columns, _, where = body.partition(" WHERE ")
    given = {"sqlite_where": _text(where), "postgresql_where": _text(where)} if where else {}
    index = Index(name, _text(columns.strip()[1:-1]), unique=is_unique, **given)
    return ops.CreateIndexOp(name, table, list(index.expressions), unique=is_unique, **given)


def _text(sql: str) -> Any:
    return text(re.sub(r"(?<![:\\]):(?=\w)", r"\\:", sql))
