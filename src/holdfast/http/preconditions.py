"""`If-Match` and `If-None-Match` on what changes a row (RFC 9110, section 13): decisions only."""

from __future__ import annotations

import re

_TAGS = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


def tags_of(header: str) -> list[tuple[str, bool]] | None:
    """The entity tags of a header, each with whether it is weak; None for `*`, and none where it is malformed."""
    if header.strip() == "*":
        return None
    found, place = [], 0
    while place < len(header):
        one = _TAGS.match(header, place)
        if one is None:
            return []
        found.append((one[2], one[1] is not None))
        place = one.end()
    return found


def matches(header: str, tag: str, *, has_version: bool, weak: bool = False) -> bool:
    """Whether a header names the tag of what is there now.

    Args:
        tag: of the row as it is now, with its quotes.
        has_version: whether it begins with the row's version, which alone is compared then: two representations of
            one version are as good as one another, and `"7"` names version 7.
        weak: whether a weak tag may match, as `If-None-Match` allows, and `If-Match` does not.
    """
    named = tags_of(header)
    if named is None:
        return True
    now = _opaque(tag, has_version)
    return any((weak or not is_weak) and _opaque(f'"{opaque}"', has_version) == now for opaque, is_weak in named)


def _opaque(tag: str, has_version: bool) -> str:
    opaque = tag[1:-1]
    return opaque.partition(".")[0] if has_version else opaque
