"""The keys under which the trail is sealed; they are kept outside the database."""

from __future__ import annotations

import hashlib
import hmac

from holdfast.errors import ConfigurationError
from holdfast.secrets import derive, parse_keys

_SETTING = "HOLDFAST_AUDIT_KEYS"
_SHORTEST = 32  # bytes
_HOW = "make one with `holdfast audit new-key a1`"
_DEVELOPMENT = ("development", b"holdfast: no audit key is set, which development may do")


class AuditKeys:
    """The keys of the trail: the first one seals, all verify.

    A key is kept as long as there are records, or checkpoints, under it: without it they cannot be verified.

    Attributes:
        id: of the key that seals.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.id = next(iter(keys))
        self._record = {name: derive(key, "audit record") for name, key in keys.items()}
        self._checkpoint = {name: derive(key, "audit checkpoint") for name, key in keys.items()}

    @classmethod
    def configured(cls, text: str | None, *, production: bool) -> AuditKeys:
        """Those of `HOLDFAST_AUDIT_KEYS`: `id:base64,…`. In development one that is no secret, where none is set.

        Raises:
            ConfigurationError: one is malformed; or production has none. No key is shown.
        """
        if text:
            return cls(parse_keys(text, _SETTING, length=_SHORTEST, how=_HOW))
        if production:
            raise ConfigurationError(f"HOLDFAST_ENV is production: the audit trail wants {_SETTING}; {_HOW}")
        return cls(dict([_DEVELOPMENT]))

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._record

    def seal(self, content: bytes, key_id: str | None = None) -> bytes:
        """The seal of a record, 32 bytes. ConfigurationError: there is no such key."""
        return hmac.digest(self._of(self._record, key_id or self.id), content, hashlib.sha256)

    def sign(self, content: bytes, key_id: str | None = None) -> bytes:
        """The signature of a checkpoint, 32 bytes. ConfigurationError: there is no such key."""
        return hmac.digest(self._of(self._checkpoint, key_id or self.id), content, hashlib.sha256)

    def __repr__(self) -> str:
        return f"<AuditKeys {', '.join(self._record)}>"

    @staticmethod
    def _of(keys: dict[str, bytes], key_id: str) -> bytes:
        try:
            return keys[key_id]
        except KeyError:
            raise ConfigurationError(f"{_SETTING} does not have the key {key_id[:40]!r}; add it") from None
