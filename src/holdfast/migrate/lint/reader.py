"""Walking over the words of one statement."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.migrate.lint.tokens import Token

_NOTHING = Token("symbol", "", -1, "")


class Name(msgspec.Struct, frozen=True):
    """A name as it was written, and the key under which the same thing is found again."""

    text: str
    key: str
    """Folded, without quotes and without the schema `public`."""
    last: str
    """The last part, folded: the table of `app.table`."""


NO_NAME = Name("", "", "")


class Reader:
    """A position in the words of a statement; at the end every look-ahead is an empty token."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self.at = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self._tokens)

    def peek(self, ahead: int = 0) -> Token:
        """The token `ahead` of the next."""
        place = self.at + ahead
        return self._tokens[place] if place < len(self._tokens) else _NOTHING

    def next(self) -> Token:
        """The next token, taken."""
        token = self.peek()
        self.at += 1
        return token

    def sees(self, phrase: str) -> bool:
        """Whether the unquoted words of `phrase` come next."""
        return all(
            self.peek(place).value == word and self.peek(place).kind in ("word", "symbol")
            for place, word in enumerate(phrase.split())
        )

    def accept(self, *phrases: str) -> str | None:
        """Take the first of the phrases that comes next, and return it; else None and nothing is taken."""
        for phrase in phrases:
            if self.sees(phrase):
                self.at += len(phrase.split())
                return phrase
        return None

    def name(self) -> Name:
        """A name with its schemas, or `NO_NAME` when none comes next; a trailing `*` of a table is taken."""
        parts: list[Token] = []
        while self.peek().kind in ("word", "quoted") or (self.peek().kind == "broken" and not parts):
            parts.append(self.next())
            if self.peek().text != "." or self.peek(1).kind not in ("word", "quoted"):
                break
            self.next()
        self.accept("*")
        if not parts:
            return NO_NAME
        values = [part.value for part in parts]
        if len(values) > 1 and values[-2] == "public":
            values = values[-1:]
        return Name(".".join(part.text for part in parts), ".".join(values[-2:]), values[-1])

    def names(self) -> tuple[Name, ...]:
        """Names with commas between them."""
        found = [self.name()]
        while self.accept(","):
            self.accept("only")
            found.append(self.name())
        return tuple(name for name in found if name is not NO_NAME)

    def group(self) -> tuple[Token, ...] | None:
        """What is inside the parentheses that come next, or None when none do."""
        if self.peek().text != "(" or self.peek().kind != "symbol":
            return None
        start, depth = self.at + 1, 0
        while not self.done:
            token = self.next()
            if token.kind != "symbol":
                continue
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return tuple(self._tokens[start : self.at - 1])
        return tuple(self._tokens[start:])

    def until(self, *stops: str) -> tuple[Token, ...]:
        """Everything before the first of the phrases outside of parentheses, or before the end."""
        start, depth = self.at, 0
        while not self.done:
            token = self.peek()
            if depth == 0 and any(self.sees(stop) for stop in stops):
                break
            if token.kind == "symbol":
                depth += (token.text in "([") - (token.text in ")]")
            self.at += 1
        return tuple(self._tokens[start : self.at])

    def rest(self) -> tuple[Token, ...]:
        """Everything that is left, taken."""
        left = tuple(self._tokens[self.at :])
        self.at = len(self._tokens)
        return left


def split(tokens: Sequence[Token], separator: str = ",") -> list[tuple[Token, ...]]:
    """`tokens` at each `separator` (a symbol, or a word in lower case) outside of parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "symbol":
            depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0 and token.value == separator and token.kind in ("word", "symbol"):
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts if part]


def has_word(tokens: Sequence[Token], *words: str) -> bool:
    """Whether one of the unquoted `words` is among the tokens."""
    return any(token.kind == "word" and token.value in words for token in tokens)


def written(tokens: Sequence[Token]) -> str:
    """The tokens as SQL on one line."""
    text, before = "", ""
    for token in tokens:
        tight = token.text in (",", ")", ".", "::", "[", "]", "") or before in ("(", ".", "::", "[", "")
        call = token.text == "(" and before not in (",", "")
        text += token.text if tight or (call and text[-1:].isalnum()) else " " + token.text
        before = token.text
    return text.strip()
