"""Capture on SQLite: row triggers, and a record of the rows that REPLACE evicts.

INSERT OR REPLACE and UPDATE OR REPLACE delete the rows that stand in the way without firing delete triggers
(unless recursive_triggers is on). So before such a write, the rows that share a unique key with the new one
are put aside in `holdfast_evicted`; after it, those that are really gone are journalled as deleted. What an
INSERT OR IGNORE or an upsert puts aside is still there afterwards, and is dropped before the next write.

SQLite does not say in which order triggers fire. The one for a write with rows put aside and the one for a write
without look at a record that neither of them empties, so exactly one of the two acts, whichever comes first.
"""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import JournalError
from holdfast.journal.clock import JULIAN_NOW
from holdfast.journal.kinds import sqlite_value
from holdfast.journal.shapes import Column

if TYPE_CHECKING:
    from holdfast.journal.capture import CapturedTable

_CONTEXT = "(SELECT actor FROM holdfast_context), (SELECT request FROM holdfast_context)"
_COLUMNS = "(shape, op, at, actor, request, body)"
_DELETED = "(SELECT CASE retiring WHEN 1 THEN 'x' ELSE 'd' END FROM holdfast_context)"


async def statements(connection: AsyncConnection, table: CapturedTable, shape: int) -> list[str]:
    """What installs capture of `table`, replacing what is there.

    Raises:
        JournalError: the table does not exist.
    """
    if not await _columns(connection, table.name):
        raise JournalError(f"the table {table.name} does not exist; create it before its capture")
    wanted = await triggers(connection, table, shape)
    there = await _installed(connection, table.name)
    made = [f"DROP TRIGGER {quote(name)}" for name, sql in there.items() if wanted.get(name) != sql]
    return made + [sql for name, sql in wanted.items() if there.get(name) != sql]


async def removal(connection: AsyncConnection, table: str) -> list[str]:
    """What removes the capture of `table`."""
    return [f"DROP TRIGGER {quote(name)}" for name in await _installed(connection, table)]


async def verify(connection: AsyncConnection, table: CapturedTable, shape: int) -> list[str]:
    """What is wrong with the capture of `table`, a sentence each."""
    if not await _columns(connection, table.name):
        return [f"the table {table.name} does not exist"]
    there = await _installed(connection, table.name)
    problems = []
    for name, sql in (await triggers(connection, table, shape)).items():
        if name not in there:
            problems.append(f"{table.name} lacks the trigger {name}: writes to it are not captured")
        elif there[name] != sql:
            problems.append(f"the trigger {name} of {table.name} is of another version")
    return problems


async def triggers(connection: AsyncConnection, table: CapturedTable, shape: int) -> dict[str, str]:
    """The triggers of `table` by name, for the unique indexes that it has now."""
    build = _Triggers(table, shape, await _ident(connection, table), await _unique_keys(connection, table))
    made = (
        build.before_insert(),
        build.before_update(),
        *build.after("insert", "AFTER INSERT", build.inserted(), ""),
        *build.after("update", "AFTER UPDATE", build.updated(), f"ident <> {build.ident.format('OLD')} AND "),
        build.deleted(),
    )
    return dict(made)


def trigger_name(table: str, what: str) -> str:
    """The name of a capture trigger of `table`."""
    return f"holdfast_{table}_{what}"


def quote(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


class _Triggers:
    """Writes the triggers of one table.

    Args:
        ident: what tells a row of this table from every other, as a template over the row's name.
        unique: the columns of each unique key, the primary one included.
    """

    def __init__(self, table: CapturedTable, shape: int, ident: str, unique: list[tuple[str, ...]]) -> None:
        self.table, self.shape, self.ident, self.unique = table, shape, ident, unique
        self.name = quote(table.name)
        tenant = (table.shape.tenant,) if table.shape.tenant else ()
        self.identity: list[Column] = [*table.shape.key, *tenant]

    def before_insert(self) -> tuple[str, str]:
        return self._put_aside("before_insert", "BEFORE INSERT", self._conflicts("t"))

    def before_update(self) -> tuple[str, str]:
        # Only an update of a unique column can evict; the row itself does not stand in its own way.
        columns = ", ".join(quote(name) for name in sorted({name for key in self.unique for name in key}))
        conflicts = f"({self._conflicts('t')}) AND {self.ident.format('t')} <> {self.ident.format('OLD')}"
        return self._put_aside("before_update", f"BEFORE UPDATE OF {columns}", conflicts)

    def inserted(self) -> list[str]:
        return [self._change("'i'", [("NEW", self.identity), ("NEW", self.facts)])]

    def updated(self) -> list[str]:
        moved = " OR ".join(f"OLD.{quote(c.name)} IS NOT NEW.{quote(c.name)}" for c in self.identity)
        return [
            self._change(_DELETED, [("OLD", self.identity), ("OLD", self.facts)], moved),
            self._change("'i'", [("NEW", self.identity), ("NEW", self.facts)], moved),
            self._change("'u'", [("NEW", self.identity), ("OLD", self.facts), ("NEW", self.facts)], f"NOT ({moved})"),
        ]

    def deleted(self) -> tuple[str, str]:
        return self._trigger(
            "delete",
            "AFTER DELETE",
            # With recursive_triggers this fires for an evicted row too: it is told here, and not once more.
            f"DELETE FROM holdfast_evicted WHERE shape = {self.shape} AND ident = {self.ident.format('OLD')}",
            self._change(_DELETED, [("OLD", self.identity), ("OLD", self.facts)]),
        )

    def after(self, name: str, event: str, changes: list[str], condition: str) -> Iterator[tuple[str, str]]:
        """The trigger of a write that can have evicted nothing, and that of one which may have.

        Told are rows put aside that are gone, or were replaced by the new row under the same identity.
        """
        still_there = f"EXISTS (SELECT 1 FROM {self.name} AS t WHERE {self.ident.format('t')} = ident)"
        gone = f"(ident = {self.ident.format('NEW')} OR NOT {still_there})"
        evicted = (
            f"INSERT INTO holdfast_journal {_COLUMNS} SELECT {self.shape}, {_DELETED}, {JULIAN_NOW}, {_CONTEXT}, body"
            f" FROM holdfast_evicted WHERE shape = {self.shape} AND told = 0 AND {condition}{gone}"
        )
        told = f"UPDATE holdfast_evicted SET told = 1 WHERE shape = {self.shape}"
        yield self._trigger(name, event, *changes, when=f"NOT {self._has_put_aside}")
        yield self._trigger(f"evicting_{name}", event, evicted, told, *changes, when=self._has_put_aside)

    @property
    def facts(self) -> list[Column]:
        return list(self.table.shape.facts)

    @property
    def _has_put_aside(self) -> str:
        return f"EXISTS (SELECT 1 FROM holdfast_evicted WHERE shape = {self.shape})"

    def _trigger(self, name: str, event: str, *body: str, when: str = "") -> tuple[str, str]:
        condition = f" WHEN {when}" if when else ""
        statements = "".join(f" {statement};" for statement in body)
        called = trigger_name(self.table.name, name)
        return (
            called,
            f"CREATE TRIGGER {quote(called)} {event} ON {self.name} FOR EACH ROW{condition} BEGIN{statements} END",
        )

    def _put_aside(self, name: str, event: str, conflicts: str) -> tuple[str, str]:
        # DELETE and INSERT rather than REPLACE: inside a trigger the outer statement's conflict clause rules.
        return self._trigger(
            name,
            event,
            f"DELETE FROM holdfast_evicted WHERE shape = {self.shape}",
            f"INSERT INTO holdfast_evicted (shape, ident, body) SELECT {self.shape}, {self.ident.format('t')},"
            f" {self._body([('t', self.identity), ('t', self.facts)])} FROM {self.name} AS t WHERE {conflicts}",
            when=f"EXISTS (SELECT 1 FROM {self.name} AS t WHERE {conflicts}) OR {self._has_put_aside}",
        )

    def _change(self, op: str, sides: list[tuple[str, list[Column]]], when: str = "") -> str:
        values = f"{self.shape}, {op}, {JULIAN_NOW}, {_CONTEXT}, {self._body(sides)}"
        return f"INSERT INTO holdfast_journal {_COLUMNS} SELECT {values}" + (f" WHERE {when}" if when else "")

    def _body(self, sides: list[tuple[str, list[Column]]]) -> str:
        values = [sqlite_value(c.kind, f"{side}.{quote(c.name)}") for side, columns in sides for c in columns]
        return f"json_array({', '.join(values)})"

    def _conflicts(self, row: str) -> str:
        keys = (" AND ".join(f"{row}.{quote(name)} = NEW.{quote(name)}" for name in key) for key in self.unique)
        return " OR ".join(f"({key})" for key in keys)


async def _columns(connection: AsyncConnection, table: str) -> list[str]:
    return [row.name for row in await connection.exec_driver_sql("SELECT name FROM pragma_table_xinfo(?)", (table,))]


async def _ident(connection: AsyncConnection, table: CapturedTable) -> str:
    """The rowid under whichever name no column has taken, or the key of a table without one."""
    found = await connection.exec_driver_sql(
        "SELECT wr FROM pragma_table_list WHERE name = ? AND schema = 'main'", (table.name,)
    )
    if found.scalar():
        keys = ", ".join(sqlite_value(c.kind, f"{{0}}.{quote(c.name)}") for c in table.shape.key)
        return f"json_array({keys})"
    taken = {name.lower() for name in await _columns(connection, table.name)}
    name = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)
    if name is None:
        raise JournalError(
            f"{table.name} has columns named rowid, _rowid_ and oid, so its rows cannot be told apart; rename one"
        )
    return f"{{0}}.{name}"


async def _unique_keys(connection: AsyncConnection, table: CapturedTable) -> list[tuple[str, ...]]:
    """The columns of each unique key in the database; indexes on expressions cannot be followed and are left out.

    A partial index counts as if it were whole: a row put aside for nothing is found to be still there.
    """
    keys = {tuple(c.name for c in table.shape.key), *table.unique}
    for index in (
        await connection.exec_driver_sql('SELECT name FROM pragma_index_list(?) WHERE "unique" = 1', (table.name,))
    ).all():
        columns = (await connection.exec_driver_sql("SELECT name FROM pragma_index_info(?)", (index.name,))).all()
        if all(column.name is not None for column in columns):
            keys.add(tuple(column.name for column in columns))
    there = set(await _columns(connection, table.name))
    return sorted(key for key in keys if set(key) <= there)


async def _installed(connection: AsyncConnection, table: str) -> dict[str, str]:
    rows = await connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master"
        " WHERE type = 'trigger' AND tbl_name = ? AND substr(name, 1, 9) = 'holdfast_'",
        (table,),
    )
    return {row.name: row.sql for row in rows}
