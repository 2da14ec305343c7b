"""bcrypt beside the HMAC, for who must have it: checked when a key is read from the database, and in a thread.

What is hashed is another HMAC than the one that a key is found by, which lies in the same row and would open it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from holdfast.errors import ConfigurationError, MissingExtra

LEAST, MOST = 10, 16
"""Rounds, as powers of two: 10 take some 60 ms, each more twice as long."""

_WHAT = b"holdfast api key, slow\0"


class Slow:
    """bcrypt with so many rounds.

    Raises:
        ConfigurationError: it has no such rounds. MissingExtra: bcrypt is not installed.
    """

    def __init__(self, rounds: int) -> None:
        if not LEAST <= rounds <= MOST:
            raise ConfigurationError(f"HOLDFAST_KEY_BCRYPT={rounds} must be 0, or from {LEAST} to {MOST} rounds")
        try:
            import bcrypt
        except ImportError:
            raise MissingExtra("HOLDFAST_KEY_BCRYPT wants bcrypt: pip install 'holdfast[bcrypt]'") from None
        self._bcrypt = bcrypt
        self._rounds = rounds

    async def hashed(self, pepper: bytes, text: str) -> str:
        """The hash of a key, 60 characters."""
        salt = self._bcrypt.gensalt(self._rounds)
        return (await asyncio.to_thread(self._bcrypt.hashpw, _input(pepper, text), salt)).decode()

    async def matches(self, pepper: bytes, text: str, kept: str) -> bool:
        """Whether `kept` is of this key; a hash that is none matches nothing."""
        try:
            return await asyncio.to_thread(self._bcrypt.checkpw, _input(pepper, text), kept.encode())
        except ValueError:
            return False


def _input(pepper: bytes, text: str) -> bytes:
    # 64 characters: bcrypt takes 72, and none that is NUL.
    return hmac.digest(pepper, _WHAT + text.encode(), hashlib.sha256).hex().encode()
