"""Records as lines of JSON, for an archive or for who asks what happened; an export of whole chains can be verified."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from holdfast.errors import InvalidValue
from holdfast.guard.audit.private import Private
from holdfast.guard.audit.record import Record
from holdfast.guard.audit.tables import Tables
from holdfast.store import Store

LONGEST = 4 * 2**20  # bytes of a line
_AT_ONCE = 500  # records
_NOTHING = msgspec.Raw(b"")


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record as a line; `changes` is as it was sealed, letter by letter. `private` is what `sealed` holds, opened.

    Of whom the key was shredded `private` says `"erased"`, see `Box.open`.
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
    changes: msgspec.Raw = _NOTHING
    sealed: str | None = None
    subject: str | None = None
    private: dict[str, Any] | None = None
    key_id: str
    mac: str


def line_of(record: Record, private: Private | None = None) -> Line:
    """The line of a record, with what is private in it where that was opened."""
    values = msgspec.structs.asdict(record)
    values |= {
        "changes": _NOTHING if record.changes is None else msgspec.Raw(record.changes.encode()),
        "sealed": None if record.sealed is None else base64.b64encode(record.sealed).decode(),
        "mac": record.mac.hex(),
        "private": None if private is None else dict(private),
    }
    return Line(**values)


def records_in(lines: Iterable[bytes]) -> Iterator[Record]:
    """The records that lines hold, for `verify_exported`.

    Raises:
        InvalidValue: a line holds none; it says which.
    """
    for number, text in enumerate(lines, 1):
        try:
            if len(text) > LONGEST:
                raise ValueError(f"it has more than {LONGEST:,} bytes")
            line = msgspec.json.decode(text, type=Line)
            values = msgspec.structs.asdict(line)
            del values["private"]
            values |= {
                "changes": bytes(line.changes).decode() or None,
                "sealed": None if line.sealed is None else base64.b64decode(line.sealed, validate=True),
                "mac": bytes.fromhex(line.mac),
            }
        except (msgspec.DecodeError, binascii.Error, ValueError) as error:
            problem = str(error)
        else:
            yield Record(**values)
            continue
        raise InvalidValue(f"line {number} holds no record of an audit trail: {problem[:200]}")


async def in_parts(records: AsyncIterator[Record]) -> AsyncIterator[list[Record]]:
    """Records, as many at a time as `Box.open` is given at once: it asks for the keys of all of them."""
    part: list[Record] = []
    async for record in records:
        part.append(record)
        if len(part) == _AT_ONCE:
            yield part
            part = []
    if part:
        yield part


async def export(
    store: Store,
    tables: Tables,
    *,
    tenant: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    action: str | None = None,
) -> AsyncIterator[Record]:
    """The records of one chain or of all, one chain after the other, each in its order.

    Args:
        since, until: of when: the first inclusive, the last exclusive. With these or `action` an export cannot be
            verified by itself, for a chain has no holes.
    """
    chains = tables.tenants(store) if tenant is None else _only(tenant)
    async for chain in chains:
        async for record in tables.chain(store, chain):
            if (since is not None and record.created_at < since) or (until is not None and record.created_at >= until):
                continue
            if action is None or record.action == action:
                yield record


async def _only(tenant: str) -> AsyncIterator[str]:
    yield tenant
