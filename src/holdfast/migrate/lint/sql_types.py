"""Column types: one name for each, and which changes of one leave the rows as they are.

After https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES and pg_cast.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.migrate.lint.reader import Reader, written
from holdfast.migrate.lint.syntax import SqlType
from holdfast.migrate.lint.tokens import Token, tokens_of

_CANONICAL = {
    "int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint", "decimal": "numeric",
    "dec": "numeric", "bool": "boolean", "float8": "double precision", "float": "double precision",
    "float4": "real", "character varying": "varchar", "char varying": "varchar", "character": "char",
    "bpchar": "char", "national character varying": "varchar", "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz", "time without time zone": "time", "time with time zone": "timetz",
    "bit varying": "varbit", "string": "text",
}  # fmt: skip
_SERIAL = {"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}
_CONTINUES = {
    "character": ("varying",), "char": ("varying",), "bit": ("varying",), "double": ("precision",),
    "national": ("character", "char"),
    "interval": ("year", "month", "day", "hour", "minute", "second"),
}  # fmt: skip
_TIMES = {"timestamp", "timestamptz", "time", "timetz", "interval"}
_MICROSECONDS = (6,)
_TEXTS = {"varchar", "text", "citext"}


def read_type(reader: Reader) -> SqlType:
    """The type that comes next; an empty name when none does."""
    start = reader.at
    words = [reader.name()]
    name = words[0].last
    while reader.peek().kind == "word" and reader.peek().value in _CONTINUES.get(words[-1].last, ()):
        words.append(reader.name())
        name += " " + words[-1].last
    if name.startswith("national") and reader.accept("varying"):
        name += " varying"
    sizes: tuple[int, ...] = ()
    if reader.peek().text == "(":
        sizes = tuple(int(token.text) for token in reader.group() or () if token.text.isdigit())
    if zone := reader.accept("with time zone", "without time zone"):
        name += " " + zone
    array = False
    while reader.peek().text == "[" or reader.sees("array"):
        array = True
        reader.next()
        while reader.peek().kind == "number" or reader.peek().text in ("[", "]"):
            reader.next()
    text = written(reader._tokens[start : reader.at])
    return SqlType(text, _CANONICAL.get(name, name), sizes, array)


def type_of(text: str) -> SqlType:
    """The type that `text` names."""
    return read_type(Reader([token for token in tokens_of(text) if token.kind != "space"]))


def is_serial(kind: SqlType) -> bool:
    """Whether the column takes its default from a sequence of its own."""
    return kind.name in _SERIAL


def keeps_rows(old: SqlType, new: SqlType, utc: bool = False) -> bool:
    """Whether values of `old` are values of `new` as they lie on disk: no rewrite, no scan.

    `utc`: the session's time zone is UTC, so that timestamp and timestamptz are alike (PostgreSQL 12 and later).
    """
    if old.array != new.array:
        return False
    if old.name == new.name == "numeric":
        scales = [kind.sizes[1:] or (0,) for kind in (old, new)]
        return not new.sizes or (bool(old.sizes) and new.sizes[0] >= old.sizes[0] and scales[0] == scales[1])
    if old.name in _TEXTS and new.name in _TEXTS:
        return not new.sizes or (bool(old.sizes) and new.sizes[0] >= old.sizes[0])
    if old.name == new.name and old.name in _TIMES:
        return (new.sizes or _MICROSECONDS)[0] >= (old.sizes or _MICROSECONDS)[0]
    if old.name == new.name == "varbit":
        return not new.sizes or (bool(old.sizes) and new.sizes[0] >= old.sizes[0])
    if (old.name, new.name) == ("bit", "varbit"):
        return not new.sizes  # with a limit every value is measured
    if {old.name, new.name} == {"timestamp", "timestamptz"}:
        return utc and (not new.sizes or new.sizes == old.sizes)
    if (old.name, new.name) in (("cidr", "inet"), ("xml", "text"), ("xml", "varchar")):
        return not new.sizes
    return old.name == new.name and old.sizes == new.sizes


def is_plain_cast(using: Sequence[Token], column: str, new: SqlType) -> bool:
    """Whether USING only says what ALTER … TYPE does anyway: `column` or `column::type`."""
    reader = Reader(using)
    if reader.accept("cast"):
        reader = Reader(reader.group() or ())
        return reader.name().last == column and bool(reader.accept("as")) and read_type(reader).name == new.name
    if reader.name().last != column:
        return False
    return reader.done or (bool(reader.accept("::")) and read_type(reader).name == new.name and reader.done)
