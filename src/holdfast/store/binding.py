"""Values on their way to the driver, and what is said of one that its column cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Enum

from holdfast.errors import HoldfastError, InvalidValue

Bind = Callable[[Any], Any]


def bound(column: Any, bind: Bind, values: Iterable[Any]) -> Iterator[Any]:
    """Each of `values` as the driver takes it. InvalidValue: `column` cannot hold one."""
    value: Any = None
    try:
        for value in values:
            yield bind(value)
    except HoldfastError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        problem = type(error).__name__
    else:
        return
    raise unfit(column, value, f"{problem} as it was bound")


def all_bound(column: Any, bind: Bind, values: list[Any]) -> list[Any]:
    """The same for all at once, which is quicker."""
    try:
        return list(map(bind, values))
    except Exception:
        for _ in bound(column, bind, values):
            pass  # up to the one that is refused
        raise


def unfit(column: Any, value: Any, problem: str) -> InvalidValue:
    """That `column` cannot hold `value`, which may be a secret and is not told."""
    where = f"{column.table.name}.{column.name}"
    if isinstance(column.type, Enum):
        return InvalidValue(f"{where} holds one of {', '.join(column.type.enums)}, and nothing else")
    return InvalidValue(f"{where} cannot hold a value of the type that was given, {type(value).__name__} ({problem})")
