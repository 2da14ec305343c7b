"""An inbox: what others tell us by webhooks is kept once, before it is applied.

A provider sends again what was not answered with 2xx, and sometimes what was. So a webhook is checked, put into a table
under the id that the provider gave it, and answered; a handler of the journal applies it. What fails is tried again,
and then lies among the dead letters of that handler, from where it is retried (`holdfast journal retry`).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.errors import InvalidValue
from holdfast.guard.keys.columns import Listed
from holdfast.model import Model, Text, uuid7
from holdfast.model.policy import PLAIN
from holdfast.store import Unit

_ID = 255  # characters of what a provider calls an event


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that was checked.

    Attributes:
        source: who sent it: `stripe`, `clerk`.
        event_id: what the provider calls it; one with the same is the same.
        kind: what happened, in the provider's words: `user.updated`.
        occurred_at: when it did.
        payload: the event.
    """

    source: str
    event_id: str
    kind: str
    occurred_at: dt.datetime
    payload: dict[str, Any]


class WebhookRefused(Exception):
    """A webhook is not from who it says, or is none. The message tells nothing that a sender must not know."""


class InboxColumns:
    """Mixed into the model of an inbox, which is unique by `source` and `event_id`.

    Attributes:
        source, event_id, kind, occurred_at, payload: as in `Received`.
        received_at, applied_at: when it came, and when it was applied; None while it waits.
    """

    source: Mapped[str] = mapped_column(Text(50), info=PLAIN)
    event_id: Mapped[str] = mapped_column(Text(_ID), info=PLAIN)
    kind: Mapped[str] = mapped_column(Text(100), info=PLAIN)
    occurred_at: Mapped[dt.datetime] = mapped_column(info=PLAIN)
    received_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC), info=PLAIN)
    applied_at: Mapped[dt.datetime | None] = mapped_column(info=PLAIN)
    payload: Mapped[dict[str, Any]] = mapped_column(Listed)


async def take_in(unit: Unit, model: type[Model], received: Received) -> bool:
    """Put a webhook into the inbox; returns whether it was not there yet.

    Raises:
        InvalidValue: its id or its kind cannot be kept. StoreError: the unit only reads.
    """
    if not 0 < len(received.event_id) <= _ID or not 0 < len(received.kind) <= 100:
        raise InvalidValue(f"the id of a webhook has 1 to {_ID} characters, and its kind 1 to 100")
    unit.must_write("take_in")
    insert: Any = (sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert)(model)
    values = {**msgspec.structs.asdict(received), "id": uuid7(), "received_at": dt.datetime.now(dt.UTC)}
    statement = insert.values(**values).on_conflict_do_nothing(index_elements=["source", "event_id"])
    return (await unit.execute(statement.returning(insert.table.c.id))).first() is not None
