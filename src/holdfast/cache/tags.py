"""Tags: what a cached value depends on, and what a change touches, by one name."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from holdfast.errors import InvalidValue

MOST = 1_000  # tags of a value
LONGEST = 255  # characters of a tag


def hashed(tag: str) -> int:
    """A number of 32 bits that every process and every version gives to `tag`."""
    return crc32(tag.encode())


def checked(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, each once.

    Raises:
        InvalidValue: one is no text, empty, too long, or has characters that cannot be seen.
    """
    if isinstance(tags, str):
        raise InvalidValue(f"tags must be several texts, not the text {tags!r}; write ({tags!r},)")
    found = tuple(dict.fromkeys(tags))
    if len(found) > MOST:
        raise InvalidValue(f"{len(found):,} tags are too many: a value may carry {MOST:,}; give it a wider one instead")
    for tag in found:
        if not isinstance(tag, str) or not 0 < len(tag) <= LONGEST or not tag.isprintable():
            raise InvalidValue(f"{tag!r} is no tag: it takes 1 to {LONGEST} characters that can be seen")
    return found


def of_key(key: str) -> str:
    """The tag by which a key alone is ended; no table's begins so."""
    return f"={key}"


def of_row(table: str, key: str | None) -> tuple[str, ...]:
    """The tags that every captured row has: its table's, and its own."""
    return (table,) if key is None else (table, f"{table}:{key}")
