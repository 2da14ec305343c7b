"""How an API key, or the token of a session, is written: `acme_live_<43 letters and digits>_<6 of a checksum>`.

The checksum finds what was mistyped or cut without asking anybody, and scanners of leaked secrets can be sure of a
find. The letters and digits are 256 random bits, so that a fast hash is enough to keep them by; see docs/adr/0014.
"""

from __future__ import annotations

import re
import secrets
from binascii import crc32
from typing import Any, Literal

import msgspec

from holdfast.errors import ConfigurationError

Mode = Literal["live", "test", "session"]

SHOWN = 4
"""Characters of the secret that are shown, so that people can tell their keys apart."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET = 43  # characters that hold 256 bits
_CHECK = 6  # that hold 32
LONGEST = 128  # characters of what is looked at
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,15}")
_KEY = re.compile(rf"([a-z][a-z0-9]{{0,15}})_(live|test|session)_([0-9A-Za-z]{{{_SECRET}}})_([0-9A-Za-z]{{{_CHECK}}})")


class KeyText(msgspec.Struct, frozen=True):
    """What a well-written key says of itself; nobody knows yet whether it opens anything.

    Attributes:
        prefix: whose keys these are.
        mode: `live` or `test` of an API key, `session` of what a person is signed in by.
        shown: its beginning, which may be shown.
    """

    prefix: str
    mode: Mode
    shown: str


def new_key(prefix: str, mode: Mode) -> str:
    """A new key.

    Raises:
        ConfigurationError: the prefix is not 1 to 16 lower-case letters and digits, a letter first.
    """
    checked_prefix(prefix)
    number = secrets.randbits(256)
    start = f"{prefix}_{mode}_{_written(number, _SECRET)}"
    return f"{start}_{_checksum(start)}"


def read_key(text: str) -> KeyText | None:
    """What a key says of itself; None for a text that is none, or was mistyped."""
    if len(text) > LONGEST:
        return None
    found = _KEY.fullmatch(text)
    if found is None or _checksum(text[: found.end(3)]) != found[4]:
        return None
    mode: Any = found[2]
    return KeyText(found[1], mode, text[: found.start(3) + SHOWN])


def checked_prefix(prefix: str) -> str:
    """The prefix.

    Raises:
        ConfigurationError: it is not 1 to 16 lower-case letters and digits, a letter first.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"the prefix of API keys is 1 to 16 lower-case letters and digits, a letter first, not {prefix!r}; name"
            " your product in HOLDFAST_KEY_PREFIX, as in acme"
        )
    return prefix


def _checksum(text: str) -> str:
    return _written(crc32(text.encode()), _CHECK)


def _written(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
