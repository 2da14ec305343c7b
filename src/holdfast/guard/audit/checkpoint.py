"""A checkpoint: the ends of all chains at a moment, signed, in a file that is kept away from the database."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.errors import InvalidValue
from holdfast.guard.audit.chain import Head
from holdfast.guard.audit.keys import AuditKeys

CHECKPOINT = "audit.checkpoint"
"""The action of a record which says that one was made."""

_FORMAT = "holdfast audit checkpoint 1"
_LARGEST = 256 * 2**20  # bytes of a file: some two million chains


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    at: dt.datetime
    heads: list[tuple[str, int, str]]


class _Signature(msgspec.Struct, frozen=True, kw_only=True):
    key_id: str
    signature: str


class Checkpoint(msgspec.Struct, frozen=True):
    """What was known of the chains.

    Attributes:
        at: when.
        heads: the ends of the chains, by tenant.
    """

    at: dt.datetime
    heads: dict[str, Head]

    @classmethod
    def now(cls, heads: Mapping[str, Head]) -> Checkpoint:
        """One of this moment."""
        return cls(dt.datetime.now(dt.UTC), dict(heads))

    def written(self, keys: AuditKeys) -> bytes:
        """Two lines of JSON: what is known, and the signature of that line."""
        heads = [(tenant, head.seq, base64.b64encode(head.mac).decode()) for tenant, head in self.heads.items()]
        body = msgspec.json.encode(_Body(format=_FORMAT, at=self.at, heads=heads))
        signature = _Signature(key_id=keys.id, signature=keys.sign(body).hex())
        return body + b"\n" + msgspec.json.encode(signature) + b"\n"

    @classmethod
    def read(cls, content: bytes, keys: AuditKeys, name: str = "the checkpoint") -> Checkpoint:
        """What `written` gave.

        Raises:
            InvalidValue: it is none, or not as it was signed. ConfigurationError: it is under a key that is not there.
        """
        body, _, rest = content.partition(b"\n")
        try:
            signature = msgspec.json.decode(rest, type=_Signature)
            given = bytes.fromhex(signature.signature)
        except (msgspec.DecodeError, ValueError):
            raise InvalidValue(f"{name} is no checkpoint of an audit trail: it has no signature") from None
        if not hmac.compare_digest(keys.sign(body, signature.key_id), given):
            raise InvalidValue(f"{name} is not as it was signed: it was changed, or its key is another of that name")
        try:
            found = msgspec.json.decode(body, type=_Body)
            heads = {tenant: Head(seq, base64.b64decode(mac, validate=True)) for tenant, seq, mac in found.heads}
        except (msgspec.DecodeError, binascii.Error):
            found = None
        if found is None or found.format != _FORMAT:
            raise InvalidValue(f"{name} is of a format that this program does not know")
        return cls(found.at, heads)


def load(path: Path, keys: AuditKeys) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        InvalidValue: there is none in it, it was changed, or the file cannot be read. ConfigurationError: its key is
            not there.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidValue(f"{path} is no checkpoint of an audit trail: it has more than {_LARGEST:,} bytes")
        written = path.read_bytes()
    except OSError as error:
        raise InvalidValue(f"the checkpoint {path} cannot be read: {error.strerror}") from None
    return Checkpoint.read(written, keys, str(path))


def save(path: Path, checkpoint: Checkpoint, keys: AuditKeys) -> None:
    """Put a checkpoint into a file, whole or not at all. InvalidValue: it cannot be written there."""
    try:
        _save(path, checkpoint.written(keys))
    except OSError as error:
        # By itself it would look like a database that is not there.
        raise InvalidValue(f"the checkpoint cannot be written to {path}: {error.strerror}") from None


def _save(path: Path, written: bytes) -> None:
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
