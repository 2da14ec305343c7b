"""Query strings: bounded, strict, and described once for reading and for the API description."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from holdfast.errors import InvalidValue
from holdfast.http.values import BOOLEAN, DAY, NO_NUL, TEXT, UUID_KIND, integer_kind

MOST_PARAMETERS = 32  # in one request
_NAME = re.compile(r"[A-Za-z_]\w{0,63}(\[\w{1,16}\])?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that a request may give, once.

    Attributes:
        read: text → value; raises `InvalidValue` naming the parameter.
        default: the value where it is not given.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    read: Callable[[str, str], Any]
    default: Any = None

    def described(self) -> dict[str, Any]:
        """The OpenAPI parameter object."""
        schema = dict(self.schema) | ({"default": self.default} if self.default is not None else {})
        return {"name": self.name, "in": "query", "description": self.description, "schema": schema}


def pairs(query: bytes) -> list[tuple[str, str]]:
    """The names and values of a query string.

    Raises:
        InvalidValue: it is not UTF-8, has too many parameters, or one twice.
    """
    found: dict[str, str] = {}
    parts = [part for part in query.split(b"&") if part]
    if len(parts) > MOST_PARAMETERS:
        raise InvalidValue(f"a request may have {MOST_PARAMETERS} parameters, not {len(parts)}")
    for part in parts:
        raw_name, _, raw_value = part.partition(b"=")
        name, value = _decoded(raw_name), _decoded(raw_value)
        if name in found:
            raise InvalidValue(f"{shown(name)} is given twice; give it once")
        found[name] = value
    return list(found.items())


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValue(f"the query string is not UTF-8 near {raw[:20]!r}; percent-encode it") from None


def shown(name: str) -> str:
    """A parameter's name as an error may repeat it: what is no name at all is quoted and shortened."""
    return name if _NAME.fullmatch(name) else repr(name[:40])


def read(query: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The value of every parameter by name, defaults included.

    Raises:
        InvalidValue: one is unknown, given twice or not what it must be; the message says what is allowed.
    """
    values = {p.name: p.default for p in parameters}
    if not query:
        return values
    known = {p.name: p for p in parameters}
    for name, text in pairs(query):
        values[name] = lookup(known, name).read(text, name)
    return values


def lookup(known: Mapping[str, Parameter], name: str) -> Parameter:
    """The parameter called `name`.

    Raises:
        InvalidValue: there is none; the message lists those that there are.
    """
    if name not in known:
        allowed = f"it takes {', '.join(known)}" if known else "it takes none"
        raise InvalidValue(f"there is no parameter {shown(name)} here; {allowed}")
    return known[name]


def day(name: str, description: str) -> Parameter:
    """A UTC day."""
    return Parameter(name, description, DAY.schema, DAY.parse)


def text(name: str, description: str, *, longest: int = 200, pattern: str = NO_NUL) -> Parameter:
    """A non-empty text of bounded length; `pattern` is what the API description says of it."""

    def read_text(value: str, where: str) -> str:
        if not 1 <= len(value) <= longest:
            raise InvalidValue(f"{where} has {len(value)} characters; it must have 1 to {longest}")
        return str(TEXT.parse(value, where))

    return Parameter(
        name, description, {"type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern}, read_text
    )


def uuid(name: str, description: str) -> Parameter:
    """A UUID."""
    return Parameter(name, description, UUID_KIND.schema, UUID_KIND.parse)


def flag(name: str, description: str) -> Parameter:
    """True or false; false where it is not given."""
    return Parameter(name, description, BOOLEAN.schema, BOOLEAN.parse, default=False)


def choice(name: str, description: str, values: Sequence[str], *, default: str | None = None) -> Parameter:
    """One of a few words."""

    def read_choice(value: str, where: str) -> str:
        if value not in values:
            raise InvalidValue(f"{where}={value[:40]!r} is not one of {', '.join(values)}")
        return value

    return Parameter(name, description, {"type": "string", "enum": list(values)}, read_choice, default)


def count(name: str, description: str, *, most: int, default: int) -> Parameter:
    """A number of rows, from 1."""
    kind = integer_kind()

    def read_count(value: str, where: str) -> int:
        number: int = kind.parse(value, where)
        if not 1 <= number <= most:
            raise InvalidValue(f"{where}={number} is out of bounds; it must be 1 to {most}")
        return number

    return Parameter(name, description, {"type": "integer", "minimum": 1, "maximum": most}, read_count, default)


def names(name: str, description: str, allowed: Sequence[str]) -> Parameter:
    """Some of the allowed words, comma-separated, each once."""

    def read_names(value: str, where: str) -> tuple[str, ...]:
        given = tuple(value.split(","))
        for word in given:
            if word not in allowed:
                raise InvalidValue(f"{where} names {word[:40]!r}; it may name {', '.join(allowed) or 'nothing here'}")
        if len(set(given)) < len(given):
            raise InvalidValue(f"{where}={value[:80]!r} names something twice")
        return given

    items = {"type": "string", "enum": list(allowed)}
    schema = {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}
    return Parameter(name, description, schema, read_names)
