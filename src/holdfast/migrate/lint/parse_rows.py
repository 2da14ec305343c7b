"""Statements that read and write rows: which tables, and under which condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from holdfast.migrate.lint.reader import NO_NAME, Name, Reader, has_word, split, written
from holdfast.migrate.lint.syntax import CreateTable, Other, Record, Tokens, Write

_READERS = ("from", "join")


def _update(reader: Reader) -> Record:
    reader.accept("only")
    table = reader.name()
    reader.until("set")
    reader.accept("set")
    assignments = reader.until("from", "where", "returning")
    assigned = tuple(Reader(part).name().last for part in split(assignments))
    reads: tuple[Name, ...] = ()
    if reader.accept("from"):
        reads = (reader.name(),)
        reader.until("where", "returning")
    where = reader.until("returning") if reader.accept("where") else None
    return Write("update", table, where, reads, assignments=written(assignments), assigned=assigned)


def _delete(reader: Reader) -> Record:
    if not reader.accept("from"):
        return Other("delete")
    reader.accept("only")
    table = reader.name()
    reads: tuple[Name, ...] = ()
    reader.until("using", "where", "returning")
    if reader.accept("using"):
        reads = (reader.name(),)
        reader.until("where", "returning")
    where = reader.until("returning") if reader.accept("where") else None
    return Write("delete", table, where, reads)


def _with(reader: Reader) -> Record:
    reader.accept("recursive")
    parts: list[Write] = []
    while True:
        reader.name()
        reader.group()
        if not reader.accept("as"):
            return Other("with")
        reader.accept("not materialized", "materialized")
        inner = Reader(reader.group() or ())
        writes = _WRITES.get(inner.next().value)
        part = writes(inner) if writes else None
        if isinstance(part, Write):
            parts.append(part)
        if not reader.accept(","):
            break
    read = _AFTER_WITH.get(reader.next().value)
    record = read(reader) if read else Other("with")
    if not parts:
        return record
    if isinstance(record, Write):
        return msgspec.structs.replace(record, parts=tuple(parts))
    return Write("select", NO_NAME, parts=tuple(parts))


def _select(reader: Reader) -> Record:
    start = reader.at
    reader.until("into", "from")
    if reader.accept("into"):
        temporary = bool(reader.accept("temporary", "temp"))
        reader.accept("unlogged")
        reader.accept("table")
        return CreateTable(reader.name(), temporary=temporary, filled=True)
    reader.at = start
    tokens = reader.rest()
    return Write("select", NO_NAME, reads=_sources(tokens), limited=has_word(tokens, "limit", "fetch"))


def _insert(reader: Reader) -> Record:
    reader.accept("into")
    table = reader.name()
    tokens = reader.rest()
    return Write("insert", table, reads=_sources(tokens), limited=has_word(tokens, "limit", "fetch"))


def _copy(reader: Reader) -> Record:
    table = reader.name()
    reader.group()
    return Write("insert", table) if reader.accept("from") else Other("copy")


def _sources(tokens: Tokens) -> tuple[Name, ...]:
    if not has_word(tokens, *_READERS):
        return ()
    reader = Reader(tokens)
    found = []
    while not reader.done:
        if reader.next().value in _READERS and reader.peek(-1).kind == "word":
            reader.accept("only")
            reader.accept("lateral")
            if reader.peek().kind in ("word", "quoted") and reader.peek(1).text != "(":
                found.append(reader.name())
    return tuple(found)


_WRITES: Mapping[str, Callable[[Reader], Record]] = {"update": _update, "delete": _delete, "insert": _insert}
_AFTER_WITH = {"select": _select, **_WRITES}
ROWS: Mapping[str, Callable[[Reader], Record]] = {**_AFTER_WITH, "with": _with, "copy": _copy}
"""By the first word of the statement; the reader stands behind it."""
