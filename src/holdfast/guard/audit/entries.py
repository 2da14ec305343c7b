"""From changes of the journal to what is put on record: rules only."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from holdfast.guard.audit.columns import TENANT
from holdfast.guard.audit.declaring import Rules
from holdfast.guard.audit.record import Outcome, Record
from holdfast.guard.kept_text import kept_text, without_nul
from holdfast.guard.subject_keys import SUBJECT
from holdfast.journal import EVERYTHING, Change
from holdfast.model import uuid7

TOPIC = "audit.recorded"
"""Of the events of the journal that are put on record."""

GAP = "audit.gap"
"""The action of a record which says that changes before it may be on no record."""

REQUEST = "request"
"""The action of a record that tells where a request came from; what follows in the same request is told it too."""

PRIVATE = "private"
"""Stands in `changes` for the values of a private column."""

_ORIGIN = 500  # characters of an address, or of what a client calls itself
_LONGEST = 4_096  # bytes of a value as JSON; of a longer one the hash is on record

_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request came from.

    Attributes:
        ip: the address; `agent` what the client calls itself. Both are encrypted in the record.
        impersonator: who acts as the actor: a member of the staff who sees what a user sees.
    """

    ip: str | None = None
    agent: str | None = None
    impersonator: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What `Trail.record` puts into the journal."""

    action: str
    outcome: Outcome = "allowed"
    reason: str | None = None
    tenant: str | None = None
    actor: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    subject: str | None = None
    details: dict[str, Any] = {}
    private: dict[str, Any] = {}
    origin: Origin | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, before it has a place and a seal.

    Attributes:
        record: without place, key and seal, and without what is private.
        private: what is to be encrypted: `values`, and of the origin `ip` and `agent`.
    """

    record: Record
    private: dict[str, Any]


def entry_of(change: Change, rules: Mapping[str, Rules], origin: Origin | None = None) -> Entry:
    """What is put on record for a change of a row, an event of ours, or a reset.

    Args:
        rules: of the audited tables.
        origin: of the change's request, where it is known.
    """
    if change.op == "event":
        return _of_event(change, origin)
    if change.op == "reset":
        every = "every table" if change.table == EVERYTHING else change.table
        told = (
            f"what was changed in {every} before this may be on no record: the journal was lost, or the table emptied"
        )
        return _entry(change, action=GAP, outcome="failed", reason=told, target_type=change.table)
    rule = rules[change.table]
    facts = change.new or change.old or {}
    subject, was_about = _subjects(change, rule)
    plain: dict[str, Any] = {}
    private: dict[str, Any] = {}
    for name, (before, after) in _differing(change.old, change.new, rule.columns).items():
        pair = [before, after]
        if name in rule.private:
            # What was there before is another person's, and in his records: it must not be under this one's key.
            private[name] = pair if was_about == subject else [PRIVATE, after]
            plain[name] = PRIVATE
        else:
            plain[name] = pair
    return _entry(
        change,
        action=rule.called.get(change.op, change.op),
        tenant=change.tenant if rule.tenant is None else facts.get(rule.tenant),
        target_type=change.table,
        target_id=change.key,
        subject=subject,
        changes=plain,
        private={"values": private} if private else {},
        origin=origin,
    )


def _subjects(change: Change, rule: Rules) -> tuple[Any, Any]:
    """Whom a change is about, and whom the row was about before: the same, but where it was given to somebody else."""
    if rule.subject is None:
        return None, None
    before, after = ((facts or {}).get(rule.subject) for facts in (change.old, change.new))
    now = before if after is None else after
    return now, now if before is None else before


def origin_of(change: Change) -> Origin | None:
    """What an event of ours says of where its request came from."""
    told = _told(change) if change.op == "event" else None
    return None if told is None else told.origin


def shortened(origin: Origin | None) -> Origin | None:
    """An origin of which no part is longer than what is kept of it: a client may have said anything."""
    if origin is None:
        return None
    return Origin(
        ip=kept_text(origin.ip, _ORIGIN),
        agent=kept_text(origin.agent, _ORIGIN),
        impersonator=kept_text(origin.impersonator, 255),
    )


def _of_event(change: Change, origin: Origin | None) -> Entry:
    told = _told(change)
    if told is None:
        # It is on record that somebody wrote it; a trail that stopped here would be what he wants.
        return _entry(change, action="audit.malformed", outcome="failed", reason="an event of the trail that is none")
    return _entry(
        change,
        action=told.action,
        outcome=told.outcome,
        reason=told.reason,
        # What a unit of one tenant tells is that one's, whatever it says.
        tenant=told.tenant if change.tenant is None else change.tenant,
        actor=told.actor,
        target_type=told.target_type,
        target_id=told.target_id,
        subject=told.subject,
        changes=told.details,
        private={"values": told.private} if told.private else {},
        origin=told.origin or origin,
    )


def _told(change: Change) -> Told | None:
    try:
        return msgspec.convert((change.new or {}).get("data"), Told)
    except msgspec.ValidationError:
        return None


def _entry(
    change: Change,
    *,
    action: str,
    outcome: str = "allowed",
    reason: str | None = None,
    tenant: Any = None,
    actor: str | None = None,
    target_type: str | None = None,
    target_id: str | None = None,
    subject: Any = None,
    changes: Mapping[str, Any] | None = None,
    private: dict[str, Any] | None = None,
    origin: Origin | None = None,
) -> Entry:
    private = dict(private or {})
    if origin is not None:
        private |= {name: value for name in ("ip", "agent") if (value := kept_text(getattr(origin, name), _ORIGIN))}
    record = Record(
        tenant=kept_text(tenant, TENANT) or "",
        seq=0,
        id=uuid7(),
        created_at=change.at or dt.datetime.now(dt.UTC),
        action=kept_text(action, 100) or "?",
        outcome=outcome,
        reason=kept_text(reason, 500),
        actor=kept_text(change.actor if actor is None else actor, 255),
        impersonator=None if origin is None else kept_text(origin.impersonator, 255),
        target_type=kept_text(target_type, 255),
        target_id=kept_text(target_id, 500),
        request_id=kept_text(change.request, 255),
        changes=_json(changes) if changes else None,
        subject=kept_text(subject, SUBJECT),
        key_id="",
        mac=b"",
    )
    return Entry(record=record, private=private)


def _differing(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, columns: tuple[str, ...]
) -> dict[str, Any]:
    """What is not the same on both sides, as [before, after]; of a row that came or went what is not NULL."""
    before, after = old or {}, new or {}
    pairs = ((name, before.get(name), after.get(name)) for name in columns)
    return {name: [_short(was), _short(now)] for name, was, now in pairs if was != now}


def _short(value: Any) -> Any:
    if (
        value is None
        or (isinstance(value, str) and len(value) * 4 <= _LONGEST)
        or isinstance(value, bool | int | float)
    ):
        return value
    written = _encode(value)
    if len(written) <= _LONGEST:
        return value
    return {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}


def _json(value: Mapping[str, Any]) -> str:
    return without_nul(_encode(value).decode("utf-8", "replace"))


def as_bytes(private: Mapping[str, Any]) -> bytes:
    """What is private, as the bytes that are encrypted."""
    return _encode(private)


def id_of(value: Any) -> str:
    """The key of a row, or whatever else was acted on, as text."""
    return str(value) if isinstance(value, UUID | str | int) else _encode(value).decode()
