"""From a statement's words to a record: which statement it is, and whom it concerns."""

from __future__ import annotations

from holdfast.migrate.lint.parse_rows import ROWS
from holdfast.migrate.lint.parse_table import read_alter, read_column, read_constraint
from holdfast.migrate.lint.reader import NO_NAME, Reader, has_word, split, written
from holdfast.migrate.lint.statements import Statement
from holdfast.migrate.lint.syntax import (
    Block,
    Column,
    Constraint,
    Control,
    Create,
    CreateIndex,
    CreateTable,
    Drop,
    EnumValue,
    Maintain,
    Other,
    Record,
    Rename,
    Setting,
    Tokens,
)

_CREATED = (
    "view", "materialized view", "recursive view", "type", "domain", "schema", "sequence", "function", "procedure",
    "constraint trigger", "trigger", "event trigger", "extension", "policy", "rule", "role", "user", "publication",
    "database", "aggregate", "tablespace", "subscription",
)  # fmt: skip
_DROPPED = (
    "table", "foreign table", "materialized view", "view", "index", "schema", "database", "sequence", "type",
    "domain", "trigger", "event trigger", "policy", "rule", "function", "procedure", "routine", "aggregate",
    "extension", "owned by", "publication", "subscription", "role", "user", "tablespace",
)  # fmt: skip


def parse(statement: Statement) -> Record:
    """The record of a statement; `Other` for one that no rule asks about. Never raises."""
    reader = Reader(statement.tokens)
    first = reader.next().value
    read = _FIRST.get(first)
    if read is None:
        return Other(first)
    return read(reader)


def _create(reader: Reader) -> Record:
    reader.accept("or replace")
    temporary = bool(reader.accept("global temporary", "local temporary", "temporary", "temp", "unlogged") or "")
    unlogged = reader.peek(-1).value == "unlogged"
    if reader.accept("table", "foreign table"):
        return _create_table(reader, temporary and not unlogged)
    unique = bool(reader.accept("unique"))
    if reader.accept("index"):
        return _create_index(reader, unique)
    what = reader.accept(*_CREATED)
    reader.accept("if not exists")
    name = reader.name()
    if what == "subscription" and _is_off(reader.rest(), "create_slot", "connect"):
        return Other("create subscription")  # without a slot it is an entry in the catalog
    return Create(what or reader.peek().value, name)


def _is_off(tokens: Tokens, *options: str) -> bool:
    return any(
        token.value in options and value.value in ("false", "off", "0")
        for token, _, value in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


def _create_table(reader: Reader, temporary: bool) -> Record:
    reader.accept("if not exists")
    name = reader.name()
    partition_of = reader.name() if reader.accept("partition of") else None
    columns: list[Column] = []
    constraints: list[Constraint] = []
    for part in split(reader.group() or ()):
        inner = Reader(part)
        if inner.sees("like"):
            continue
        constraint = read_constraint(inner)
        if constraint is not None:
            constraints.append(constraint)
        else:
            columns.append(read_column(inner))
    filled = has_word(reader.rest(), "as")
    return CreateTable(name, tuple(columns), tuple(constraints), partition_of, temporary, filled)


def _create_index(reader: Reader, unique: bool) -> Record:
    concurrently = bool(reader.accept("concurrently"))
    reader.accept("if not exists")
    name = NO_NAME if reader.sees("on") else reader.name()
    reader.accept("on")
    only = bool(reader.accept("only"))
    table = reader.name()
    start = reader.at
    if reader.accept("using"):
        reader.name()
    columns = []
    for part in split(reader.group() or ()):
        key = Reader(part)
        column = key.name().last
        columns.append("" if key.peek().text == "(" else column)
    reader.at = start
    return CreateIndex(name, table, tuple(columns), unique, concurrently, only, written(reader.rest()))


def _drop(reader: Reader) -> Record:
    what = reader.accept(*_DROPPED) or reader.next().value
    concurrently = bool(reader.accept("concurrently"))
    reader.accept("if exists")
    names = reader.names()
    table = reader.name() if reader.accept("on") else NO_NAME
    return Drop(what, names, concurrently, has_word(reader.rest(), "cascade"), table)


def _alter(reader: Reader) -> Record:
    if reader.sees("type"):
        reader.next()
        name = reader.name()
        if reader.accept("add value"):
            reader.accept("if not exists")
            return EnumValue(name, reader.next().value)
        if reader.accept("rename value"):
            old = reader.next().value
            reader.accept("to")
            return Rename("value", name, old, reader.next().value)
        if reader.accept("rename attribute"):
            old = reader.next().value
            reader.accept("to")
            return Rename("attribute", name, old, reader.next().value)
        if reader.accept("rename to"):
            return Rename("type", name, name.text, reader.name().text)
        return Other("alter type")
    return read_alter(reader)


def _truncate(reader: Reader) -> Record:
    reader.accept("table")
    reader.accept("only")
    names = reader.names()
    return Maintain("truncate", names, cascade=has_word(reader.rest(), "cascade"))


def _reindex(reader: Reader) -> Record:
    options = reader.group() or ()
    kind = reader.accept("index", "table", "schema", "database", "system") or ""
    concurrently = bool(reader.accept("concurrently"))
    for option in split(options):
        if option[0].value == "concurrently":
            concurrently = len(option) == 1 or option[1].value not in ("false", "off", "0")
    return Maintain("reindex", reader.names(), concurrently, kind=kind)


def _refresh(reader: Reader) -> Record:
    if not reader.accept("materialized view"):
        return Other("refresh")
    concurrently = bool(reader.accept("concurrently"))
    return Maintain("refresh", reader.names(), concurrently)


def _vacuum(reader: Reader) -> Record:
    full = False
    for option in split(reader.group() or ()):
        if option[0].value == "full":
            full = len(option) == 1 or option[1].value not in ("false", "off", "0")
    while word := reader.accept("full", "freeze", "verbose", "analyze", "analyse"):
        full = full or word == "full"
    return Maintain("vacuum", () if reader.done else reader.names(), full=full)


def _cluster(reader: Reader) -> Record:
    reader.group()
    reader.accept("verbose")
    names = () if reader.done else reader.names()
    if reader.accept("on"):  # the old form: CLUSTER index ON table
        names = reader.names()
    return Maintain("cluster", names)


def _lock(reader: Reader) -> Record:
    reader.accept("table")
    reader.accept("only")
    names = reader.names()
    mode = written(reader.until("mode")).upper().removeprefix("IN ") if reader.accept("in") else ""
    return Maintain("lock", names, mode=mode or "ACCESS EXCLUSIVE")


def _set(reader: Reader) -> Record:
    local = bool(reader.accept("local"))
    reader.accept("session")
    if reader.accept("time zone"):
        return Setting("timezone", written(reader.rest()), local)
    if reader.accept("transaction", "constraints", "characteristics"):
        return Other("set transaction")
    name = reader.name().last
    reader.accept("=", "to")
    return Setting(name, written(reader.rest()), local)


def _pragma(reader: Reader) -> Record:
    name = reader.name().last
    inside = reader.group()
    reader.accept("=")
    return Setting(f"pragma {name}", written(inside if inside is not None else reader.rest()).lower())


def _rollback(reader: Reader) -> Record:
    reader.accept("work", "transaction")
    return Control("savepoint" if reader.sees("to") else "rollback")


def _start(reader: Reader) -> Record:
    return Control("begin") if reader.accept("transaction") else Other("start")


def _prepare(reader: Reader) -> Record:
    return Control("commit") if reader.accept("transaction") else Other("prepare")


def _do(reader: Reader) -> Record:
    for token in reader.rest():
        if token.kind == "string":
            opening = token.text.index(token.value) if token.value and token.value in token.text else 0
            return Block(token.value, token.start + opening)
    return Other("do")


_FIRST = {
    **ROWS,
    "create": _create,
    "drop": _drop,
    "alter": _alter,
    "truncate": _truncate,
    "reindex": _reindex,
    "refresh": _refresh,
    "vacuum": _vacuum,
    "cluster": _cluster,
    "lock": _lock,
    "set": _set,
    "pragma": _pragma,
    "do": _do,
    "begin": lambda reader: Control("begin"),
    "start": _start,
    "commit": lambda reader: Control("commit"),
    "end": lambda reader: Control("commit"),
    "rollback": _rollback,
    "abort": lambda reader: Control("rollback"),
    "savepoint": lambda reader: Control("savepoint"),
    "release": lambda reader: Control("savepoint"),
    "prepare": _prepare,
}
