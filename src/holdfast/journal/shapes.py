"""What a body of the journal means: the shape it was written with, and how it is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from holdfast.errors import JournalError
from holdfast.journal.changes import OPS, Change
from holdfast.journal.kinds import POSTGRES_READERS, SQLITE_READERS, Kind

EVENT = 0
"""The shape of events, which belong to no table."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A captured column: its name and what it holds."""

    name: str
    kind: Kind


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of one table as capture writes them: a body is key values, tenant, old facts, new facts."""

    table: str
    key: tuple[Column, ...]
    tenant: Column | None
    facts: tuple[Column, ...]

    def definition(self) -> str:
        """Its text in the database; equal shapes have equal text."""
        return _encode(self).decode()


Body = list[Any]
Reader = Callable[[Iterable[Body], int, int, str, str | None, str | None, "dt.datetime | None"], list[Change]]


class Shapes:
    """The shapes of one database by number, as far as they are known here."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._readers: dict[int, Reader] = {EVENT: _read_events}

    def add(self, number: int, definition: str) -> None:
        """Learn a shape from its definition in the database."""
        shape = msgspec.json.decode(definition, type=Shape)
        self._readers[number] = _reader(shape, SQLITE_READERS if self._dialect == "sqlite" else POSTGRES_READERS)

    def __contains__(self, number: int) -> bool:
        return number in self._readers

    def changes(
        self,
        shape: int,
        op: str,
        seq: int,
        tick: int,
        actor: str | None,
        request: str | None,
        at: dt.datetime | None,
        body: str,
    ) -> list[Change]:
        """The changes of one row of the journal, in order.

        Raises:
            JournalError: the shape is unknown, or the body is not JSON.
        """
        reader = self._readers.get(shape)
        if reader is None:
            raise JournalError(
                f"change {seq} has the shape {shape}, which holdfast_shapes does not have; run `holdfast doctor`"
            )
        try:
            bodies = _decode(body)
        except msgspec.DecodeError as error:
            raise JournalError(f"change {seq} holds no JSON ({error}); was the journal edited by hand?") from None
        if self._dialect == "sqlite":
            bodies = (bodies,)
        return reader(bodies, seq, tick, op, actor, request, at)


def _read_events(
    bodies: Iterable[Body], seq: int, tick: int, op: str, actor: str | None, request: str | None, at: dt.datetime | None
) -> list[Change]:
    return [
        Change(seq + i, tick, topic, "event", new.pop("key", None), tenant, actor, request, None, new, at)
        for i, (topic, tenant, new) in enumerate(bodies)
    ]


def _reader(shape: Shape, readers: dict[Kind, Callable[[Any], Any]]) -> Reader:
    table, names = shape.table, tuple(fact.name for fact in shape.facts)
    keys, facts = len(shape.key), len(names)
    start = keys + (shape.tenant is not None)
    layout = [*shape.key, *((shape.tenant,) if shape.tenant else ()), *shape.facts]
    fixes = [(i, fix) for i, column in enumerate(layout) if (fix := readers.get(column.kind))]
    again = [(i + facts, fix) for i, fix in fixes if i >= start]  # an update carries the facts twice

    def read(
        bodies: Iterable[Body],
        seq: int,
        tick: int,
        op: str,
        actor: str | None,
        request: str | None,
        at: dt.datetime | None,
    ) -> list[Change]:
        word = OPS[op]
        if op == "r":
            return [Change(seq, tick, table, word, None, None, actor, request, None, None, at)]
        out: list[Change] = []
        has_old, has_new = facts and op != "i", facts and op in "iu"
        new_start = start + facts if op == "u" else start
        old = new = tenant = None
        for body in bodies:
            for i, fix in fixes:
                if i < len(body) and body[i] is not None:
                    body[i] = fix(body[i])
            if op == "u":
                for i, fix in again:
                    if body[i] is not None:
                        body[i] = fix(body[i])
            key = body[0] if keys == 1 else _encode(body[:keys]).decode()
            if start > keys:
                tenant = body[keys]
                if tenant is not None and type(tenant) is not str:
                    tenant = str(tenant)
            if has_old:
                old = dict(zip(names, body[start : start + facts], strict=True))
            if has_new:
                new = dict(zip(names, body[new_start:], strict=True))
            out.append(
                Change(
                    seq + len(out),
                    tick,
                    table,
                    word,
                    key if type(key) is str else str(key),
                    tenant,
                    actor,
                    request,
                    old,
                    new,
                    at,
                )
            )
        return out

    return read
