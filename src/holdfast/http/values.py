"""What a column's values look like in a URL and in JSON, by the column's type."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Column, Date, Enum, Float, Integer, Numeric, SmallInteger, String, Uuid

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Text, UtcTime

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DIGITS = re.compile(r"[0-9]{1,96}")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_DECIMAL = r"-?[0-9]{1,40}(\.[0-9]{1,40})?"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST = 40  # characters of a refused value that an error repeats

NO_NUL = "^[^\\u0000]*$"  # a pattern of JSON Schema
ORDERED = ("eq", "ne", "gt", "gte", "lt", "lte", "in")
EQUAL = ("eq", "ne", "in")


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one type are read from a URL and shown in JSON.

    Attributes:
        allowed: what may be written, as a phrase for errors.
        read: text → value; raises `ValueError` for anything else.
        schema: the JSON Schema of the shown value.
        operators: the filters that mean the same on every backend (the order of text does not).
        show: value → what is put into JSON; None where the value goes as it is.
    """

    allowed: str
    read: Callable[[str], Any]
    schema: dict[str, Any]
    operators: tuple[str, ...] = ORDERED
    show: Callable[[Any], Any] | None = None

    def parse(self, text: str, where: str) -> Any:
        """The value of `text`.

        Raises:
            InvalidValue: it is none; the message has the parameter `where`, the value and what is allowed.
        """
        try:
            return self.read(text)
        except (ValueError, OverflowError, InvalidOperation) as error:
            reason = f" ({error})" if isinstance(error, InvalidValue) else ""
            raise InvalidValue(f"{where}={_short(text)} is not {self.allowed}{reason}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _match(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError
    return text


def read_boolean(text: str) -> bool:
    """`true` or `false`."""
    return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse()


def _refuse() -> Any:
    raise ValueError


def read_day(text: str) -> dt.date:
    """A calendar day, YYYY-MM-DD."""
    return dt.date.fromisoformat(_match(_DAY, text))


def read_time(text: str) -> dt.datetime:
    """A moment with its zone, or a day, which stands for its first moment in UTC."""
    if _DAY.fullmatch(text):
        return dt.datetime.combine(read_day(text), dt.time.min, dt.UTC)
    if not text[:1].isdigit() or len(text) > 40:
        raise ValueError
    if " " in text[11:]:
        raise InvalidValue("a + in a URL is a space: write it as %2B")
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise InvalidValue("it has no zone: end it with Z")
    return moment.astimezone(dt.UTC)


def _integer(bits: int) -> Callable[[str], int]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def read(text: str) -> int:
        value = int(_match(_INTEGER, text))
        return value if least <= value <= most else _refuse()

    return read


def _amount(maximum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(_match(_DIGITS, text))
        return value if value <= maximum else _refuse()

    return read


def _text(text: str) -> str:
    if "\0" in text:
        raise InvalidValue("a NUL character cannot be kept, so no row has one")
    return text


def _enum_name(value: Any) -> str:
    return str(getattr(value, "name", value))


def _one_of(values: list[str]) -> Callable[[str], str]:
    return lambda text: text if text in values else _refuse()


BOOLEAN = Kind("true or false", read_boolean, {"type": "boolean"}, EQUAL)
DAY = Kind("a day, YYYY-MM-DD", read_day, {"type": "string", "format": "date"})
TEXT = Kind("text without a NUL character", _text, {"type": "string", "pattern": NO_NUL}, EQUAL)
UUID_KIND = Kind("a UUID", lambda text: UUID(_match(_UUID, text)), {"type": "string", "format": "uuid"})
TIME = Kind("a moment like 2026-01-31T12:00:00Z, or a day", read_time, {"type": "string", "format": "date-time"})
REAL = Kind("a number", lambda text: float(_match(_NUMBER, text)), {"type": "number"})
DECIMAL = Kind(
    "a decimal number",
    lambda text: Decimal(_match(re.compile(_DECIMAL), text)),
    {"type": "string", "format": "decimal", "pattern": f"^{_DECIMAL}$"},
)
OPAQUE = Kind("", lambda text: _refuse(), {}, ())


def integer_kind(bits: int = 64) -> Kind:
    """Whole numbers of so many bits."""
    schema = {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
    return Kind(f"a whole number ({bits}-bit)", _integer(bits), schema)


def amount_kind(maximum: int) -> Kind:
    """Amounts: exact at any size, so they are strings in JSON."""
    schema = {"type": "string", "pattern": f"^[0-9]{{1,{len(str(maximum))}}}$"}
    return Kind(f"a whole number from 0 to {maximum}", _amount(maximum), schema, show=str)


def kind_of(column: Column[Any]) -> Kind:
    """The kind of a column's values; one without operators cannot be filtered by."""
    type_ = column.type
    if isinstance(type_, Amount):
        return amount_kind(type_.maximum)
    if isinstance(type_, Enum):
        values = [str(value) for value in type_.enums]
        return Kind(
            f"one of {', '.join(values)}", _one_of(values), {"type": "string", "enum": values}, EQUAL, _enum_name
        )
    for types, kind in _BY_TYPE:
        if isinstance(type_, types):
            return kind
    return OPAQUE


_BY_TYPE: tuple[tuple[Any, Kind], ...] = (
    (UtcTime, TIME),
    (Boolean, BOOLEAN),
    (SmallInteger, integer_kind(16)),
    (Integer, integer_kind()),
    (Float, REAL),
    (Numeric, DECIMAL),
    (Date, DAY),
    (Uuid, UUID_KIND),
    ((Text, String), TEXT),
)
