"""Columns of whole numbers take ints alone: SQLite would keep a text in them, and asyncpg cut a fraction off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Dialect, Integer
from sqlalchemy.engine import Engine

from holdfast.errors import InvalidValue


def as_whole(value: Any) -> Any:
    """`value`, an int or None; else `InvalidValue`."""
    if value is None or isinstance(value, int):
        return value
    raise InvalidValue(f"a whole number must be an int, not {type(value).__name__}")


def are_whole(values: Iterable[Any]) -> bool:
    """Whether `as_whole` takes all of them, at a tenth of the cost of asking for each."""
    return all(kind is int or kind is type(None) or issubclass(kind, int) for kind in set(map(type, values)))


def be_strict(engine: Engine) -> None:
    """Let `engine` refuse what is no whole number where a column holds such."""
    dialect: Any = engine.dialect
    kinds = {Integer: Integer, **dialect.colspecs}
    strict = {kind: _strict(base) for kind, base in kinds.items() if issubclass(kind, Integer)}
    dialect.colspecs = {**dialect.colspecs, **strict}


def _strict(base: type[Any]) -> type[Any]:
    def bind_processor(self: Any, dialect: Dialect) -> Callable[[Any], Any]:
        return as_whole

    return type(f"Whole{base.__name__}", (base,), {"bind_processor": bind_processor})
