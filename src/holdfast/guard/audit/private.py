"""What is private in a record: encrypted before it is sealed, so that the chain stays whole when the key is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import msgspec

from holdfast.guard.audit.entries import Entry, as_bytes
from holdfast.guard.audit.record import Record
from holdfast.model.keyring import KeyRing


class Box(Protocol):
    """Encrypts what is private in a record; `subject` is whom it is about, as the model says, or None.

    A box with a key for each subject makes what is known of one unreadable by dropping his key::

        class Shredding(Box):
            def close(self, plain: bytes, *, subject: str | None, record: UUID) -> bytes | None:
                return self._ring_of(subject).encrypt(plain, f"audit {record}")
    """

    def close(self, plain: bytes, *, subject: str | None, record: UUID) -> bytes | None:
        """The ciphertext, bound to the record; None where nothing is to be kept."""

    def open(self, sealed: bytes, *, subject: str | None, record: UUID) -> bytes:
        """What was encrypted. InvalidValue, ConfigurationError: it cannot be read."""


class RingBox:
    """Under the keys of encrypted columns, `HOLDFAST_ENCRYPTION_KEYS`."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def check(self) -> None:
        """Raise `MissingExtra` where nothing can be encrypted here."""
        self._ring.encrypt(b"", "audit")

    def close(self, plain: bytes, *, subject: str | None, record: UUID) -> bytes | None:
        return self._ring.encrypt(plain, _place(record))

    def open(self, sealed: bytes, *, subject: str | None, record: UUID) -> bytes:
        return self._ring.decrypt(sealed, _place(record))


def closed(entry: Entry, box: Box | None) -> Record:
    """The record of an entry with what is private in it encrypted; without it where there is no box."""
    if not entry.private or box is None:
        return entry.record
    record = entry.record
    sealed = box.close(as_bytes(entry.private), subject=record.subject, record=record.id)
    return msgspec.structs.replace(record, sealed=sealed)


def opened(record: Record, box: Box | None) -> Mapping[str, Any] | None:
    """What is private in a record: `values` by column, `ip`, `agent`; None where nothing is.

    Raises:
        InvalidValue, ConfigurationError: it cannot be read.
    """
    if record.sealed is None or box is None:
        return None
    found: Mapping[str, Any] = msgspec.json.decode(box.open(record.sealed, subject=record.subject, record=record.id))
    return found


def _place(record: UUID) -> str:
    return f"audit {record}"
