"""Statements as records: what the rules look at."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from holdfast.migrate.lint.reader import NO_NAME, Name
from holdfast.migrate.lint.tokens import Token

ConstraintKind = Literal["check", "foreign key", "unique", "primary key", "exclude", "not null"]
Tokens: TypeAlias = tuple[Token, ...]


class SqlType(msgspec.Struct, frozen=True):
    """A column type: its canonical name, its numbers and whether it is an array."""

    text: str
    name: str
    sizes: tuple[int, ...] = ()
    array: bool = False


class Column(msgspec.Struct, frozen=True):
    """A column's definition; of a constraint written with it only that it is there."""

    name: Name
    type: SqlType
    default: Tokens | None = None
    not_null: bool = False
    primary_key: bool = False
    unique: bool = False
    references: Name | None = None
    check: Tokens | None = None
    identity: bool = False
    generated: Literal["", "stored", "virtual"] = ""


class Constraint(msgspec.Struct, frozen=True):
    """A table's constraint."""

    kind: ConstraintKind
    name: Name = NO_NAME
    columns: tuple[str, ...] = ()
    text: str = ""
    """As written, from its kind on, without NOT VALID."""
    expression: Tokens = ()
    references: Name | None = None
    using_index: Name | None = None
    not_valid: bool = False


class Action(msgspec.Struct, frozen=True):
    """One action of an ALTER TABLE, ALTER DOMAIN or ALTER MATERIALIZED VIEW."""

    kind: str
    """Such as `add column`, `set not null`; `unread` when the grammar of it is not known here."""
    text: str
    column: Column | None = None
    name: Name = NO_NAME
    new_name: Name = NO_NAME
    type: SqlType | None = None
    using: Tokens | None = None
    constraint: Constraint | None = None
    concurrently: bool = False
    cascade: bool = False
    if_not_exists: bool = False


class Alter(msgspec.Struct, frozen=True):
    """ALTER TABLE and its like; `what` is `table`, `view`, `materialized view`, `domain`, `type`, `schema`, …"""

    what: str
    name: Name
    actions: tuple[Action, ...]
    only: bool = False
    if_exists: bool = False


class CreateTable(msgspec.Struct, frozen=True):
    """CREATE TABLE with what its columns and constraints say."""

    name: Name
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    partition_of: Name | None = None
    temporary: bool = False
    filled: bool = False
    """From a query, AS or INTO: with its rows."""


class CreateIndex(msgspec.Struct, frozen=True):
    """CREATE INDEX; `columns` are the plain names of its keys, '' for an expression."""

    name: Name
    table: Name
    columns: tuple[str, ...]
    unique: bool = False
    concurrently: bool = False
    only: bool = False
    text: str = ""


class Create(msgspec.Struct, frozen=True):
    """CREATE of something else: a view, a type, a trigger, a function, …"""

    what: str
    name: Name


class Drop(msgspec.Struct, frozen=True):
    """DROP of anything but a part of a table."""

    what: str
    names: tuple[Name, ...]
    concurrently: bool = False
    cascade: bool = False
    table: Name = NO_NAME
    """Of a trigger, a policy or a rule: whose it is."""


class Maintain(msgspec.Struct, frozen=True):
    """REINDEX, REFRESH MATERIALIZED VIEW, VACUUM, CLUSTER, LOCK, TRUNCATE."""

    what: str
    names: tuple[Name, ...]
    concurrently: bool = False
    full: bool = False
    cascade: bool = False
    mode: str = ""
    kind: str = ""
    """Of REINDEX: `table`, `index`, `schema`, `database` or `system`."""


class Write(msgspec.Struct, frozen=True):
    """UPDATE, DELETE, or a SELECT or INSERT … SELECT that reads tables."""

    what: Literal["update", "delete", "select", "insert"]
    table: Name
    where: Tokens | None = None
    reads: tuple[Name, ...] = ()
    limited: bool = False
    assignments: str = ""
    assigned: tuple[str, ...] = ()
    """The columns of an UPDATE's SET."""
    parts: tuple[Write, ...] = ()
    """What its WITH writes."""


class Control(msgspec.Struct, frozen=True):
    """BEGIN, COMMIT, ROLLBACK, SAVEPOINT."""

    what: Literal["begin", "commit", "rollback", "savepoint"]


class Setting(msgspec.Struct, frozen=True):
    """SET or a PRAGMA."""

    name: str
    value: str
    local: bool = False


class Rename(msgspec.Struct, frozen=True):
    """RENAME of a type, or inside of it: of an enum's value, of a composite type's attribute."""

    what: str
    name: Name
    old: str
    new: str


class EnumValue(msgspec.Struct, frozen=True):
    """ALTER TYPE … ADD VALUE."""

    name: Name
    value: str


class Block(msgspec.Struct, frozen=True):
    """DO: the body that runs at once."""

    body: str
    start: int
    """Where the body begins in the file."""


class Other(msgspec.Struct, frozen=True):
    """A statement no rule asks about; `unread` when it began like one that a rule does."""

    words: str
    unread: bool = False


Record: TypeAlias = (
    Alter
    | CreateTable
    | CreateIndex
    | Create
    | Drop
    | Maintain
    | Write
    | Control
    | Setting
    | Rename
    | EnumValue
    | Block
    | Other
)
