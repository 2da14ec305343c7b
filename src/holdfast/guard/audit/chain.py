"""The chain of a tenant: how a record is put at its end, and how what was done to it is found. Rules only.

Every seal covers the one before. Who has the database and not the keys can change nothing, remove nothing from within
and put nothing in between without its being found. What he can do is cut the end off and put the head back to where
that was: a checkpoint that is kept elsewhere finds it.
"""

from __future__ import annotations

import hmac
from typing import Literal

import msgspec

from holdfast.guard.audit.keys import AuditKeys
from holdfast.guard.audit.record import Record, canonical

BEGIN = b""
"""What stands in place of the seal before the first record's."""

What = Literal[
    "changed", "missing", "out of order", "unknown key", "cut off", "beyond the head", "other than checkpoint"
]


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: the place and the seal of its last record; of one without records 0 and nothing."""

    seq: int = 0
    mac: bytes = BEGIN


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that is wrong with a chain.

    Attributes:
        tenant: whose chain.
        seq: the place of the record that is wrong, or that should be there.
        id: of the record; None where it is not there.
        what: changed (the record or the one before is not what was sealed), missing, out of order, unknown key, cut off
            (fewer records than the head or the checkpoint knows), beyond the head, other than checkpoint.
        told: the same as a sentence.
    """

    tenant: str
    seq: int
    id: str | None
    what: What
    told: str


def sealed(keys: AuditKeys, record: Record, head: Head) -> Record:
    """`record` at the end of a chain that ends with `head`: with place, key and seal."""
    placed = msgspec.structs.replace(record, seq=head.seq + 1, key_id=keys.id)
    return msgspec.structs.replace(placed, mac=keys.seal(canonical(placed, head.mac)))


class Verification:
    """Goes along one chain, record by record, until something is wrong.

    Args:
        start: where to begin: behind a checkpoint whose past is trusted, or archived.
        known: what a checkpoint says of this chain; it must be there.

    Attributes:
        head: of what was good so far.
    """

    def __init__(self, keys: AuditKeys, tenant: str, *, start: Head | None = None, known: Head | None = None) -> None:
        self.tenant = tenant
        self.head = self._start = start or Head()
        self._keys = keys
        self._known = known
        self._is_known = known is None or known.seq <= self.head.seq

    def take(self, record: Record) -> Fault | None:
        """What is wrong with the next record; None when it is good."""
        place = self.head.seq + 1
        if record.tenant != self.tenant or record.seq < place:
            return self._fault("out of order", record, f"the record {record.id} is not where it was sealed")
        if record.seq > place:
            gone = (
                f"the record {place} is" if record.seq == place + 1 else f"the records {place} to {record.seq - 1} are"
            )
            return self._fault("missing", None, f"{gone} missing")
        if record.key_id not in self._keys:
            told = f"is under the key {record.key_id[:40]!r}, which HOLDFAST_AUDIT_KEYS does not have"
            return self._fault("unknown key", record, f"the record {record.id} {told}")
        wanted = self._keys.seal(canonical(record, self.head.mac), record.key_id)
        if not hmac.compare_digest(wanted, record.mac):
            return self._fault("changed", record, f"the record {record.id} is not what was sealed")
        self.head = Head(record.seq, record.mac)
        known = self._known
        if known is not None and record.seq == known.seq:
            if not hmac.compare_digest(known.mac, record.mac):
                told = "is another one than the checkpoint knows: the chain was cut there or before, and went on"
                return self._fault("other than checkpoint", record, f"the record {record.id} {told}", record.seq)
            self._is_known = True
        return None

    def end(self, head: Head) -> Fault | None:
        """What is wrong when nothing follows; `head` is what the database says is the end."""
        if self._known is not None and not self._is_known:
            told = f"the records from here to {self._known.seq}, which the checkpoint knows, are missing"
            return self._fault("cut off", None, told)
        if head.seq > self.head.seq:
            return self._fault("cut off", None, f"the records from here to {head.seq}, the head, are missing")
        if head.seq < self._start.seq and self.head == self._start:
            told = f"the records up to {self._start.seq}, which the checkpoint knows, are missing"
            return self._fault("cut off", None, told, head.seq + 1)
        if head.seq < self.head.seq:
            told = f"the head of the chain is at {head.seq}, and there are records behind it"
            return self._fault("beyond the head", None, told, head.seq + 1)
        if not hmac.compare_digest(head.mac, self.head.mac):
            return self._fault("changed", None, "the head of the chain is not the seal of its last record", head.seq)
        return None

    def _fault(self, what: What, record: Record | None, told: str, seq: int | None = None) -> Fault:
        return Fault(
            tenant=self.tenant,
            seq=self.head.seq + 1 if seq is None else seq,
            id=None if record is None else str(record.id),
            what=what,
            told=told,
        )
