"""The statements inside of a DO block: PL/pgSQL's own words are passed over, EXECUTE of a literal is followed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from holdfast.migrate.lint.reader import Reader, split
from holdfast.migrate.lint.statements import statements_of
from holdfast.migrate.lint.syntax import Block, Tokens

_ENDS = {"if": "then", "elsif": "then", "elseif": "then", "when": "then", "exception": "then", "for": "loop",
         "foreach": "loop", "while": "loop", "case": "then"}  # fmt: skip
_PLACE = re.compile(r"%(?:\d+\$)?-?\d*[IsL]")
"""Where format() puts a name or a value in, in EXECUTE."""
_DYNAMIC = "dynamic_name"
_ALONE = ("begin", "else", "loop", "then")


def statements_inside(block: Block) -> Iterator[tuple[int, Tokens]]:
    """Where in the file each SQL statement of the block begins, and its words."""
    for statement in statements_of(block.body):
        words = _sql(statement.tokens)
        if not words:
            continue
        start = block.start + words[0].start
        if words[0].value == "execute":
            for executed in statements_of(_executed(words[1:])):
                if executed.tokens:
                    yield start, executed.tokens
        elif words[0].value == "perform":
            yield start, (words[0]._replace(value="select"), *words[1:])
        else:
            yield start, words


def _executed(words: Tokens) -> str:
    """The SQL of an EXECUTE as far as it is written there; `dynamic_name` stands for what is put in at run time."""
    reader = Reader(words)
    if reader.accept("format"):
        literals = [token.value for token in reader.group() or () if token.kind == "string"]
        return _PLACE.sub(_DYNAMIC, literals[0]) if literals else ""
    sql = ""
    for part in split(reader.until("using", "into"), "||"):
        sql += part[0].value if part[0].kind == "string" else _DYNAMIC
    return sql


def _sql(tokens: Tokens) -> Tokens:
    reader = Reader(tokens)
    while not reader.done:
        word = reader.peek().value if reader.peek().kind == "word" else ""
        if word in _ALONE or reader.peek().text == "<" or reader.peek().text == ">":
            reader.next()
        elif word in _ENDS:
            reader.until(_ENDS[word])
            reader.next()
        else:
            break
    return reader.rest()
