"""Parentheses around conditions that somebody wrote out as text.

SQLAlchemy joins conditions by AND and leaves text as it is. So `text("a = 1 OR b = 2")` would take everything after its
OR, a tenant's criterion included, for its second half.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Grouping

from holdfast.store.raw_text import is_text


def grouped(statement: Any) -> Any:
    """`statement` with each condition that has text in it, in WHERE and in the ON of joins, in parentheses."""
    elements = list(visitors.iterate(statement))
    if not any(_has_text(condition) for element in elements for condition in _conditions(element)):
        return statement
    options = [option for element in elements for option in getattr(element, "_with_options", ())]
    return visitors.cloned_traverse(
        statement,
        {"stop_on": options},  # which cannot be cloned
        {"select": _group, "update": _group, "delete": _group, "join": _group_on},
    )


def _conditions(element: Any) -> list[Any]:
    joins = (link for _, link, *_ in getattr(element, "_setup_joins", ()))
    found = (*getattr(element, "_where_criteria", ()), *joins, getattr(element, "onclause", None))
    return [condition for condition in found if condition is not None]


def _has_text(condition: Any) -> bool:
    return isinstance(condition, visitors.Visitable) and any(map(is_text, visitors.iterate(condition)))  # type: ignore[arg-type]


def _in_parentheses(condition: Any) -> Any:
    return Grouping(condition) if _has_text(condition) else condition


def _group(statement: Any) -> None:
    statement._where_criteria = tuple(map(_in_parentheses, statement._where_criteria))
    joins = getattr(statement, "_setup_joins", ())
    if joins:
        statement._setup_joins = tuple((target, _in_parentheses(on), *rest) for target, on, *rest in joins)


def _group_on(join: Any) -> None:
    join.onclause = _in_parentheses(join.onclause)
