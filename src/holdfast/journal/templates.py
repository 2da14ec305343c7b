"""Tags made of values: `user:{user_id}`, the same text whether a call, a row or an event gives the value."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote


def tag_part(value: Any) -> str:
    """A value as a part of a tag: what `f"{value}"` gives, and for a value of a column what its fact gives.

    Unlike a part of a key it may reach into the next one: two tags with one text cost a load too many, nothing else.
    """
    if isinstance(value, Enum):
        return tag_part(value.value)
    if isinstance(value, str):
        return str(value) if value.isprintable() else quote(value)
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
        return f"{moment.isoformat('T', 'microseconds')}Z"  # as the journal writes it
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def template_fields(template: str) -> tuple[str, ...]:
    """The names in braces in a template such as `user:{user_id}`.

    Raises:
        ValueError: it is no template.
    """
    parts = list(string.Formatter().parse(template))
    if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
        raise ValueError("no formats or conversions")
    names = [name for _, name, _, _ in parts if name is not None]
    if not all(name.isidentifier() for name in names):
        raise ValueError("a name in braces is none")
    return tuple(names)


def renderer(template: str) -> Callable[[Mapping[str, Any]], str | None]:
    """A function from facts to the text; None where one is missing or NULL: such a row has no such tag."""
    names = template_fields(template)

    def render(facts: Mapping[str, Any]) -> str | None:
        if any(facts.get(name) is None for name in names):
            return None
        return template.format_map({name: tag_part(facts[name]) for name in names})

    return render
