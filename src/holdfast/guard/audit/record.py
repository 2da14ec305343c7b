"""A record of the trail, and the bytes of it that its seal covers."""

from __future__ import annotations

import datetime as dt
from typing import Literal
from uuid import UUID

import msgspec

from holdfast.model import format_utc

Outcome = Literal["allowed", "denied", "failed"]

_FORMAT = b"holdfast audit record 1"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, at its place in a chain.

    Attributes:
        tenant: whose chain it is in; "" for what concerns no tenant.
        seq: its place there: 1, 2, 3, …
        id: its own.
        created_at: when it happened.
        action: what was done: `insert`, `update`, `delete`, `login`, `key`, …
        outcome: `allowed`, `denied` or `failed`.
        reason: why it was denied.
        actor: who did it; None for raw SQL that said nothing.
        impersonator: who acted as the actor.
        target_type, target_id: what it was done to: a table and a key.
        request_id: in which request.
        changes: JSON: what is no secret of a person, the old and the new value by column.
        sealed: the ciphertext of what is: private columns, address, user agent.
        subject: whom the values in it are about; address and user agent are those of who acted.
        key_id: the id of the key under which it is sealed.
        mac: the seal: HMAC-SHA256 of all of this and of the seal before.
    """

    tenant: str
    seq: int
    id: UUID
    created_at: dt.datetime
    action: str
    outcome: str
    reason: str | None = None
    actor: str | None = None
    impersonator: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    request_id: str | None = None
    changes: str | None = None
    sealed: bytes | None = None
    subject: str | None = None
    key_id: str
    mac: bytes


def canonical(record: Record, previous: bytes) -> bytes:
    """What the seal of `record` covers: every field but the seal, each with its length before it, and `previous`.

    So no two records have one text: neither does a character that moves from one field to the next leave it as it was,
    nor is None the same as nothing.
    """
    parts = [_FORMAT, previous]
    for name in _COVERED:
        value = getattr(record, name)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        elif isinstance(value, UUID):
            value = value.bytes
        elif isinstance(value, dt.datetime):
            value = format_utc(value.astimezone(dt.UTC)).encode()
        elif isinstance(value, int):
            value = str(value).encode()
        parts.append(value)
    return b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts)


_COVERED = tuple(name for name in Record.__struct_fields__ if name != "mac")
