"""Keys of cached values."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b

from holdfast.cache.durations import shown
from holdfast.errors import InvalidValue

LONGEST = 250  # characters
_SHOWN = 160


def shortened(key: str) -> str:
    """A key that is long enough for its end to be a hash of all of it; a shorter one as it is."""
    if len(key) <= LONGEST:
        return key
    return f"{key[:_SHOWN]}:{blake2b(key.encode(), digest_size=16).hexdigest()}"


def named(keys: Collection[str]) -> str:
    """Some keys, as a message names them."""
    first = next(iter(keys), "")
    return f"{first!r}" if len(keys) == 1 else f"{len(keys):,} keys ({first!r}, …)"


def distinct(keys: Iterable[str]) -> list[str]:
    """The keys, each once, in their order. InvalidValue: they are not several, or one is no key."""
    try:
        if not isinstance(keys, str):
            return list(dict.fromkeys(keys))
    except TypeError:  # they cannot be gone through, or one cannot be hashed
        for key in keys if isinstance(keys, Collection) else ():
            checked_key(key)
    raise InvalidValue(f"keys must be several texts, not {shown(keys)}; write [{shown(keys)}]")


def checked_keys(keys: Iterable[str]) -> Collection[str]:
    """The keys. InvalidValue: one is none; see `checked_key`."""
    keys = keys if isinstance(keys, Collection) else list(keys)
    try:  # together, which takes a tenth of the time
        if not keys or ("".join(keys).isprintable() and min(map(len, keys)) > 0 and max(map(len, keys)) <= LONGEST):
            return keys
    except TypeError:  # one is no text
        pass
    for key in keys:
        checked_key(key)
    return keys


def checked_key(key: str) -> str:
    """The key.

    Raises:
        InvalidValue: it is no text, empty, too long, or has characters that cannot be seen.
    """
    if not isinstance(key, str):
        raise InvalidValue(f"a key of the cache is text, not {type(key).__name__}: {shown(key)}")
    if not 0 < len(key) <= LONGEST or not key.isprintable():
        words = repr(key if len(key) <= 60 else f"{key[:57]}…")
        raise InvalidValue(
            f"{words} is no key of the cache: it takes 1 to {LONGEST} characters that can be seen; hash what is longer"
        )
    return key
