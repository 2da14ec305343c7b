"""SQL that somebody wrote out within a statement on models: where it stands, and whether it keeps to its place.

A unit cannot look into such text. It can see that the text does not end what stands around it: a condition
`1 = 1) OR (1 = 1` would leave the parentheses that it is put in, and a tenant's criterion behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy.sql import elements
from sqlalchemy.sql.elements import BinaryExpression, ColumnClause, UnaryExpression
from sqlalchemy.sql.operators import custom_op

# A template string (SQLAlchemy 2.1 on Python 3.14) is text as well.
_Text: Any = getattr(elements, "AbstractTextClause", elements.TextClause)
_BESIDE = re.compile(
    r"/\*\+[^*/]*\*/|ALL|DISTINCT|(NOT\s+)?MATERIALIZED|OR\s+(ABORT|FAIL|IGNORE|REPLACE|ROLLBACK)", re.IGNORECASE
)
# What quotes: to SQLite [a'b] and `a'b` are names, to PostgreSQL a subscript and an operator.
_STRING = r"'[^']*'|\"[^\"]*\""
_QUOTED = (re.compile(_STRING), re.compile(_STRING + r"|`[^`]*`|\[[^\]]*\]"))
_OPENING = re.compile(r"--|/\*|\*/|[;$'\"\0]")
_ESCAPING = re.compile(r"\b[eE]'")  # begins a string of PostgreSQL's in which \' is a quote


def is_text(element: Any) -> bool:
    """Whether `element` is SQL that somebody wrote out."""
    return isinstance(element, _Text) or (isinstance(element, ColumnClause) and element.is_literal)


def is_operator(element: Any) -> bool:
    """Whether `element` has an operator that somebody wrote out, as by `.op("…")`."""
    if isinstance(element, BinaryExpression):
        return isinstance(element.operator, custom_op)
    return isinstance(element, UnaryExpression) and any(isinstance(one, custom_op) for one in _of_one(element))


def has_text_beside(statement: Any) -> bool:
    """Whether something was put before or behind `statement`, by `prefix_with`, `suffix_with` or a hint."""
    return bool(
        getattr(statement, "_prefixes", ())
        or getattr(statement, "_suffixes", ())
        or getattr(statement, "_statement_hints", ())
    )


def objection(element: Any) -> str | None:
    """Why the text in `element` may end what stands around it; None where it does not, or there is none."""
    for sql in _within(element):
        if not is_closed(sql):
            return (
                f"{sql[:60]!r}, written out as text, is not closed in itself; balance its parentheses and quotes, and"
                " leave out comments, semicolons and dollar signs"
            )
    for one in _beside(element):
        if not _BESIDE.fullmatch(one.strip()):
            return f"{one[:60]!r} is put before or behind a statement, where a unit cannot look into it; leave it out"
    return None


def is_closed(sql: str) -> bool:
    """Whether `sql` stays within parentheses put around it, whether PostgreSQL or SQLite reads it."""
    if "\\'" in sql and _ESCAPING.search(sql):
        return False
    of_postgres, of_sqlite = (quoted.sub(" ", sql) for quoted in _QUOTED)
    if "[" in of_sqlite or "`" in of_sqlite:
        return False
    return not any(_OPENING.search(bare) or not _is_balanced(bare) for bare in (of_postgres, of_sqlite))


def _is_balanced(sql: str) -> bool:
    depth = 0
    for sign in sql:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return depth == 0


def _within(element: Any) -> Iterator[str]:
    if isinstance(element, ColumnClause):
        yield str(element.name)
    elif is_text(element):
        parts = getattr(element, "parts", None)  # of a template string; what it was given is bound, or an expression
        yield str(element.text) if parts is None else "".join(str(getattr(part, "text", "?")) for part in parts)
    elif isinstance(element, BinaryExpression | UnaryExpression):
        used = (element.operator,) if isinstance(element, BinaryExpression) else _of_one(element)
        yield from (one.opstring for one in used if isinstance(one, custom_op))


def _of_one(element: UnaryExpression[Any]) -> tuple[Any, ...]:
    return element.operator, element.modifier


def _beside(element: Any) -> Iterator[str]:
    for one, _ in (*getattr(element, "_prefixes", ()), *getattr(element, "_suffixes", ())):
        yield str(one)  # what is no text has SELECT in it, or a column
    for _, hint in getattr(element, "_statement_hints", ()):
        yield str(hint)
