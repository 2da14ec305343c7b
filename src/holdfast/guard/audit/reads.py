"""Which rows a unit has loaded of models whose reads are audited."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from sqlalchemy import event

from holdfast.guard.audit.declaring import Audited
from holdfast.guard.audit.entries import Told, id_of
from holdfast.model import Model
from holdfast.store import Unit
from holdfast.store.keys import key_of
from holdfast.store.scope import scope_of, tenant_attribute

MOST = 1_000  # keys of a model that one record names at most; the others are counted

_LARGEST = 10_000  # characters of the keys that one record names

_NOTED = "holdfast_reads"  # of a session's info: (model, tenant) → keys
_COUNTED = "holdfast_reads_counted"


def watch(models: Iterable[type[Model]]) -> bool:
    """Note from now on what units load of those models whose policy says `reads=True`; whether there are any."""
    found = False
    for model in models:
        audited = model.__policy__.aspect(Audited)
        if audited is None or not audited.reads:
            continue
        found = True
        if not event.contains(model, "load", _note):
            event.listen(model, "load", _note)
    return found


def noted(unit: Unit) -> list[Told]:
    """What is put on record of a unit's reads; it is taken out of the unit."""
    info = unit.session.sync_session.info
    keys = info.pop(_NOTED, {})
    counts = info.pop(_COUNTED, {})
    told = []
    for (model, tenant), each in keys.items():
        count = counts[model, tenant]
        found = [key for key, size in zip(each, accumulate(map(len, each)), strict=True) if size <= _LARGEST]
        told.append(
            Told(
                action="read",
                tenant=tenant,
                actor=unit.actor,
                target_type=str(model.__tablename__),
                target_id=each[0][:_LARGEST] if count == 1 else None,
                details={} if count == 1 else {"rows": count, "keys": found},
            )
        )
    return told


def _note(row: Any, context: Any) -> None:
    session = context.session
    if scope_of(session) is None:
        return
    model = type(row)
    audited = model.__policy__.aspect(Audited)
    whose = audited.tenant or model.__policy__.tenant
    tenant = None
    if whose is not None:
        attribute = tenant_attribute(model) if audited.tenant is None else whose
        value = row.__dict__.get(attribute)
        tenant = None if value is None else str(value)
    keys = session.info.setdefault(_NOTED, {}).setdefault((model, tenant), [])
    counts = session.info.setdefault(_COUNTED, {})
    counts[model, tenant] = counts.get((model, tenant), 0) + 1
    if len(keys) < MOST:
        keys.append(id_of(key_of(model).of(row)))
