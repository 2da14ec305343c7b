"""The lexical structure of SQL: strings, dollar quotes, nested comments, quoted names.

After https://www.postgresql.org/docs/current/sql-syntax-lexical.html. Nothing is refused: what is never closed
runs to the end of the text as a `broken` token, so that the texts of all tokens together always are the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["space", "comment", "meta", "word", "quoted", "string", "number", "symbol", "data", "broken"]


class Token(NamedTuple):
    """A piece of the text; `value` is what it means: a word in lower case, a name or string without its quotes."""

    kind: Kind
    text: str
    start: int
    value: str


_PIECE = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--[^\r\n]*)
  | (?P<block>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*+')
  | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*+')
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*+"|`[^`\n]*`)
  | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<number>\d[\w.]*|\.\d\w*)
  | (?P<meta>\\[^\r\n]*)
  | (?P<symbol>::|:=|=>|<=|>=|<>|!=|\|\||->>|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_OPENED = ("'", '"')


def token_at(text: str, position: int) -> Token:
    """The token of `text` that begins at `position`, which must be inside of it. Never raises on any text."""
    found = _PIECE.match(text, position)
    if found is None:  # pragma: no cover - the last branch takes every character
        return Token("broken", text[position:], position, "")
    kind, piece = found.lastgroup, found[0]
    if kind == "word":
        after = text[found.end() : found.end() + 1]
        if piece in ("e", "E", "b", "B", "x", "X", "n", "N") and after == "'":
            return Token("broken", text[position:], position, "")
        return Token("word", piece, position, piece.lower())
    if kind == "symbol":
        if piece in _OPENED:
            return Token("broken", text[position:], position, "")
        return Token("symbol", piece, position, piece)
    if kind == "space":
        return Token("space", piece, position, "")
    if kind == "comment":
        return Token("comment", piece, position, piece[2:].strip())
    if kind == "block":
        return _block_comment(text, position)
    if kind == "quoted":
        return Token("quoted", piece, position, _unquoted(piece))
    if kind == "dollar":
        return _dollar_quoted(text, position, piece)
    if kind == "number":
        return Token("number", piece, position, piece)
    if kind == "meta":
        return Token("meta", piece, position, piece)
    opening = piece.index("'")
    return Token("string", piece, position, piece[opening + 1 : -1].replace("''", "'"))


def tokens_of(text: str) -> Iterator[Token]:
    """Every token of `text` in order; their texts together are `text`."""
    position = 0
    while position < len(text):
        token = token_at(text, position)
        yield token
        position += len(token.text)


def _block_comment(text: str, start: int) -> Token:
    depth, position = 1, start + 2
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return Token("broken", text[start:], start, "")
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    piece = text[start:position]
    return Token("comment", piece, start, piece[2:-2].strip())


def _dollar_quoted(text: str, start: int, tag: str) -> Token:
    body = start + len(tag)
    end = text.find(tag, body)
    if end < 0:
        return Token("broken", text[start:], start, "")
    return Token("string", text[start : end + len(tag)], start, text[body:end])


def _unquoted(piece: str) -> str:
    if piece.startswith("`"):
        return piece[1:-1]
    opening = piece.index('"')
    return piece[opening + 1 : -1].replace('""', '"')
