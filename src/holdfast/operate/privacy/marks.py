"""What tells a person from others where no column says so: the values that are his alone, kept as hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

_SHORTEST = 6  # characters: less tells nobody from others
_LONGEST = 1_000
_DEEPEST = 64  # levels of a document that are looked at
_OF_AN_ID = re.compile(r"[0-9@]|[a-z][A-Z]")
_HEX = re.compile(r"[0-9a-fA-F]{32}")


class Marks:
    """The marks of one person, as hashes: what is to be forgotten is not written down once more.

    Args:
        salt: of the hashes; another one for each erasure.
        hashes: as `hashes` gave them.
    """

    def __init__(self, salt: str, hashes: Iterable[str] = ()) -> None:
        self._salt = salt.encode()
        self._hashes = set(hashes)

    @property
    def hashes(self) -> list[str]:
        """To be kept, in an order that tells nothing."""
        return sorted(self._hashes)

    def add(self, value: object) -> None:
        """Know one more mark. A text that would tell nobody from others is none: short ones, and mere words."""
        if value is not None and is_mark(str(value)):
            self._hashes.add(self._hash(_same(str(value))))

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, str) or not _SHORTEST <= len(value) <= _LONGEST:
            return False
        return self._hash(_same(value)) in self._hashes

    def among(self, document: Any) -> bool:
        """Whether a text anywhere in a document is a mark. Names of members are none: they are the same for all."""
        return any(text in self for text in _texts(document))

    def without(self, document: Any, put: str, depth: int = 0) -> Any:
        """The document with `put` in place of every text that is a mark."""
        if isinstance(document, str):
            return put if document in self else document
        if depth >= _DEEPEST:
            return document
        if isinstance(document, dict):
            return {key: self.without(value, put, depth + 1) for key, value in document.items()}
        if isinstance(document, list | tuple):
            return [self.without(one, put, depth + 1) for one in document]
        return document

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._salt[:64], digest_size=16).hexdigest()


def is_mark(text: str) -> bool:
    """Whether a text may tell somebody from others: an address, an id. What is only a word stands everywhere.

    An id has a digit, or large letters among small ones.
    """
    text = text.strip()
    return _SHORTEST <= len(text) <= _LONGEST and _OF_AN_ID.search(text) is not None


def _texts(document: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif depth < _DEEPEST and isinstance(document, dict):
        for value in document.values():
            yield from _texts(value, depth + 1)
    elif depth < _DEEPEST and isinstance(document, list | tuple):
        for one in document:
            yield from _texts(one, depth + 1)


def _same(text: str) -> str:
    """A text as it is compared: without the case of letters, and a UUID with its hyphens, as it is mostly written."""
    text = text.strip().lower()
    if _HEX.fullmatch(text):
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return text
