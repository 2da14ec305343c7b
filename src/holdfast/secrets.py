"""The secret that signs what leaves the process and comes back: keys by purpose, several for rotation."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

from holdfast.errors import ConfigurationError

TAG = 16  # bytes of a signature
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


def _tag(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)[:TAG]
