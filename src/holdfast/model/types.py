"""Column types that behave the same on every backend: exact amounts, text, UTC times."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Dialect, Numeric, String, and_, case, func, not_, type_coerce
from sqlalchemy import column as sql_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

from holdfast.errors import InvalidValue

U256_MAX = 2**256 - 1
AMOUNT_CHECK = "holdfast.amount"  # of a constraint's info: the column, its digits, the dialect
_U256_DIGITS = 78
_TOTAL_DIGITS = 96
_LIMB = 9  # decimal digits a limb: sums of up to 9 * 10**9 rows stay inside SQLite's 64-bit integers
_ARITHMETIC = {
    operators.add,
    operators.sub,
    operators.mul,
    operators.truediv,
    operators.floordiv,
    operators.mod,
    operators.neg,
}


class _ExactOnly(TypeDecorator.Comparator[int]):
    """Comparisons, and no arithmetic: SQLite would take the text for a float."""

    def operate(self, op: Any, *other: Any, **options: Any) -> ColumnElement[Any]:
        if op in _ARITHMETIC:
            raise _no_arithmetic()
        return super().operate(op, *other, **options)

    def reverse_operate(self, op: Any, other: Any, **options: Any) -> ColumnElement[Any]:
        if op in _ARITHMETIC:
            raise _no_arithmetic()
        return super().reverse_operate(op, other, **options)


def _no_arithmetic() -> InvalidValue:
    return InvalidValue(
        "SQL arithmetic on amounts is not exact on every backend; use exact_sum(…), or compute in Python"
    )


class Amount(TypeDecorator[int]):
    """A non-negative integer, exact up to `digits` decimal digits (78 hold every u256).

    PostgreSQL: NUMERIC(digits, 0). SQLite and libSQL: zero-padded text, so that comparison and order are
    those of the numbers. In Python an `int`; in JSON a string. Anything that is not an integer from 0 to
    the maximum raises `InvalidValue` when it is bound; a model's table has a CHECK that holds raw SQL to the
    same, in the form the column keeps (`printf('%078d', 5)` on SQLite).
    """

    impl = Numeric
    cache_ok = True
    comparator_factory = _ExactOnly

    def __init__(self, digits: int = _U256_DIGITS) -> None:
        super().__init__()
        self.digits = digits
        self.maximum = U256_MAX if digits == _U256_DIGITS else 10**digits - 1

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(self.digits))
        return dialect.type_descriptor(Numeric(self.digits, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if type(value) is not int:
            raise InvalidValue(f"an amount must be an int, not {type(value).__name__}; floats lose digits")
        if not 0 <= value <= self.maximum:
            raise InvalidValue(f"amount {_shown(value)} is outside 0..{self.maximum}")
        return str(value).zfill(self.digits) if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if isinstance(value, float):
            raise InvalidValue("the database made a float of amounts, which loses digits; sum them with exact_sum(…)")
        try:
            return int(value)
        except ValueError:
            raise InvalidValue(f"{value!r} in an amount column is no whole number; correct the row") from None

    def literal_processor(self, dialect: Dialect) -> Callable[[int], str]:
        quote = "'" if dialect.name == "sqlite" else ""
        return lambda value: f"{quote}{self.process_bind_param(value, dialect)}{quote}"

    def checks(self, column: str) -> list[CheckConstraint]:
        """What keeps raw SQL from writing into `column` what could not be read, ordered or summed; one a dialect."""
        given: ColumnElement[Any] = sql_column(column)
        text, number = type_coerce(given, String()), type_coerce(given, Numeric(self.digits, 0))
        as_text = and_(
            func.length(text) == self.digits,
            not_(text.op("GLOB", is_comparison=True)("*[^0-9]*")),
            text <= str(self.maximum),
        )
        as_number = and_(number >= Decimal(0), number <= Decimal(self.maximum))
        checks = {
            "sqlite": CheckConstraint(as_text, name=f"{column}_is_{self.digits}_digits"),
            "postgresql": CheckConstraint(as_number, name=f"{column}_in_range"),
        }
        for dialect, check in checks.items():
            check.ddl_if(dialect=dialect)
            check.info[AMOUNT_CHECK] = (column, self.digits, dialect)
        return list(checks.values())


def Total() -> Amount:
    """An `Amount` wide enough for the sum of 10**18 u256 values."""
    return Amount(digits=_TOTAL_DIGITS)


class exact_sum(GenericFunction[int]):
    """The sum of an `Amount` column, exact at any size; 0 over no rows. What it gives is a `Total`.

    On SQLite the text is summed limb by limb in 64-bit integers, so no extension is needed and raw
    readers get the same answer; it can be ordered, compared and stored like any amount.

    Raises:
        InvalidValue: the argument is no `Amount`.
    """

    type = Total()
    inherit_cache = True
    name = "exact_sum"

    def __init__(self, amount: ColumnElement[int] | Any) -> None:
        super().__init__(amount)
        given = next(iter(self.clauses)).type
        if not isinstance(given, Amount):
            raise InvalidValue(f"exact_sum takes an Amount, not {given!r}; sum plain integers with func.sum")

    def filter(self, *conditions: Any) -> exact_sum:  # type: ignore[override]
        """The sum over the rows where all `conditions` hold."""
        return exact_sum(case((and_(*conditions), next(iter(self.clauses)))))


@compiles(exact_sum)
def _sum_numeric(element: exact_sum, compiler: Any, **options: Any) -> str:
    return f"coalesce(sum({compiler.process(element.clauses, **options)}), 0)"


@compiles(exact_sum, "sqlite")
def _sum_limbs(element: exact_sum, compiler: Any, **options: Any) -> str:
    amount: ColumnElement[int] = next(iter(element.clauses))
    digits = amount.type.digits  # type: ignore[attr-defined]
    # The argument is written out once a limb and carry. SQLite computes equal aggregates once, and two
    # placeholders are never equal; so what is bound inside becomes a literal when the statement runs.
    text = compiler.process(amount, **{**options, "literal_execute": True})
    highest = digits % _LIMB or _LIMB
    starts = [(1, highest), *((start, _LIMB) for start in range(highest + 1, digits + 1, _LIMB))]
    carried, parts = "", []
    for start, size in reversed(starts):
        limb = f"coalesce(sum(CAST(substr({text},{start},{size}) AS INTEGER)),0)"
        carried = f"({limb}+{carried}/{10**_LIMB})" if carried else limb
        if start > 1:
            parts.append(f"printf('%0{_LIMB}d',{carried}%{10**_LIMB})")
    parts.append(f"printf('%0{max(_TOTAL_DIGITS, digits) - _LIMB * len(parts)}d',{carried})")
    return f"({'||'.join(reversed(parts))})"


class Text(TypeDecorator[str]):
    """Text that every backend keeps: `InvalidValue` for a NUL character or half a surrogate pair.

    PostgreSQL refuses a NUL; SQLite would keep it and then show half of the value.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise InvalidValue(f"text must be a str, not {type(value).__name__}")
        if "\0" in value:
            raise InvalidValue(f"text with a NUL character at position {value.index(chr(0))} cannot be kept; remove it")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidValue(
                    f"text with a lone surrogate at position {error.start} cannot be kept; it was decoded wrongly"
                ) from None
        return value


_ENDS = (dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))


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
        value = _in_utc(value)
        return format_utc(value) if dialect.name == "sqlite" else value

    def literal_processor(self, dialect: Dialect) -> Callable[[dt.datetime], str]:
        zone = "" if dialect.name == "sqlite" else "+00"
        return lambda value: f"'{format_utc(_in_utc(value))}{zone}'"

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            # asyncpg gives infinity as an end of time without a zone.
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        try:
            moment = dt.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise InvalidValue(f"{value!r} in a time column is no ISO 8601 time; write it as UTC text") from None
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def format_utc(moment: dt.datetime) -> str:
    """The fixed-width text in which SQLite keeps a UTC time."""
    return moment.isoformat(" ", "microseconds")[:26]  # without the zone that may follow


def _in_utc(value: dt.datetime) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        raise InvalidValue(f"a time must be a datetime with a zone, not {type(value).__name__}")
    if value.tzinfo is dt.UTC:
        return _within(value)
    if value.tzinfo is None:
        raise InvalidValue(
            "a time must be a datetime with a zone, and this one has none; use datetime.now(timezone.utc)"
        )
    try:
        return _within(value.astimezone(dt.UTC))
    except OverflowError:
        raise InvalidValue("a time must lie in the years 1 to 9999 of UTC") from None


def _within(value: dt.datetime) -> dt.datetime:
    """Refuse the ends of time: asyncpg would keep them as infinity."""
    if value in _ENDS:
        raise InvalidValue("a time must lie between the first and the last microsecond of the years 1 to 9999 of UTC")
    return value


def _shown(value: int) -> str:
    """`value`, or how large it is: Python refuses to write out an int of thousands of digits."""
    return str(value) if value.bit_length() < 1_000 else f"of {value.bit_length()} bits"
