"""The keys of encrypted columns: AES-256-GCM under a ring of keys, of which the first one encrypts."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Collection
from functools import cached_property

from holdfast.errors import ConfigurationError, InvalidValue, MissingExtra
from holdfast.secrets import KEY_ID, derive, parse_keys

KEYS = 4
"""Keys a ring may have that look-ups go by: one by a blind index asks for the value under each of them."""

READ = ":read"
"""What a key ends with that is kept for reading alone. It is not one of the `KEYS`."""

_VERSION = 1
_NONCE = 12  # bytes, as GCM wants them
_TAG = 16
_KEY = 32
_BLIND = 16  # bytes of a blind index
_HOW = "make one with `holdfast encrypt new-key`"


class Cipher:
    """AES-256-GCM under one key of 32 bytes: gives a random nonce of 12 bytes, the ciphertext, and 16 that prove it.

    Raises:
        MissingExtra: cryptography is not installed.
    """

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise MissingExtra("encrypted columns need cryptography: pip install 'holdfast[encrypted]'") from None
        self._cipher = AESGCM(key)

    def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """`plain`, encrypted; `bound` is authenticated with it and not kept."""
        nonce = os.urandom(_NONCE)
        encrypted: bytes = self._cipher.encrypt(nonce, plain, bound)
        return nonce + encrypted

    def decrypt(self, encrypted: bytes, bound: bytes) -> bytes | None:
        """What was encrypted; None where it was changed, cut, bound to something else, or is under another key."""
        from cryptography.exceptions import InvalidTag

        if len(encrypted) < _NONCE + _TAG:
            return None
        try:
            return self._cipher.decrypt(encrypted[:_NONCE], encrypted[_NONCE:], bound)
        except InvalidTag:
            return None


class KeyRing:
    """Encrypts with the first of its keys, decrypts with any.

    A ciphertext is a byte for the format, one for the length of the key's id, the id, a random nonce of 12 bytes, and
    what AES-256-GCM gives: the encrypted bytes and 16 of authentication. Authenticated with it are the format, the
    key's id and the place (table and column), so that a value cannot be moved to another column. The row's key is not
    known while a value is bound; a value can be copied from row to row within its column by who can write the table.

    Attributes:
        ids: of the keys, the one that encrypts first.
        searched: of those among them under which a look-up by a blind index asks.
    """

    def __init__(self, keys: dict[str, bytes], read_only: Collection[str] = ()) -> None:
        self.ids = tuple(keys)
        self.searched = tuple(name for name in keys if name not in read_only)
        self._keys = keys

    @classmethod
    def parse(cls, text: str | None) -> KeyRing:
        """The ring of `HOLDFAST_ENCRYPTION_KEYS`: `id:base64` of each key between commas, the first one encrypts.

        `id:base64:read` is a key that no column has values under any more, and others have: the audit trail, whose
        records are never encrypted anew. Look-ups leave it out, so there may be any number of them.

        Raises:
            ConfigurationError: there is none, or one is malformed; what is shown is its id alone.
        """
        if not text:
            raise ConfigurationError(
                f"an encrypted column needs HOLDFAST_ENCRYPTION_KEYS=id:base64,… (the first one encrypts); {_HOW}"
            )
        parts = [part.strip() for part in text.split(",")]
        marked = [part.removesuffix(READ) for part in parts if part.endswith(READ)]
        plain = ",".join(part.removesuffix(READ) for part in parts)
        keys = parse_keys(plain, "HOLDFAST_ENCRYPTION_KEYS", length=_KEY, exactly=True, how=_HOW)
        ring = cls(keys, [part.partition(":")[0] for part in marked])
        if ring.ids[0] not in ring.searched:
            raise ConfigurationError(
                f"the first key of HOLDFAST_ENCRYPTION_KEYS encrypts, and {ring.ids[0]!r} is there for reading alone;"
                f" put another in front, or take {READ!r} off"
            )
        if len(ring.searched) > KEYS:
            raise ConfigurationError(
                f"HOLDFAST_ENCRYPTION_KEYS has {len(ring.searched)} keys and may have {KEYS}; rotate with `holdfast"
                " encrypt rotate`, then drop those that `holdfast encrypt status` finds no value under; those under"
                f" which the audit trail alone has some are kept as id:base64{READ}"
            )
        return ring

    def encrypt(self, plain: bytes, place: str) -> bytes:
        """`plain` under the first key, for the column at `place` (table.column)."""
        name = self.ids[0]
        header = header_of(name)
        return header + self._ciphers[name].encrypt(plain, _bound(header, place))

    def decrypt(self, ciphertext: bytes, place: str) -> bytes:
        """What was encrypted for `place`.

        Raises:
            InvalidValue: it is no ciphertext, was changed, or belongs to another column; it names the column alone.
            ConfigurationError: it is under a key that the ring does not have.
        """
        name = key_id_of(ciphertext)
        if name is None or len(ciphertext) < 2 + len(name) + _NONCE + _TAG:
            raise InvalidValue(f"a value in {place} is not encrypted, or was cut; was it written past the library?")
        if name not in self._keys:
            raise ConfigurationError(
                f"a value in {place} is under the key {name!r}, which HOLDFAST_ENCRYPTION_KEYS does not have; add it"
            )
        start = 2 + len(name)
        plain = self._ciphers[name].decrypt(ciphertext[start:], _bound(ciphertext[:start], place))
        if plain is None:
            raise InvalidValue(
                f"a value in {place} was changed, or belongs to another column; restore it from a backup"
            )
        return plain

    def blind(self, plain: bytes, place: str, number: int) -> bytes:
        """The blind index of `plain` under key `number` of those that are searched, or the last of these."""
        key = self._blinders[min(number, len(self._blinders) - 1)]
        return hmac.digest(key, place.encode() + b"\0" + plain, hashlib.sha256)[:_BLIND]

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self.ids)}>"

    @cached_property
    def _blinders(self) -> list[bytes]:
        return [derive(self._keys[name], "blind index") for name in self.searched]

    @cached_property
    def _ciphers(self) -> dict[str, Cipher]:
        # A key of its own for AES: the blind index is made with another.
        return {name: Cipher(derive(key, "column encryption")) for name, key in self._keys.items()}


def begins_with() -> bytes:
    """What every ciphertext under a key of a ring begins with."""
    return bytes((_VERSION,))


def header_of(name: str) -> bytes:
    """What a ciphertext under the key with this id begins with."""
    return bytes((_VERSION, len(name))) + name.encode()


def key_id_of(ciphertext: bytes) -> str | None:
    """The id of the key that `ciphertext` is under; None when it is no ciphertext."""
    if len(ciphertext) < 2 or ciphertext[0] != _VERSION:
        return None
    name = ciphertext[2 : 2 + ciphertext[1]].decode("ascii", "replace")
    return name if KEY_ID.fullmatch(name) and len(name) == ciphertext[1] else None


def _bound(header: bytes, place: str) -> bytes:
    return b"holdfast\0" + header + place.encode()
