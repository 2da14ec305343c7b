"""The secret that signs what leaves the process and comes back: keys by purpose, several for rotation."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Sequence

from holdfast.errors import ConfigurationError, InvalidValue

TAG = 16  # bytes of a signature
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""What the keys of a setting are called."""

_SHORTEST = 32  # characters of a secret
_HOW = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"

# Good for one process: what it has signed is worth nothing to another, or after a restart.
_ephemeral = os.urandom(32)


class SecretKeys:
    """Signs for a purpose with the first key, and knows a signature by any of them.

    Args:
        keys: the secrets, the current one first.
        problem: why there are none; raised as `ConfigurationError` once one is needed.
    """

    def __init__(self, keys: Sequence[bytes], problem: str = "") -> None:
        self._keys = tuple(keys)
        self._problem = problem
        self._derived: dict[str, tuple[bytes, ...]] = {}

    @classmethod
    def configured(cls, text: str | None, *, production: bool) -> SecretKeys:
        """Those of `HOLDFAST_SECRET_KEY`: one, or `current,previous`; in development one of this process.

        Raises:
            ConfigurationError: one is too short to be secret. In production none is an error when it is needed.
        """
        keys = [part.strip() for part in text.split(",") if part.strip()] if text else []
        if any(len(key) < _SHORTEST for key in keys):
            raise ConfigurationError(f"a key of HOLDFAST_SECRET_KEY has fewer than {_SHORTEST} characters; {_HOW}")
        if keys:
            return cls([key.encode() for key in keys])
        if production:
            return cls((), f"HOLDFAST_ENV is production, and page cursors are signed: set HOLDFAST_SECRET_KEY; {_HOW}")
        return cls((_ephemeral,))

    def sign(self, purpose: str, content: bytes) -> bytes:
        """The signature of `content`, 16 bytes.

        Raises:
            ConfigurationError: there is no key.
        """
        return _tag(self._for(purpose)[0], content)

    def signed(self, purpose: str, content: bytes, tag: bytes) -> bool:
        """Whether `tag` is a signature of `content` for this purpose.

        Raises:
            ConfigurationError: there is no key.
        """
        return any(hmac.compare_digest(_tag(key, content), tag) for key in self._for(purpose))

    def _for(self, purpose: str) -> tuple[bytes, ...]:
        if not self._keys:
            raise ConfigurationError(self._problem)
        if purpose not in self._derived:
            self._derived[purpose] = tuple(derive(key, purpose) for key in self._keys)
        return self._derived[purpose]


def derive(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: HKDF-SHA256 without salt (RFC 5869)."""
    pseudorandom = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(pseudorandom, f"holdfast {purpose}".encode() + b"\x01", hashlib.sha256)


def parse_keys(
    text: str, setting: str, *, length: int, exactly: bool = False, what: str = "key", how: str
) -> dict[str, bytes]:
    """The keys of a setting, `id:base64` of each between commas, by id in their order.

    Args:
        setting: what the variable is called.
        length: how many bytes a key has at least, or `exactly`.
        what: what a key is called there.
        how: how one is made.

    Raises:
        ConfigurationError: one is malformed, or there twice; what is shown is its id alone.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(text.split(","), 1):
        name, mark, encoded = part.strip().partition(":")
        if not mark or not KEY_ID.fullmatch(name):
            raise ConfigurationError(
                f"{what} {number} of {setting} is not id:base64, the id of letters and digits; {how}"
            )
        if name in keys:
            raise ConfigurationError(f"{setting} has the {what} {name!r} twice; give each its own id")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < length or (exactly and len(key) != length):
            wanted = f"{length} bytes{'' if exactly else ' or more'}"
            raise ConfigurationError(f"the {what} {name!r} of {setting} is not {wanted} in base64; {how}")
        keys[name] = key
    return keys


def new_key(name: str, length: int = 32) -> str:
    """A fresh key, as `parse_keys` takes it: so many random bytes.

    Raises:
        InvalidValue: the id is not made of 1 to 32 letters, digits, `-` and `_`.
    """
    if not KEY_ID.fullmatch(name):
        raise InvalidValue(f"{name[:40]!r} can be no key's id: 1 to 32 letters, digits, - and _")
    return f"{name}:{base64.b64encode(os.urandom(length)).decode()}"


def _tag(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)[:TAG]
