"""A file as statements: where each begins, and which comments stand before it."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator

import msgspec

from holdfast.migrate.lint.finding import Dialect
from holdfast.migrate.lint.tokens import Token, token_at

_ROW_END = re.compile(r"^\\\.[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_SPACE = re.compile(r"\s*")
_OPENS, _CLOSES = ("begin", "case"), "end"
_COMMAND_WORDS = """
abort alter analyse analyze begin call checkpoint close cluster comment commit copy create deallocate declare delete
discard do drop end execute explain fetch grant import insert listen load lock merge move notify prepare reassign
refresh reindex release repack reset revoke rollback savepoint security select set show start table truncate
unlisten update vacuum values wait with
"""
_COMMANDS = frozenset(_COMMAND_WORDS.split())
"""What a statement of PostgreSQL begins with."""


class Statement(msgspec.Struct, frozen=True):
    """A statement with everything before it: `text` of all statements together is the file."""

    text: str
    start: int
    line: int
    """Where its first word stands; for what follows the last statement, where that text begins."""
    tokens: tuple[Token, ...]
    """Its words and symbols, without comments and the closing semicolon."""
    comments: tuple[Token, ...]
    """Those before its first word."""
    inner: tuple[Token, ...] = ()
    """Those after it."""
    broken: bool = False
    """A quote or a comment in it is never closed."""


def is_unknown(statement: Statement) -> bool:
    """Whether PostgreSQL has no statement that begins with its first word."""
    return bool(statement.tokens) and statement.tokens[0].kind == "word" and statement.tokens[0].value not in _COMMANDS


class Lines:
    """From an offset in a text to its line, counted from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in re.finditer(r"\n", text))]

    def of(self, offset: int) -> int:
        """The line of the character at `offset`."""
        return bisect_right(self._starts, offset)


def statements_of(text: str, dialect: Dialect = "postgresql") -> Iterator[Statement]:
    """The statements of `text` in order; the last may have no words, only what stands at the end of the file.

    Rows after `COPY … FROM stdin` and psql's backslash commands belong to the text but not to the words. A body
    that is itself written in statements (BEGIN ATOMIC, a rule's or an SQLite trigger's) is one statement.
    """
    lines = Lines(text)
    position = start = 0
    words: list[Token] = []
    before: list[Token] = []
    inner: list[Token] = []
    depth = nested = 0
    bodied = False

    def made(end: int, broken: bool = False) -> Statement:
        at = words[0].start if words else start
        return Statement(text[start:end], start, lines.of(at), tuple(words), tuple(before), tuple(inner), broken)

    while position < len(text):
        if text[position].isspace():
            position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
            continue
        token = token_at(text, position)
        position += len(token.text)
        kind = token.kind
        if kind in ("comment", "meta"):
            (inner if words else before).append(token)
            continue
        if kind == "broken":
            words.append(token)
            break
        if kind == "symbol":
            if token.text == "(":
                depth += 1
            elif token.text == ")":
                depth = max(0, depth - 1)
            elif token.text == ";" and not nested and not (depth and _is_rule(words)):
                if _reads_rows(words):
                    position = _end_of_rows(text, position)
                yield made(position)
                start, depth, bodied = position, 0, False
                words, before, inner = [], [], []
                continue
        elif kind == "word" and words:
            if (token.value == "begin" and not bodied and _is_trigger(words, dialect)) or (
                token.value == "atomic" and words[-1].value == "begin" and words[0].value == "create"
            ):
                bodied, nested = True, 1
            elif nested and token.value in _OPENS:
                nested += 1
            elif nested and token.value == _CLOSES:
                nested -= 1
        words.append(token)
    if start < len(text):
        yield made(len(text), broken=bool(words) and words[-1].kind == "broken")


def _is_rule(words: list[Token]) -> bool:
    return words[0].value == "create" and any(word.value == "rule" for word in words[1:4])


def _is_trigger(words: list[Token], dialect: Dialect) -> bool:
    return dialect == "sqlite" and words[0].value == "create" and any(word.value == "trigger" for word in words[1:3])


def _reads_rows(words: list[Token]) -> bool:
    if not words or words[0].value != "copy":
        return False
    values = [word.value for word in words]
    return any(pair == ("from", "stdin") for pair in itertools.pairwise(values))


def _end_of_rows(text: str, position: int) -> int:
    found = _ROW_END.search(text, position)
    return found.end() if found else len(text)
