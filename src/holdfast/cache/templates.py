"""Keys and tags made of a call's arguments: `user:{user_id}`, `orders:{user.id}:{state}`."""

from __future__ import annotations

import datetime as dt
import inspect
import keyword
import re
import string
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import quote
from uuid import UUID

from holdfast.errors import ConfigurationError, InvalidValue

_UNQUOTED = re.compile(r"(?!\()[\w .@/+=,;!$&'()*|<>?#-]*", re.ASCII)
_SAFE = " .@/+=,;!$&'()*|<>?#-"


def part(value: Any) -> str:
    """A value as a part of a key: so that no two values of one type give one text, and none reaches into the next part.

    None, True and a list are told from every text; the number 1 and the text "1" are not told apart.

    Raises:
        InvalidValue: it has no such text.
    """
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str:
        if _UNQUOTED.fullmatch(value):
            return value  # type: ignore[no-any-return]
        return _quoted(value)
    if value is None or kind is bool:
        return f"~{value}"
    if isinstance(value, Enum):
        return part(value.value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return quote(value.isoformat(), safe=_SAFE)
    if isinstance(value, UUID | int | float | Decimal):
        return str(value)
    if isinstance(value, str):
        return part(str(value))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return f"({''.join(map(_element, value))})"
    raise InvalidValue(
        f"a {kind.__name__} cannot be part of a cache key; name what tells it apart, as in key='orders:{{user.id}}'"
    )


def _quoted(text: str) -> str:
    try:
        quoted = quote(text, safe=_SAFE).replace("~", "%7E")  # which is never quoted, and begins what is no text
    except UnicodeEncodeError:
        raise InvalidValue(f"{text!r} cannot be part of a cache key: it is no Unicode text") from None
    return f"%28{quoted[1:]}" if quoted.startswith("(") else quoted


def _element(value: Any) -> str:
    """One of several values, ended by a comma."""
    if isinstance(value, tuple | list):
        return f"{part(value)},"
    return part(value).replace(",", "%2C").replace("(", "%28").replace(")", "%29") + ","


def compiled(
    template: str, signature: inspect.Signature, what: str, part: Callable[[Any], str] = part
) -> Callable[..., str]:
    """A function that takes what a function of `signature` takes, and gives the text of `template`.

    It is compiled, since it runs for every read. `part` makes the text of a value.

    Raises:
        ConfigurationError: the template names what is no parameter; `what` says whose template it is.
    """
    names = set(signature.parameters)
    pieces: list[str] = []
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError(f"{what}={template!r} is no template: {error}") from None
    for literal, field, spec, conversion in fields:
        pieces.append(repr(literal)) if literal else None
        if field is None:
            continue
        steps = field.split(".")
        if spec or conversion or not all(step.isidentifier() and not keyword.iskeyword(step) for step in steps):
            raise ConfigurationError(
                f"{what}={template!r}: {{{field}}} must be a parameter, or a parameter's attribute"
            )
        if steps[0] not in names:
            raise ConfigurationError(
                f"{what}={template!r} names {steps[0]!r}, which is no parameter; there are {', '.join(sorted(names))}"
            )
        pieces.append(f"part_({field})")
    return _function(" + ".join(pieces) or "''", signature, part)


def default_template(name: str, parameters: Iterable[str]) -> str:
    """The template for a function that says none: its name and all its arguments."""
    return ":".join([name, *(f"{{{parameter}}}" for parameter in parameters)])


def _function(expression: str, signature: inspect.Signature, part: Callable[[Any], str]) -> Callable[..., str]:
    """`expression` as a function with the parameters of `signature`, defaults included."""
    defaults: dict[str, Any] = {"part_": part}
    parameters = []
    for number, parameter in enumerate(signature.parameters.values()):
        plain = parameter.replace(annotation=inspect.Parameter.empty)
        if parameter.default is not inspect.Parameter.empty:
            defaults[f"default_{number}_"] = parameter.default
            plain = plain.replace(default=_Named(f"default_{number}_"))
        parameters.append(plain)
    head = str(inspect.Signature(parameters))
    # Built of checked identifiers alone.
    return eval(f"lambda {head[1:-1]}: {expression}", defaults)  # type: ignore[no-any-return]


class _Named:
    """A default that a signature writes as a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
