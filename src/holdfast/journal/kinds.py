"""How values are written into the journal, and read back the same on every backend.

A kind says what a column holds. What is cheap to write in canonical form is written so; for the rest, times on
PostgreSQL and most kinds on SQLite, the writer puts down what the column holds and the reader makes it canonical.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from sqlalchemy import types
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.model import Amount, UtcTime

Kind = Literal[
    "integer", "text", "uuid", "amount", "decimal", "boolean", "float", "time", "date", "bytes", "json", "other"
]

_KINDS: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
    (types.Uuid, "uuid"),
    (types.Boolean, "boolean"),
    (types.Integer, "integer"),
    (types.Float, "float"),
    (types.Numeric, "decimal"),
    (types.DateTime, "time"),
    (types.Date, "date"),
    (types._Binary, "bytes"),
    (types.JSON, "json"),
    (types.String, "text"),  # Enum is one too
)


def kind_of(column_type: TypeEngine[Any]) -> Kind:
    """The kind of a column of this SQLAlchemy type."""
    if isinstance(column_type, Amount):
        return "amount"
    if isinstance(column_type, UtcTime):
        return "time"
    if isinstance(column_type, TypeDecorator):
        return kind_of(column_type.impl_instance)
    return next((kind for base, kind in _KINDS if isinstance(column_type, base)), "other")


def postgres_json(kind: Kind, column: str, *, nullable: bool) -> list[str]:
    """Arguments of `concat` that together write `column` as a JSON value.

    `concat` with the bare column is the cheapest way to text that PostgreSQL has, so NULL is handled only where it
    can occur.
    """
    as_text = {
        "uuid": column,
        "amount": column,
        "decimal": column,
        "bytes": f"encode({column}, 'hex')",
        "time": column,  # in ISO and UTC, to which the capture function is set
    }.get(kind)
    if as_text is not None:
        if nullable:
            return [f"coalesce('\"' || ({as_text})::text || '\"', 'null')"]
        return ["'\"'", as_text, "'\"'"]
    plain = {"integer": column, "boolean": f"{column}::text", "json": f"{column}::text"}.get(kind)
    if plain is not None:
        return [f"coalesce({column}::text, 'null')" if nullable else plain]
    quoted = f"to_json({column}::text)" if kind == "other" else f"to_json({column})"
    return [f"coalesce({quoted}, 'null'::json)" if nullable else quoted]


def sqlite_value(kind: Kind, column: str) -> str:
    """An argument of `json_array` for `column`.

    Columns of SQLite hold what they are given, so a blob may be anywhere; JSON refuses one, and that must not
    make somebody's write fail. Numbers are written with all their digits.
    """
    exact = f" WHEN 'real' THEN printf('%!.17g', {column})" if kind in ("float", "decimal") else ""
    return f"CASE typeof({column}) WHEN 'blob' THEN hex({column}){exact} ELSE {column} END"


def _uuid(value: Any) -> Any:
    text = str(value).lower()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if len(text) == 32 else text


def _amount(value: Any) -> str:
    return str(value).lstrip("0") or "0"


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) == 26 and value[10] == " ":
        return f"{value[:10]}T{value[11:]}Z"
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return value  # raw SQL wrote something that is no time; it is shown as it is
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    return f"{moment.replace(tzinfo=None).isoformat('T', 'microseconds')}Z"


def _postgres_time(value: Any) -> Any:
    """From "2026-01-02 03:04:05.6+00", or without the zone; a year BC or infinity stays as it is."""
    if not isinstance(value, str) or value[10:11] != " ":
        return value
    moment = value.removesuffix("+00")
    if not moment[-1].isdigit():
        return value
    return f"{moment[:10]}T{moment[11:]}{'.000000'[len(moment) - 19 :]}Z"


def _float(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _json(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value


SQLITE_READERS: dict[Kind, Callable[[Any], Any]] = {
    "uuid": _uuid,
    "amount": _amount,
    "decimal": str,
    "boolean": bool,
    "float": _float,
    "time": _time,
    "bytes": lambda value: str(value).lower(),
    "json": _json,
}
"""From what SQLite stores to the canonical form; never given None. Kinds that are not here are canonical as stored."""

POSTGRES_READERS: dict[Kind, Callable[[Any], Any]] = {"time": _postgres_time}
"""The same for what capture writes on PostgreSQL."""
