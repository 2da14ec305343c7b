"""What is private in a record: encrypted before it is sealed, so that the chain stays whole when the key is gone.

Whose key it is under says the record: values are the subject's, address and user agent those of who acted. Each part is
under the key of its person, so that his is shredded without what is another's. Where a record has values and nobody
whom they are about, all of it is under the ring of encrypted columns, as everything was in older records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from holdfast.errors import InvalidValue
from holdfast.guard.audit.entries import Entry, as_bytes
from holdfast.guard.audit.record import Record
from holdfast.guard.subject_keys import FORMAT, SubjectKey, SubjectKeys
from holdfast.model.keyring import KeyRing
from holdfast.store import Unit

ERASED = "erased"
"""Stands for `values`, and as `origin` for address and user agent, where the key was shredded."""

_AT_ONCE = 100  # records encrypted before others get a turn

Part = Literal["values", "origin"]
Private = Mapping[str, Any]


class _Parts(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What follows the first byte of a ciphertext, as MessagePack: each part under the key of its person."""

    values: bytes | None = None
    origin: bytes | None = None


class Box:
    """Encrypts what is private in records, and reads it.

    Args:
        ring: of encrypted columns.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._keys = SubjectKeys(ring)

    def check(self) -> None:
        """Raise `MissingExtra` where nothing can be encrypted here."""
        self._ring.encrypt(b"", "audit")

    async def close(self, entries: Sequence[Entry], unit: Unit) -> list[Record]:
        """The records of entries, with what is private in them; without that of who was shredded.

        The keys are not shredded before the unit ends.
        """
        whose = {owner for entry in entries if (owners := _owners(entry)) for owner in owners.values()}
        keys = await self._keys.of(unit, whose, make=True)
        records = []
        for number, entry in enumerate(entries, 1):
            sealed = self._closed(entry, keys) if entry.private else None
            records.append(msgspec.structs.replace(entry.record, sealed=sealed))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return records

    async def open(self, records: Sequence[Record], unit: Unit) -> list[Private | None]:
        """What is private in records, in their order: `values` by column, `ip`, `agent`; None where nothing is.

        Where a key was shredded it is "erased": `values`, and `origin` in place of `ip` and `agent`.

        Raises:
            InvalidValue: something was changed, or a key that is needed is not in the table of keys.
            ConfigurationError: HOLDFAST_ENCRYPTION_KEYS lacks a key.
        """
        parts = [_parts_of(record) for record in records]
        whose = {owner for one in parts for _, owner, _ in one}
        keys = await self._keys.of(unit, whose, make=False)
        return [self._opened(record, one, keys) for record, one in zip(records, parts, strict=True)]

    def _closed(self, entry: Entry, keys: Mapping[str, SubjectKey | None]) -> bytes | None:
        owners = _owners(entry)
        if not owners:
            return self._ring.encrypt(as_bytes(entry.private), _place(entry.record))
        made = {
            part: key.encrypt(as_bytes(_of_part(entry.private, part)), _place(entry.record, part))
            for part, owner in owners.items()
            if (key := keys[owner]) is not None
        }
        return FORMAT + msgspec.msgpack.encode(_Parts(**made)) if made else None

    def _opened(
        self, record: Record, parts: list[tuple[Part, str, bytes]], keys: Mapping[str, SubjectKey | None]
    ) -> Private | None:
        if record.sealed is None:
            return None
        if not parts:
            return dict(msgspec.json.decode(self._ring.decrypt(record.sealed, _place(record))))
        found: dict[str, Any] = {}
        for part, owner, ciphertext in parts:
            if owner not in keys:
                raise InvalidValue(
                    f"a value in {_place(record, part)} is under the key of {owner!r}, which is not there; restore it"
                )
            key = keys[owner]
            opened = (
                {part: ERASED} if key is None else msgspec.json.decode(key.decrypt(ciphertext, _place(record, part)))
            )
            found |= opened
        return found


def _owners(entry: Entry) -> dict[Part, str]:
    """Under whose key each part of what is private is; empty where it is under the ring, or nothing is."""
    parts: set[Part] = {"values" if name == "values" else "origin" for name in entry.private}
    owners = {part: owner for part in sorted(parts) if (owner := owner_of(entry.record, part))}
    return owners if len(owners) == len(parts) else {}


def owner_of(record: Record, part: Part) -> str | None:
    """Whom a part is about: both sides go by this, so what it says of a record may never change."""
    if part == "values":
        return record.subject
    return record.impersonator or record.actor or record.subject


def _of_part(private: Private, part: Part) -> dict[str, Any]:
    return {name: value for name, value in private.items() if (name == "values") == (part == "values")}


def _parts_of(record: Record) -> list[tuple[Part, str, bytes]]:
    """What in a record is under the keys of people: the part, whose key, the ciphertext."""
    if record.sealed is None or not record.sealed.startswith(FORMAT):
        return []
    return list(_read_parts(record, record.sealed[len(FORMAT) :]))


def _read_parts(record: Record, content: bytes) -> Iterator[tuple[Part, str, bytes]]:
    try:
        parts = msgspec.msgpack.decode(content, type=_Parts)
    except msgspec.DecodeError:
        parts = _Parts()
    given: dict[Part, bytes | None] = {"values": parts.values, "origin": parts.origin}
    there = [(part, owner_of(record, part), content) for part, content in given.items() if content is not None]
    if not there or not all(owner for _, owner, _ in there):
        raise InvalidValue(
            f"a value in {_place(record)} was changed: it is no ciphertext of this record; restore it from a backup"
        )
    yield from ((part, owner or "", content) for part, owner, content in there)


def _place(record: Record, part: str = "") -> str:
    return f"audit {record.id} {part}".rstrip()
