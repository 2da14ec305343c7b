"""What the statements before the one that is looked at have done: what exists, what is new, what is held."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from holdfast.migrate.files import Phase
from holdfast.migrate.lint.reader import Name, split
from holdfast.migrate.lint.sql_types import is_serial
from holdfast.migrate.lint.syntax import (
    Action,
    Alter,
    Column,
    Constraint,
    Control,
    Create,
    CreateIndex,
    CreateTable,
    Drop,
    EnumValue,
    Maintain,
    Record,
    Setting,
    SqlType,
    Tokens,
    Write,
)


@dataclass
class Check:
    """A constraint that the file adds or validates."""

    expression: Tokens | None
    """Of a CHECK; None when the file only names the constraint."""
    valid: bool
    transaction: int
    """In which it was added, -1 where the file does not show that."""
    not_null: tuple[str, ...] = ()


@dataclass
class Table:
    """What is known of a table: of one that an unseen migration made, nothing."""

    columns: dict[str, SqlType] = field(default_factory=dict)
    not_null: set[str] = field(default_factory=set)
    defaults: set[str] = field(default_factory=set)
    """Columns that get a value from the table when a program names none."""
    checks: dict[str, Check] = field(default_factory=dict)
    primary_key: str = ""
    complete: bool = False
    """Every column is known: the table's own definition has been seen."""


@dataclass
class Index:
    """An index that the file makes."""

    table: str
    columns: tuple[str, ...]


@dataclass
class Situation:
    """The state between two statements of one file."""

    phase: Phase | None = None
    """Of a revision that Holdfast runs, None where somebody else does."""
    told_line: Callable[[int], int] = int
    """From a line of the SQL to the line that messages name: of the revision that it was rendered from."""
    tables: dict[str, Table] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    """Tables, views and schemas made in this script: nobody else uses them yet."""
    filled: set[str] = field(default_factory=set)
    """Tables that this script has put rows into."""
    settings: dict[str, str] = field(default_factory=dict)
    in_transaction: bool = False
    """Between BEGIN and COMMIT, or in a script that its runner wraps."""
    has_ended: bool = False
    """A COMMIT or ROLLBACK has ended the last transaction of the script."""
    wrapped: bool = False
    """The runner wraps the script: at its beginning a transaction is open."""
    transaction: int = 0
    """Counts transactions; a statement alone is one too."""
    held: dict[str, int] = field(default_factory=dict)
    """Tables under ACCESS EXCLUSIVE in this transaction, and the line that took it."""
    added: dict[str, set[str]] = field(default_factory=dict)
    """Columns that this script has added to tables that were there."""
    enum_values: dict[str, str] = field(default_factory=dict)
    """Values that this transaction has added to enum types, and which type."""
    dropped_later: dict[str, list[str]] = field(default_factory=dict)
    """Constraints that the rest of the script drops, by table."""
    views_later: set[str] = field(default_factory=set)
    """Views that the script makes."""
    types_later: set[str] = field(default_factory=set)
    """Types that the script makes."""
    defaults_dropped_later: dict[str, set[str]] = field(default_factory=dict)
    rebuilt: set[str] = field(default_factory=set)
    """Tables that the script drops and puts another in the place of."""

    def table(self, key: str) -> Table:
        """What is known of a table, to be added to."""
        return self.tables.setdefault(key, Table())

    def is_fresh(self, name: Name) -> bool:
        """Whether nobody else can be using it: made in this script, or in a schema that was."""
        schema, _, _ = name.key.rpartition(".")
        if name.key in self.fresh or f"schema {schema}" in self.fresh:
            return True
        default = self.settings.get("search_path", "").partition(",")[0].strip().strip("'\"")
        return (name.last if schema == default else f"{default}.{name.key}") in self.fresh

    def has_default(self, table: Name, column: str) -> bool:
        """Whether the file has shown that the column gets a value of itself."""
        known = self.tables.get(table.key)
        return known is not None and column in known.defaults

    def known_type(self, table: Name, column: str) -> SqlType | None:
        """A column's type, if the file has shown it."""
        known = self.tables.get(table.key)
        return known.columns.get(column) if known else None

    def proves_not_null(self, table: Name, column: str) -> bool:
        """Whether PostgreSQL can see without a scan that the column holds no NULL."""
        known = self.tables.get(table.key)
        dropped = [name for name in self.dropped_later.get(table.key, ()) if column in name]
        if known is None:
            return bool(dropped)
        if column in known.not_null:
            return True
        for name, check in known.checks.items():
            if check.valid and _proves_not_null(name, check, column):
                return True
            dropped = [other for other in dropped if other != name]
        return bool(dropped)

    def has_valid_check(self, table: Name) -> bool:
        """Whether a constraint that is known valid may spare a partition its scan."""
        known = self.tables.get(table.key)
        return known is not None and any(check.valid and check.expression != () for check in known.checks.values())

    def foresee(self, records: Iterable[Record]) -> None:
        """Note what the script will do further on, where that tells what was there before."""
        for record in records:
            if isinstance(record, Alter):
                for action in record.actions:
                    if action.kind == "drop constraint":
                        self.dropped_later.setdefault(record.name.key, []).append(action.name.last)
                    elif action.kind == "drop default":
                        self.defaults_dropped_later.setdefault(record.name.key, set()).add(action.name.last)
                    elif action.kind == "set default":
                        self.defaults_dropped_later.get(record.name.key, set()).discard(action.name.last)
            elif isinstance(record, Create) and record.what in ("view", "materialized view"):
                self.views_later.add(record.name.key)
            elif isinstance(record, Create) and record.what in ("type", "domain"):
                self.types_later.add(record.name.key)

    def foresee_rebuilds(self, records: Iterable[Record]) -> None:
        """Note which tables get a new one in their place, as SQLite's rebuild does it."""
        seen = list(records)
        dropped = {name.key for record in seen if isinstance(record, Drop) for name in record.names}
        alters = [record for record in seen if isinstance(record, Alter)]
        named = {action.new_name.key for record in alters for action in record.actions if action.kind == "rename"}
        self.rebuilt = dropped & named

    def new_script(self, wrapped: bool) -> None:
        """Forget what only one script has: what it made is there now, and others use it."""
        self.fresh.clear()
        self.filled.clear()
        self.added.clear()
        self.has_ended = False
        self.dropped_later.clear()
        self.views_later.clear()
        self.types_later.clear()
        self.defaults_dropped_later.clear()
        self.wrapped = self.in_transaction = wrapped
        self._next_transaction()

    def ended(self) -> None:
        """The file is over: no other is in one of its transactions."""
        for table in self.tables.values():
            for check in table.checks.values():
                check.transaction = -1

    def _next_transaction(self) -> None:
        self.transaction += 1
        self.held.clear()
        self.enum_values.clear()

    def advance(self, record: Record, line: int) -> None:
        """Take in what a statement did."""
        line = self.told_line(line)
        if isinstance(record, Control):
            if record.what != "savepoint":
                self.in_transaction = record.what == "begin"
                self.has_ended = not self.in_transaction
                self._next_transaction()
            return
        if not self.in_transaction:
            self._next_transaction()
        if isinstance(record, Setting):
            self.settings[record.name] = record.value.strip("'\"").lower()
        elif isinstance(record, CreateTable):
            self._created(record)
        elif isinstance(record, Write) and record.what == "insert":
            self.filled.add(record.table.key)
        elif isinstance(record, CreateIndex):
            self.indexes[record.name.last] = Index(record.table.key, record.columns)
        elif isinstance(record, Create):
            if record.what in ("view", "materialized view"):
                self.fresh.add(record.name.key)
            elif record.what in ("schema", "domain", "type", "database"):
                self.fresh.add(f"{record.what} {record.name.key}")
        elif isinstance(record, Alter):
            self._altered(record, line)
        elif isinstance(record, EnumValue):
            self.enum_values[record.value] = record.name.text
        elif isinstance(record, Drop):
            for name in record.names:
                if record.what == "index":
                    self.indexes.pop(name.last, None)
                elif record.what == "table":
                    self.tables.pop(name.key, None)
                    self.held[name.key] = line
        elif isinstance(record, Maintain) and (
            record.what in ("truncate", "cluster") or (record.what == "lock" and record.mode == "ACCESS EXCLUSIVE")
        ):
            self.held.update({name.key: line for name in record.names if not self.is_fresh(name)})

    def _created(self, record: CreateTable) -> None:
        self.fresh.add(record.name.key)
        if record.filled:
            self.filled.add(record.name.key)
        table = self.tables[record.name.key] = Table(complete=True)
        for column in record.columns:
            _note_column(table, column)
        for constraint in record.constraints:
            if constraint.kind in ("primary key", "not null"):
                table.not_null.update(constraint.columns)
            if constraint.kind == "primary key":
                table.primary_key = constraint.name.last
            elif constraint.kind == "check":
                name = constraint.name.last or f"check_{len(table.checks)}"
                table.checks[name] = Check(constraint.expression, True, self.transaction)

    def _altered(self, record: Alter, line: int) -> None:
        if record.what not in ("table", "foreign table"):
            return
        key = record.name.key
        table = self.table(key)
        if any(action.kind not in _LIGHT for action in record.actions) and not self.is_fresh(record.name):
            self.held.setdefault(key, line)
        for action in record.actions:
            self._acted(key, table, action)

    def _acted(self, key: str, table: Table, action: Action) -> None:
        column = action.name.last
        match action.kind:
            case "add column" if action.column is not None:
                _note_column(table, action.column)
                self.added.setdefault(key, set()).add(column)
            case "add constraint" if action.constraint is not None:
                self._constrained(table, action.constraint)
            case "validate constraint":
                table.checks.setdefault(action.name.last, Check(None, True, -1)).valid = True
            case "drop constraint":
                table.checks.pop(action.name.last, None)
            case "set not null":
                table.not_null.add(column)
            case "drop not null":
                table.not_null.discard(column)
            case "set default":
                table.defaults.add(column)
            case "drop default":
                table.defaults.discard(column)
            case "drop column":
                table.columns.pop(column, None)
            case "alter column type" if action.type is not None:
                table.columns[column] = action.type
            case "rename column":
                if column in table.columns:
                    table.columns[action.new_name.last] = table.columns.pop(column)
                if column in self.added.get(key, ()):
                    self.added[key].add(action.new_name.last)
            case "attach partition" if key not in self.fresh:
                self.fresh.discard(action.name.key)  # whoever uses its parent uses it
            case "rename":
                self.tables[action.new_name.key] = table
                if key in self.fresh:
                    self.fresh.add(action.new_name.key)
                self.fresh.discard(key)
                self.tables.pop(key, None)

    def _constrained(self, table: Table, constraint: Constraint) -> None:
        if constraint.kind == "primary key":
            table.not_null.update(constraint.columns)
            table.primary_key = constraint.name.last
        elif constraint.kind in ("check", "not null", "foreign key"):
            name = constraint.name.last or f"{constraint.kind}_{len(table.checks)}"
            not_null = constraint.columns if constraint.kind == "not null" else ()
            valid = not constraint.not_valid
            table.checks[name] = Check(constraint.expression, valid, self.transaction, not_null)
            if constraint.kind == "not null" and not constraint.not_valid:
                table.not_null.update(constraint.columns)


_LIGHT = {
    "validate constraint", "set statistics", "attach partition", "set", "reset", "cluster on", "set without cluster",
    "enable trigger", "disable trigger", "enable replica trigger", "enable always trigger",
}  # fmt: skip
"""Actions of ALTER TABLE that take less than ACCESS EXCLUSIVE."""


def _note_column(table: Table, column: Column) -> None:
    table.columns[column.name.last] = column.type
    if column.default or column.identity or column.generated or is_serial(column.type):
        table.defaults.add(column.name.last)
    if column.not_null or column.primary_key or column.identity or is_serial(column.type):
        table.not_null.add(column.name.last)


def _proves_not_null(name: str, check: Check, column: str) -> bool:
    if check.expression is None:
        return column in name or "null" in name
    return column in check.not_null or says_not_null(check.expression, column)


def says_not_null(expression: Tokens, column: str) -> bool:
    """Whether a CHECK's expression, or one of its parts joined by AND, is `column IS NOT NULL`."""
    while len(expression) > 2 and expression[0].text == "(" and split(expression, ")") and expression[-1].text == ")":
        inner = expression[1:-1]
        if len(split(expression, "and")) > 1:
            break
        expression = inner
    for part in split(expression, "and"):
        values = [token.value for token in part if token.text not in ("(", ")")]
        if values == [column, "is", "not", "null"]:
            return True
    return False
