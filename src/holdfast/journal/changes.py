"""What the journal is made of: changes, and positions in their order."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import msgspec

from holdfast.errors import JournalError

Op = Literal["insert", "update", "delete", "reset", "retired", "event"]
OPS: dict[str, Op] = {"i": "insert", "u": "update", "d": "delete", "r": "reset", "x": "retired", "e": "event"}
EVERYTHING = "*"
"""The `table` of the change that resets everything: whoever gets it rebuilds from the tables."""


class Change(msgspec.Struct, frozen=True):
    """One committed change.

    Attributes:
        seq: its number, unique within an epoch; grows in the order in which a row was changed.
        tick: the tick in whose batch it is.
        table: the table, or the topic of an event; `EVERYTHING` when all derived state is to be rebuilt.
        op: insert, update, delete; reset (all rows of the table may have changed: TRUNCATE, rebuild);
            retired (deleted by retention, not by a user); event.
        key: the row's primary key: its text, or a JSON array of a composite one. Of an event what it is declared with,
            mostly None; None for resets.
        tenant: whose row it is, as text; None where the model has no tenant.
        actor, request: what the unit of work said; None for raw SQL that said nothing.
        old, new: the facts before and after (see the model's aspects), by column. Whole numbers stay numbers;
            NUMERIC and amounts are strings, exact; times are `YYYY-MM-DDTHH:MM:SS.ffffffZ`; UUIDs are lower-case
            with hyphens; bytes are hex. None where there is no such side, or no facts were asked for.
            An event has `{"tags": […], "data": …}` in `new`.
        at: when the statement ran, by the database's clock. Not an order: order by position.
    """

    seq: int
    tick: int
    table: str
    op: Op
    key: str | None
    tenant: str | None
    actor: str | None
    request: str | None
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    at: dt.datetime | None


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the journal: everything up to `tick`, and of the next batch everything up to `seq`.

    Opaque outside this room: keep it as text (`str`, `Position.parse`) and compare only within an epoch.
    """

    epoch: int
    tick: int
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.tick}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that `str` wrote.

        Raises:
            JournalError: the text is no position.
        """
        try:
            epoch, tick, seq = (int(part) for part in text.split("-"))
        except ValueError:
            raise JournalError(f"{text!r} is no journal position; take one from `holdfast journal status`") from None
        return cls(epoch, tick, seq)


class Batch(msgspec.Struct, frozen=True):
    """What a handler gets: changes in order, at least one, and the position behind them."""

    changes: list[Change]
    position: Position


def reset_everything(tick: int) -> Change:
    """The change that tells a follower to rebuild whatever it derives."""
    return Change(0, tick, EVERYTHING, "reset", None, None, None, None, None, None, None)
