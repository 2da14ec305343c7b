"""What a caller may put into a column: how its JSON is read, and how the API description says so."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Uuid,
)

from holdfast.errors import InvalidValue, ModelError
from holdfast.http.values import DAY, NO_NUL, TEXT, TIME, UUID_KIND, Kind, kind_of
from holdfast.model import Amount, Text, UtcTime
from holdfast.model.encrypted import Encrypted

_LONGEST_TEXT = 60_000  # characters, of a column that has no length of its own; a body has no room for more


@dataclass(frozen=True, slots=True)
class Settable:
    """A column that a caller may set.

    Attributes:
        name: of the column.
        schema: the JSON Schema of what may be given.
        read: JSON value → value; raises `ValueError`, whose message says what may be given.
        nullable: whether it may be null.
        required: whether a new row must be given one.
    """

    name: str
    schema: dict[str, Any]
    read: Callable[[Any], Any]
    nullable: bool
    required: bool

    def value(self, given: Any) -> Any:
        """The column's value for what was given. ValueError: it is none; the message says what may be given."""
        if given is None:
            if not self.nullable:
                raise ValueError("it cannot be null")
            return None
        return self.read(given)

    def described(self) -> dict[str, Any]:
        """The schema, null included."""
        if not self.nullable or not self.schema:
            return self.schema
        schema = dict(self.schema)
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        return schema


def settable_of(model: type[Any], column: Column[Any]) -> Settable:
    """How a column of `model` is set.

    Raises:
        ModelError: no JSON can be made a value of its type.
    """
    schema, read = _reading(model, column)
    if words := column.doc or column.comment:
        schema = {**schema, "description": words}
    has_default = column.default is not None or column.server_default is not None
    return Settable(
        name=str(column.name),
        schema=schema,
        read=read,
        nullable=bool(column.nullable),
        required=not column.nullable and not has_default,
    )


def _reading(model: type[Any], column: Column[Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    type_: Any = column.type
    if isinstance(type_, Encrypted):
        if type_.kind is not str:
            raise _unfit(model, column)
        return _text(None)
    if isinstance(type_, Amount):
        return _from_text(kind_of(column), {"type": "string", "pattern": f"^[0-9]{{1,{type_.digits}}}$"})
    if isinstance(type_, Enum):
        kind = kind_of(column)
        return _from_text(kind, kind.schema)
    if isinstance(type_, Numeric) and not isinstance(type_, Float):
        return _decimal(type_)
    for types, made in _BY_TYPE:
        if isinstance(type_, types):
            return made(type_)
    raise _unfit(model, column)


def _unfit(model: type[Any], column: Column[Any]) -> ModelError:
    return ModelError(
        f"{model.__name__}: Expose(writable=…) names {str(column.name)!r}, whose type cannot be written over HTTP;"
        " leave it out, and write it by an endpoint of your own"
    )


def _from_text(kind: Kind, schema: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """A value that is a string in JSON, read as in a URL."""

    def read(given: Any) -> Any:
        if not isinstance(given, str):
            raise ValueError(f"it must be a string: {kind.allowed}")
        try:
            return kind.read(given)
        except InvalidValue:
            raise
        except (ValueError, OverflowError):
            raise ValueError(f"it must be {kind.allowed}") from None

    return schema, read


def _text(length: int | None) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    most = length or _LONGEST_TEXT
    schema = {"type": "string", "maxLength": most, "pattern": NO_NUL}

    def read(given: Any) -> str:
        if not isinstance(given, str):
            raise ValueError("it must be a string")
        if len(given) > most:
            raise ValueError(f"it may have {most} characters, not {len(given)}")
        return str(TEXT.read(given))

    return schema, read


def _boolean(type_: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    def read(given: Any) -> bool:
        if not isinstance(given, bool):
            raise ValueError("it must be true or false")
        return given

    return {"type": "boolean"}, read


def _integer(type_: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    on_postgres = type_._variant_mapping.get("postgresql", type_)
    bits = 16 if isinstance(on_postgres, SmallInteger) else 64 if isinstance(on_postgres, BigInteger) else 32
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def read(given: Any) -> int:
        # In JSON 1.0 is a whole number too.
        is_whole = isinstance(given, int) or (isinstance(given, float) and given.is_integer())
        if isinstance(given, bool) or not is_whole or not least <= given <= most:
            raise ValueError(f"it must be a whole number from {least} to {most}")
        return int(given)

    return {"type": "integer", "minimum": least, "maximum": most}, read


def _real(type_: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    def read(given: Any) -> float:
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if not is_number or not math.isfinite(value := float(given)):
            raise ValueError("it must be a number")
        return value

    return {"type": "number"}, read


def _decimal(type_: Numeric[Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    scale = min(type_.scale if type_.scale is not None else 20, 20)
    whole = (type_.precision if type_.precision is not None else 40) - scale
    part = f"(\\.[0-9]{{1,{scale}}})?" if scale else ""
    pattern = f"^-?[0-9]{{1,{whole}}}{part}$"
    kind = Kind(
        f"a decimal number with at most {whole} digits before the point and {scale} behind it",
        lambda text: Decimal(text) if re.fullmatch(pattern, text) else _refuse(),
        {},
    )
    return _from_text(kind, {"type": "string", "format": "decimal", "pattern": pattern})


def _refuse() -> Any:
    raise ValueError


def _bytes(type_: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    most = type_.length

    def read(given: Any) -> bytes:
        try:
            value = base64.b64decode(given, validate=True) if isinstance(given, str) else None
        except (binascii.Error, ValueError):
            value = None
        if value is None or (most is not None and len(value) > most):
            raise ValueError("it must be a string of base64" + (f", of {most} bytes at most" if most else ""))
        return value

    pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    return {"type": "string", "contentEncoding": "base64", "pattern": pattern}, read


def _json(type_: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    return {}, _without_nul


def _without_nul(given: Any) -> Any:
    """What PostgreSQL keeps of JSON: no NUL character in any text."""
    waiting = [given]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and "\0" in value:
            raise ValueError("a NUL character in it cannot be kept; remove it")
    return given


_BY_TYPE: tuple[tuple[Any, Callable[[Any], tuple[dict[str, Any], Callable[[Any], Any]]]], ...] = (
    (UtcTime, lambda type_: _from_text(TIME, TIME.schema)),
    (Boolean, _boolean),
    (Integer, _integer),
    (Float, _real),
    (Date, lambda type_: _from_text(DAY, DAY.schema)),
    (Uuid, lambda type_: _from_text(UUID_KIND, UUID_KIND.schema)),
    (LargeBinary, _bytes),
    (JSON, _json),
    ((Text, String), lambda type_: _text(getattr(type_, "impl_instance", type_).length)),
)
