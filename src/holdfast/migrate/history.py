"""What was done to a database: an event a step, and what follows from them. The rules are plain functions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, delete, insert, inspect, select, update

from holdfast.migrate.files import MigrationFile
from holdfast.model import Text, UtcTime

Kind = Literal["up", "down", "accept", "forget", "adopt"]

metadata = MetaData()
EVENTS = Table(
    "holdfast_migrations",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("revision", Text(), nullable=False),
    Column("kind", Text(), nullable=False),
    Column("checksum", Text(), nullable=False),
    Column("steps", Integer(), nullable=False, server_default="0"),
    Column("actor", Text(), nullable=False),
    Column("began", UtcTime(), nullable=False),
    Column("ended", UtcTime()),
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the history.

    Attributes:
        kind: "up" and "down" ran a migration; "accept" took an edited file for what was applied, "forget" dropped one
            from what counts as applied, "adopt" took one as applied without running it.
        steps: how many operations of a migration without a transaction are done.
        actor: who ran it, `user@machine`.
        ended: None while it runs, and for ever when it was killed.
    """

    id: int
    revision: str
    kind: Kind
    checksum: str
    steps: int
    actor: str
    began: dt.datetime
    ended: dt.datetime | None


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that a database has.

    Attributes:
        interrupted: the event that began and never ended, None for one that is wholly there.
    """

    revision: str
    checksum: str
    at: dt.datetime
    interrupted: Event | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why no migration may run: what is wrong, and what to do about it."""

    kind: Literal["edited", "missing", "reordered"]
    revision: str
    message: str
    fix: str


def applied(events: Iterable[Event]) -> list[Applied]:
    """What a database with this history has, in the order in which it came."""
    have: dict[str, Applied] = {}
    for event in events:
        there = have.get(event.revision)
        if event.kind == "forget" or (event.kind == "down" and event.ended is not None):
            have.pop(event.revision, None)
        elif event.kind == "accept" and there is not None:
            have[event.revision] = msgspec.structs.replace(there, checksum=event.checksum)
        elif event.kind == "down" and there is not None:
            have[event.revision] = msgspec.structs.replace(there, interrupted=event)
        elif event.kind in ("up", "adopt"):
            have[event.revision] = Applied(
                revision=event.revision,
                checksum=event.checksum,
                at=event.ended or event.began,
                interrupted=event if event.ended is None else None,
            )
    return list(have.values())


def problems(files: Sequence[MigrationFile], have: Sequence[Applied]) -> list[Problem]:
    """Where the files are not what was applied: edited, missing, or in another order."""
    by_name = {file.revision: file for file in files}
    found: list[Problem] = []
    for one in have:
        file = by_name.get(one.revision)
        if file is None:
            found.append(
                Problem(
                    kind="missing",
                    revision=one.revision,
                    message=f"{one.revision} was applied on {one.at:%Y-%m-%d}, and there is no file of it",
                    fix="restore the file from version control; if the migration is void, drop it from the history:"
                    f" `holdfast migrate repair --forget {one.revision}`",
                )
            )
        elif file.checksum != one.checksum and one.interrupted is None:
            found.append(
                Problem(
                    kind="edited",
                    revision=one.revision,
                    message=f"{file.path.name} was edited after it was applied on {one.at:%Y-%m-%d}",
                    fix="restore it and put the change into a new migration; if the edit changes nothing in the"
                    f" database: `holdfast migrate repair --accept {one.revision}`",
                )
            )
    if found:
        return found
    for number, (one, file) in enumerate(zip(have, files, strict=False)):
        if one.revision != file.revision:
            later = {a.revision for a in have[number:]}
            fix = (
                f"`holdfast migrate repair --move {file.revision}`, which puts it behind what was applied"
                if file.revision not in later
                else "restore the `down_revision` lines that stood there when they were applied"
            )
            return [
                Problem(
                    kind="reordered",
                    revision=file.revision,
                    message=f"{file.revision} stands before {one.revision}, which this database has and which was"
                    " applied without it",
                    fix=fix,
                )
            ]
    return []


def read(connection: Connection) -> list[Event]:
    """The history of a database, oldest first; empty when none was begun."""
    if not inspect(connection).has_table(EVENTS.name):
        return []
    return [Event(**row._mapping) for row in connection.execute(select(EVENTS).order_by(EVENTS.c.id))]


def begin(connection: Connection, file: MigrationFile, kind: Kind, actor: str) -> int:
    """Note that `file` is being run; returns the event's id."""
    return note(connection, file.revision, file.checksum, kind, actor, ended=False)


def note(connection: Connection, revision: str, checksum: str, kind: Kind, actor: str, *, ended: bool = True) -> int:
    """Write an event; returns its id."""
    now = dt.datetime.now(dt.UTC)
    values = {
        "revision": revision,
        "checksum": checksum,
        "kind": kind,
        "actor": actor,
        "began": now,
        "ended": now if ended else None,
    }
    return int(connection.execute(insert(EVENTS).values(values).returning(EVENTS.c.id)).scalar_one())


def stepped(connection: Connection, event: int, steps: int) -> None:
    """Note how many steps are done."""
    connection.execute(update(EVENTS).where(EVENTS.c.id == event).values(steps=steps))


def resumed(connection: Connection, event: int, checksum: str) -> None:
    """Note with which text an interrupted migration goes on."""
    connection.execute(update(EVENTS).where(EVENTS.c.id == event).values(checksum=checksum))


def undo(connection: Connection, event: int) -> None:
    """Forget that a migration began of which nothing was done."""
    connection.execute(delete(EVENTS).where(EVENTS.c.id == event))


def end(connection: Connection, event: int) -> None:
    """Note that it is done."""
    connection.execute(update(EVENTS).where(EVENTS.c.id == event).values(ended=dt.datetime.now(dt.UTC)))
