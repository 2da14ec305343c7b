"""Capture on PostgreSQL: one static function a table, statement triggers on the table and on every partition.

A statement trigger with transition tables costs a bulk write a fraction of what a row trigger does, and the
changes of a statement are packed into runs, so that the journal's own rows and index entries cost next to nothing.
"""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import JournalError
from holdfast.journal.kinds import postgres_json
from holdfast.journal.schema import quoted_schema
from holdfast.journal.shapes import Column

if TYPE_CHECKING:
    from holdfast.journal.capture import CapturedTable

_NAME = 63  # bytes PostgreSQL keeps of an identifier
_ARGUMENTS = 90  # a function takes at most 100
_WIDTH = {"integer": 10, "uuid": 39, "amount": 20, "boolean": 6, "time": 30, "date": 13}  # bytes, as JSON
_ROW = 7_000  # bytes a journal row should stay under, so that it fits a page without being split

TRIGGERS = {
    "holdfast_insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "holdfast_update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "holdfast_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "holdfast_truncate": "BEFORE TRUNCATE ON {table}",
}

PARTITIONS = """
    WITH RECURSIVE tree AS (
        SELECT to_regclass($1)::oid AS oid
        UNION ALL
        SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
    )
    SELECT c.oid::regclass::text, c.relkind::text FROM tree JOIN pg_class c USING (oid) ORDER BY 1
"""

INSTALLED = """
    SELECT c.oid::regclass::text AS relation, t.tgname, t.tgenabled::text, p.proname,
        pg_get_triggerdef(t.oid) AS definition
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE c.oid::regclass::text = ANY ($1) AND t.tgname LIKE 'holdfast\\_%'
"""


async def statements(connection: AsyncConnection, table: CapturedTable, shape: int) -> list[str]:
    """What installs capture of `table`; a trigger that is there already is left, so that nothing is locked for it.

    Raises:
        JournalError: the table does not exist, or a partition is a foreign table.
    """
    schema = await quoted_schema(connection)
    relations = await _relations(connection, table)
    if not relations:
        raise JournalError(f"the table {table.name} does not exist in {schema}; create it before its capture")
    name = function_name(table.name)
    kinds = {column.kind for column in (*_identity(table), *table.shape.facts)}
    formats = " SET extra_float_digits = 1" if "float" in kinds else ""
    formats += " SET datestyle = 'ISO, YMD' SET timezone = 'UTC'" if "time" in kinds else ""
    made = [
        f"CREATE OR REPLACE FUNCTION {schema}.{quote(name)}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        # A plan is kept for the session and may have been made for one row: it must also do for a million.
        " SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET enable_sort = off SET jit = off"
        f"{formats} AS $holdfast${source(table, shape, schema)}$holdfast$"
    ]
    for relation, trigger, _ in await _faulty(connection, relations, name):
        made.append(
            f"CREATE OR REPLACE TRIGGER {trigger} {TRIGGERS[trigger].format(table=relation)}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {schema}.{quote(name)}()"
        )
        made.append(f"ALTER TABLE {relation} ENABLE TRIGGER {trigger}")
    return made


async def removal(connection: AsyncConnection, table: str) -> list[str]:
    """What removes the capture of `table`, the function with it."""
    schema = await quoted_schema(connection)
    rows = (await connection.exec_driver_sql(PARTITIONS, (quote(table),))).all()
    made = [f"DROP TRIGGER IF EXISTS {trigger} ON {row[0]}" for row in rows for trigger in TRIGGERS]
    return [*made, f"DROP FUNCTION IF EXISTS {schema}.{quote(function_name(table))}()"]


async def verify(connection: AsyncConnection, table: CapturedTable, shape: int) -> list[str]:
    """What is wrong with the capture of `table`, a sentence each."""
    relations = await _relations(connection, table)
    if not relations:
        return [f"the table {table.name} does not exist"]
    name = function_name(table.name)
    installed = await connection.exec_driver_sql(
        "SELECT prosrc FROM pg_proc WHERE proname = $1 AND pronamespace = current_schema()::regnamespace", (name,)
    )
    if installed.scalar() != source(table, shape, await quoted_schema(connection)):
        return [f"the capture function of {table.name} is missing or of another version"]
    return [
        f"{relation} {fault} the trigger {trigger}: writes to it are not captured"
        for relation, trigger, fault in await _faulty(connection, relations, name)
    ]


async def _relations(connection: AsyncConnection, table: CapturedTable) -> list[str]:
    """The table and all its partitions, quoted as needed; empty when there is no such table."""
    rows: list[Any] = list((await connection.exec_driver_sql(PARTITIONS, (quote(table.name),))).all())
    for relation, kind in rows:
        if kind == "f":
            raise JournalError(
                f"{relation}, a partition of {table.name}, is a foreign table, which cannot be captured; detach it"
            )
    return [relation for relation, _ in rows]


async def _faulty(connection: AsyncConnection, relations: list[str], function: str) -> list[tuple[str, str, str]]:
    """(relation, trigger, what is wrong) for each trigger that is not as it must be."""
    rows = (await connection.exec_driver_sql(INSTALLED, (relations,))).all()
    there = {(row.relation, row.tgname): row for row in rows}
    faulty = []
    for relation in relations:
        for trigger, events in TRIGGERS.items():
            row = there.get((relation, trigger))
            before, _, after = (part.strip() for part in events.partition("ON {table}"))
            if row is None or row.proname != function or before not in row.definition or after not in row.definition:
                faulty.append((relation, trigger, "lacks"))
            elif row.tgenabled not in ("O", "A"):
                faulty.append((relation, trigger, "has disabled"))
    return faulty


def function_name(table: str) -> str:
    """The name of the capture function of `table`, within what PostgreSQL keeps of a name."""
    name = f"holdfast_capture_{table}"
    if len(name.encode()) <= _NAME:
        return name
    return f"holdfast_capture_{table[:30]}_{hashlib.sha256(table.encode()).hexdigest()[:8]}"


def source(table: CapturedTable, shape: int, schema: str) -> str:
    """The source of the capture function of `table`.

    Most statements write one row, and are spared the packing: what it costs is felt there.
    """
    one, several = _single(table, shape), _packed(table, shape)
    slot = f"SELECT s.slot, EXISTS (SELECT FROM {{rows}} OFFSET 1) INTO slot, many FROM {schema}.holdfast_slot s;"
    branches = {
        "INSERT": ("new_rows", _into_slot(schema, one["INSERT"]), _into_slot(schema, several["INSERT"])),
        "UPDATE": ("new_rows", _into_slot(schema, one["UPDATE"]), _into_slot(schema, several["UPDATE"])),
        "DELETE": ("old_rows", _into_slot(schema, one["DELETE"]), _into_slot(schema, several["DELETE"])),
    }
    cases = ""
    for event, (rows, single, packed) in branches.items():
        # A single update that finds no pair changed the key or the tenant.
        found = "IF FOUND THEN RETURN NULL; END IF;" if event == "UPDATE" else "RETURN NULL;"
        cases += f"    WHEN '{event}' THEN\n        {slot.format(rows=rows)}\n"
        cases += f"        IF NOT many THEN\n{single}\n            {found}\n        END IF;\n{packed}\n"
    cases += f"    WHEN 'TRUNCATE' THEN\n{_truncate(table, shape, schema)}\n"
    variables = "    slot smallint;\n    many boolean;\n"
    return f"\nDECLARE\n{variables}BEGIN\n    CASE TG_OP\n{cases}    END CASE;\n    RETURN NULL;\nEND\n"


def quote(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


_HEAD = (
    "        SELECT pg_current_xact_id()::text::bigint, {shape}, {op}, {n}, statement_timestamp(),"
    " nullif(current_setting('holdfast.actor', true), ''),"
    " nullif(current_setting('holdfast.request', true), ''), {body}"
)
_DELETED = "CASE WHEN current_setting('holdfast.retiring', true) = 'on' THEN 'x' ELSE 'd' END::\"char\""


def _into_slot(schema: str, select: str) -> str:
    into = "        CASE slot\n"
    for number, when in enumerate(("WHEN 0 THEN", "WHEN 1 THEN", "ELSE")):
        into += f"        {when}\n        INSERT INTO {schema}.holdfast_journal_{number}"
        into += f" (xid, shape, op, n, at, actor, request, body)\n{select};\n"
    return into + "        END CASE;"


def _single(table: CapturedTable, shape: int) -> dict[str, str]:
    """The journal's row of a statement that wrote one row at most, by event."""

    def select(op: str, array: str, rows: str) -> str:
        return _HEAD.format(shape=shape, op=op, n=1, body=array) + f" FROM {rows}"

    return {
        "INSERT": select("'i'", _array(table, "n", ("n",), run=True), "new_rows n"),
        "UPDATE": select(
            "'u'", _array(table, "n", ("o", "n"), run=True), f"old_rows o JOIN new_rows n ON {_same(table)}"
        ),
        "DELETE": select(_DELETED, _array(table, "o", ("o",), run=True), "old_rows o"),
    }


def _packed(table: CapturedTable, shape: int) -> dict[str, str]:
    """The journal's rows of a statement that wrote many, by event: changes (op, c) packed into runs.

    The row number keeps the order of the rows; a run has one op, and deletes come before inserts.
    """
    op = f"CASE r.op WHEN 'd' THEN {_DELETED} ELSE r.op::\"char\" END"
    head = _HEAD.format(shape=shape, op=op, n="count(*)", body="'[' || string_agg(r.c, ',') || ']'")
    events = {"INSERT": (_inserts(table), 1), "UPDATE": (_updates(table), 2), "DELETE": (_deletes(table), 1)}
    return {
        event: (
            f"{head}\n        FROM (SELECT c.op, c.c, (row_number() OVER () - 1) / {_run_length(table, sides)} AS run\n"
            f"            FROM ({changes}) c) r\n"
            "        GROUP BY r.op, r.run ORDER BY r.op <> 'd', r.run"
        )
        for event, (changes, sides) in events.items()
    }


def _truncate(table: CapturedTable, shape: int, schema: str) -> str:
    if table.truncate:
        slot = f"        SELECT s.slot INTO slot FROM {schema}.holdfast_slot s;\n"
        return slot + _into_slot(schema, _HEAD.format(shape=shape, op="'r'", n=1, body="'[[]]'"))
    return (
        "        RAISE EXCEPTION 'TRUNCATE of % is refused: what follows its changes needs them one by one',"
        " TG_TABLE_NAME USING HINT = 'use DELETE', ERRCODE = 'feature_not_supported';"
    )


def _inserts(table: CapturedTable) -> str:
    return f"SELECT 'i' AS op, {_array(table, 'n', ('n',))} AS c FROM new_rows n"


def _deletes(table: CapturedTable) -> str:
    return f"SELECT 'd' AS op, {_array(table, 'o', ('o',))} AS c FROM old_rows o"


def _updates(table: CapturedTable) -> str:
    """A row whose key or tenant changed is a delete and an insert."""
    key = quote(table.shape.key[0].name)
    return (
        f"SELECT CASE WHEN o.{key} IS NULL THEN 'i' WHEN n.{key} IS NULL THEN 'd' ELSE 'u' END AS op,\n"
        f"            CASE WHEN o.{key} IS NULL THEN {_array(table, 'n', ('n',))}\n"
        f"            WHEN n.{key} IS NULL THEN {_array(table, 'o', ('o',))}\n"
        f"            ELSE {_array(table, 'n', ('o', 'n'))} END AS c\n"
        f"            FROM old_rows o FULL JOIN new_rows n ON {_same(table)}"
    )


def _same(table: CapturedTable) -> str:
    return " AND ".join(f"n.{quote(c.name)} = o.{quote(c.name)}" for c in _identity(table))


def _identity(table: CapturedTable) -> list[Column]:
    return [*table.shape.key, *((table.shape.tenant,) if table.shape.tenant else ())]


def _array(table: CapturedTable, side: str, fact_sides: tuple[str, ...], *, run: bool = False) -> str:
    """A JSON array, as text, of the identity on `side` and the facts on each of `fact_sides`; `run`: of one such."""
    columns = [(side, c) for c in _identity(table)] + [(s, c) for s in fact_sides for c in table.shape.facts]
    arguments = ["'[['" if run else "'['"]
    for i, (s, column) in enumerate(columns):
        if i:
            arguments.append("','")
        arguments += postgres_json(column.kind, f"{s}.{quote(column.name)}", nullable=column.name in table.nullable)
    arguments.append("']]'" if run else "']'")
    return _concat(_joined(arguments))


def _joined(arguments: list[str]) -> list[str]:
    """Literals that follow one another made one: every argument costs a call a row."""
    out: list[str] = []
    for argument in arguments:
        if out and _is_literal(argument) and _is_literal(out[-1]):
            out[-1] = out[-1][:-1] + argument[1:]
        else:
            out.append(argument)
    return out


def _is_literal(argument: str) -> bool:
    return argument[0] == argument[-1] == "'" and argument.count("'") == 2


def _concat(arguments: list[str]) -> str:
    if len(arguments) <= _ARGUMENTS:
        return f"concat({', '.join(arguments)})"
    parts = [arguments[i : i + _ARGUMENTS] for i in range(0, len(arguments), _ARGUMENTS)]
    return _concat([_concat(part) for part in parts])


def _run_length(table: CapturedTable, sides: int) -> int:
    """How many changes fit a run, guessed from the columns."""
    width = 4 + sum(_WIDTH.get(c.kind, 32) for c in _identity(table))
    width += sides * sum(_WIDTH.get(c.kind, 32) for c in table.shape.facts)
    return max(4, min(128, _ROW // width))
