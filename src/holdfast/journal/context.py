"""Who writes, and events that are not rows: what a unit of work tells the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from holdfast.errors import InvalidValue
from holdfast.journal.clock import JULIAN_NOW
from holdfast.journal.events import Event, plain
from holdfast.store import Unit

SET_POSTGRES = """
    SELECT set_config('holdfast.actor', coalesce(:actor, ''), true),
        set_config('holdfast.request', coalesce(:request, ''), true)
"""
SET_SQLITE = "UPDATE holdfast_context SET actor = :actor, request = :request"
EMIT_SQLITE = f"""
    INSERT INTO holdfast_journal (shape, op, at, actor, request, body)
    VALUES (0, 'e', {JULIAN_NOW}, :actor, :request, :body)
"""  # noqa: S608  a constant
CLEAR_SQLITE = "UPDATE holdfast_context SET actor = NULL, request = NULL, retiring = 0"


async def begin(unit: Unit) -> None:
    """Say who acts, for the length of the transaction; nothing is sent when there is nothing to say."""
    if unit.actor is None and unit.request_id is None:
        return
    statement = SET_SQLITE if unit.store.dialect == "sqlite" else SET_POSTGRES
    await unit.execute(statement, {"actor": unit.actor, "request": unit.request_id})


async def end(unit: Unit) -> None:
    """Take back, on SQLite, who acts: what is committed would be blamed for the next program's writes."""
    if unit.store.dialect == "sqlite" and (unit.actor is not None or unit.request_id is not None):
        await unit.execute(CLEAR_SQLITE)


@asynccontextmanager
async def retiring(unit: Unit) -> AsyncIterator[None]:
    """Deletes inside are journalled as `retired`: retention, not a user, removes what is archived elsewhere."""
    await _set_retiring(unit, True)
    try:
        yield
    finally:
        await _set_retiring(unit, False)


async def emit(unit: Unit, topic: str | object, *, tags: Iterable[str], data: Any) -> None:
    """Carry out `unit.emit`."""
    if isinstance(tags, str):
        raise InvalidValue(f"tags must be a list of texts, not the text {tags!r}")
    if isinstance(topic, Event):
        if data is not None:
            raise InvalidValue(f"{type(topic).__name__} has its data in its fields; leave data=… out")
        event = topic.described()
    elif isinstance(topic, str):
        event = plain(topic, (), data)
    else:
        raise InvalidValue(f"unit.emit(…) takes a topic or a declared event, not {topic!r}")
    told: dict[str, Any] = {"tags": list(dict.fromkeys([*event.tags, *tags])), "data": event.data}
    if event.key is not None:
        told["key"] = event.key
    try:
        body = msgspec.json.encode([event.topic, unit.tenant, told]).decode()
    except TypeError as error:
        raise InvalidValue(f"the tags of the event {event.topic!r} are not texts: {error}") from None
    if unit.store.dialect == "sqlite":
        await unit.execute(EMIT_SQLITE, {"actor": unit.actor, "request": unit.request_id, "body": body})
    else:
        await unit.execute("SELECT holdfast_emit(:body)", {"body": f"[{body}]"})


async def _set_retiring(unit: Unit, on: bool) -> None:
    if unit.store.dialect == "sqlite":
        await unit.execute("UPDATE holdfast_context SET retiring = :on", {"on": int(on)})
    else:
        await unit.execute("SELECT set_config('holdfast.retiring', :on, true)", {"on": "on" if on else ""})
