"""Text that every database keeps, of what anybody may have said."""

from __future__ import annotations

from typing import Any


def kept_text(value: Any, longest: int) -> str | None:
    """A value as text of at most `longest` characters: raw SQL may have said anything, and must stop nobody."""
    if value is None:
        return None
    return without_nul(str(value)[:longest].encode("utf-8", "replace").decode())


def without_nul(text: str) -> str:
    """`text` with another character where it has NUL, which PostgreSQL refuses."""
    return text.replace("\0", "\ufffd")
