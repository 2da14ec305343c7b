"""What the linter says about one statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Level = Literal["error", "warning"]
Dialect = Literal["postgresql", "sqlite"]
DIALECTS: Mapping[str, Dialect] = {"postgresql": "postgresql", "sqlite": "sqlite"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One hazard at one place; the JSON form has these fields in this order."""

    file: str
    line: int
    """Counted from 1: where the statement begins, after the comments before it."""
    rule: str
    level: Level
    message: str
    """What goes wrong, and for whom."""
    fix: str
    """The safe rewrite: SQL with this statement's own names where there is one, else a sentence."""


class Problem(msgspec.Struct, frozen=True):
    """What a rule says of a statement, before anybody knows the file and the line."""

    rule: str
    message: str
    fix: str
    level: Level = "error"
