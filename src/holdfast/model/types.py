"""Column types that behave the same on every backend: exact amounts and UTC times."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import Dialect, Numeric, String
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

from holdfast.errors import InvalidValue

U256_MAX = 2**256 - 1
_LIMB = 9  # decimal digits a limb: sums of up to 9 * 10**9 rows stay inside SQLite's 64-bit integers


class Amount(TypeDecorator[int]):
    """A non-negative integer, exact up to `digits` decimal digits (78 hold every u256).

    PostgreSQL: NUMERIC(digits, 0). SQLite and libSQL: zero-padded text, so that comparison and order are
    those of the numbers. In Python an `int`; in JSON a string. Anything that is not an integer from 0 to
    the maximum raises `InvalidValue` when it is bound.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, digits: int = 78) -> None:
        super().__init__()
        self.digits = digits
        self.maximum = U256_MAX if digits == 78 else 10**digits - 1

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(self.digits))
        return dialect.type_descriptor(Numeric(self.digits, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if type(value) is not int:
            raise InvalidValue(f"an amount must be an int, not {type(value).__name__} {value!r}; floats lose digits")
        if not 0 <= value <= self.maximum:
            raise InvalidValue(f"amount {value} is outside 0..{self.maximum}")
        return str(value).zfill(self.digits) if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)

    def process_literal_param(self, value: int | None, dialect: Dialect) -> str:
        bound = self.process_bind_param(value, dialect)
        return f"'{bound}'" if dialect.name == "sqlite" else str(bound)


def Total() -> Amount:
    """An `Amount` wide enough for the sum of 10**18 u256 values."""
    return Amount(digits=96)


class _Limbs(TypeDecorator[int]):
    """Reads what `exact_sum` returns: a number, or JSON limbs, most significant first."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else Numeric(None, 0))

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if dialect.name != "sqlite":
            return int(value)
        total = 0
        for limb in value.split(","):
            total = total * 10**_LIMB + int(limb)
        return total


class exact_sum(GenericFunction[int]):
    """The sum of an `Amount` column, exact at any size; 0 over no rows.

    On SQLite the text is summed limb by limb in 64-bit integers, so no extension is needed and raw
    readers get the same answer.
    """

    type = _Limbs()
    inherit_cache = True
    name = "exact_sum"


@compiles(exact_sum)
def _sum_numeric(element: exact_sum, compiler: Any, **options: Any) -> str:
    return f"coalesce(sum({compiler.process(element.clauses, **options)}), 0)"


@compiles(exact_sum, "sqlite")
def _sum_limbs(element: exact_sum, compiler: Any, **options: Any) -> str:
    column: ColumnElement[int] = next(iter(element.clauses))
    digits = getattr(column.type, "digits", 78)
    text = compiler.process(column, **options)
    first = digits % _LIMB or _LIMB
    starts = [(1, first), *((start, _LIMB) for start in range(first + 1, digits + 1, _LIMB))]
    return "||','||".join(f"coalesce(sum(CAST(substr({text},{at},{size}) AS INTEGER)),0)" for at, size in starts)


class Text(TypeDecorator[str]):
    """Text that every backend keeps: `InvalidValue` for a NUL character.

    PostgreSQL refuses one; SQLite would keep it and then show half of the value.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is not None and "\0" in value:
            raise InvalidValue(f"text with a NUL character at position {value.index(chr(0))} cannot be kept; remove it")
        return value


class UtcTime(TypeDecorator[dt.datetime]):
    """A moment in UTC, to the microsecond.

    PostgreSQL: TIMESTAMPTZ. SQLite and libSQL: text `YYYY-MM-DD HH:MM:SS.ffffff` in UTC, whose order is
    the order of time and which SQLite's own date functions read. A datetime without a zone raises
    `InvalidValue`: guessing one is how rows land on the wrong day.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(26))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if not isinstance(value, dt.datetime) or value.tzinfo is None:
            raise InvalidValue(f"a time must be a datetime with a zone, not {value!r}; use datetime.now(timezone.utc)")
        value = value.astimezone(dt.UTC)
        return format_utc(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC)
        try:
            moment = dt.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise InvalidValue(f"{value!r} in a time column is no ISO 8601 time; write it as UTC text") from None
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def format_utc(moment: dt.datetime) -> str:
    """The fixed-width text in which SQLite keeps a UTC time."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")
