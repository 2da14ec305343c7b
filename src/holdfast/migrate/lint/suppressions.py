"""`-- holdfast: …` comments: rules that somebody allows, and what an unseen migration made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.rules import RULES
from holdfast.migrate.lint.sql_types import type_of
from holdfast.migrate.lint.syntax import SqlType
from holdfast.migrate.lint.tokens import Token

_DIRECTIVE = re.compile(r"^#?\s*holdfast:\s*(.*)$", re.IGNORECASE | re.DOTALL)
_ALLOW = re.compile(r"^allow\s+(?P<rules>[\w/-]+(?:\s*,\s*[\w/-]+)*)\s*(?:because\b\s*(?P<reason>.*))?$", re.I | re.S)
_WAS = re.compile(r"^(?P<column>\S+)\s+was\s+(?P<type>.+)$", re.I | re.S)
_BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")


class Allowance(msgspec.Struct, frozen=True):
    """What a comment allows, and why."""

    rules: frozenset[str]
    reason: str


def allowances(comments: Iterable[Token]) -> Iterator[tuple[Token, Allowance | Problem]]:
    """Of each comment that allows rules what it allows, or what is wrong with it."""
    for comment in comments:
        said = _DIRECTIVE.match(comment.value)
        if said is None or _WAS.match(said[1]):
            continue
        yield comment, _read(said[1].strip())


def _read(directive: str) -> Allowance | Problem:
    example = "-- holdfast: allow drop-column because no released code uses it"
    found = _ALLOW.match(directive)
    if found is None:
        return Problem("bad-suppression", f"not understood: holdfast: {directive[:80]}", example)
    rules = frozenset(re.split(r"\s*,\s*", found["rules"].lower()))
    if unknown := sorted(rule for rule in rules - RULES if not rule.startswith("squawk/")):
        return Problem("bad-suppression", f"there is no rule {', '.join(unknown)}", example)
    reason = (found["reason"] or "").strip()
    if not reason:
        names = ", ".join(sorted(rules))
        return Problem(
            "bad-suppression", f"{names} is allowed without a reason", f"-- holdfast: allow {names} because …"
        )
    return Allowance(rules, reason)


def for_whole_file(comment: Token, text: str, first_word: int) -> bool:
    """Whether a comment above the first statement, which begins at `first_word`, stands apart from it."""
    return bool(_BLANK_LINE.search(text, comment.start + len(comment.text), first_word))


def old_types(comments: Iterable[Token]) -> Iterator[tuple[str, str, SqlType]]:
    """Table, column and type of each `holdfast: table.column was type`."""
    for comment in comments:
        said = _DIRECTIVE.match(comment.value)
        found = _WAS.match(said[1].strip()) if said else None
        if found is None:
            continue
        table, _, column = found["column"].replace('"', "").lower().rpartition(".")
        yield table.removeprefix("public."), column, type_of(found["type"])
