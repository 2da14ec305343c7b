"""Whether an update would change anything: what changes nothing is not written, and nobody is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, String, cast, inspect, literal, or_, types
from sqlalchemy.sql.elements import ClauseElement

from holdfast.model import Amount, Model, Text, UtcTime

# What is equal in SQL is the same value here; what is encrypted never is.
_COMPARED = (
    Amount,
    UtcTime,
    types.Uuid,
    types.Boolean,
    types.Integer,
    types.Numeric,
    types.Float,
    types.DateTime,
    types.Date,
    types.Time,
    types.LargeBinary,
)


def differing(model: type[Model], values: Mapping[str, Any], dialect: str) -> ColumnElement[bool] | None:
    """The condition that a row has not all of these values already, by attribute; None where SQL cannot tell."""
    terms: list[ColumnElement[bool]] = []
    for name, value in values.items():
        column, kind = _compared(model, name, dialect)
        if column is None or isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            return None
        given = literal(value, kind)
        terms.append(column.is_distinct_from(cast(given, String) if isinstance(kind, types.JSON) else given))
    return or_(*terms)


@lru_cache(maxsize=4_096)
def _compared(model: type[Model], name: str, dialect: str) -> tuple[ColumnElement[Any] | None, Any]:
    """What of an attribute is compared, and its type; None for one that cannot be."""
    column = inspect(model).column_attrs[name].columns[0]
    kind = column.type
    if isinstance(kind, Text | String) and not (isinstance(kind, types.Enum) and kind.native_enum):
        # As bytes: a collation may take different texts for equal.
        return cast(column, String).collate("BINARY" if dialect == "sqlite" else "C"), kind
    if isinstance(kind, types.JSON):  # as text, for PostgreSQL compares no `json`, and takes 1 and 1.0 for equal
        return cast(column, String), kind
    return column if isinstance(kind, _COMPARED) else None, kind
