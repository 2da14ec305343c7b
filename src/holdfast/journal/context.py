"""Who writes, and events that are not rows: what a unit of work tells the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from holdfast.errors import InvalidValue
from holdfast.journal.changes import EVERYTHING
from holdfast.journal.clock import JULIAN_NOW
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


async def emit(unit: Unit, topic: str, *, tags: Iterable[str], data: Any) -> None:
    """Carry out `unit.emit`."""
    if not topic or topic == EVERYTHING:
        raise InvalidValue(f"an event's topic must be a word of yours, not {topic!r}")
    if isinstance(tags, str):
        raise InvalidValue(f"tags must be a list of texts, not the text {tags!r}")
    event = [topic, unit.tenant, {"tags": list(tags), "data": data}]
    try:
        if unit.store.dialect == "sqlite":
            await unit.execute(
                EMIT_SQLITE,
                {"actor": unit.actor, "request": unit.request_id, "body": msgspec.json.encode(event).decode()},
            )
        else:
            await unit.execute("SELECT holdfast_emit(:body)", {"body": msgspec.json.encode([event]).decode()})
    except TypeError as error:
        raise InvalidValue(f"the data of the event {topic!r} cannot be written as JSON: {error}") from None


async def _set_retiring(unit: Unit, on: bool) -> None:
    if unit.store.dialect == "sqlite":
        await unit.execute("UPDATE holdfast_context SET retiring = :on", {"on": int(on)})
    else:
        await unit.execute("SELECT set_config('holdfast.retiring', :on, true)", {"on": "on" if on else ""})
