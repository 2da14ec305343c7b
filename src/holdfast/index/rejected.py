"""Records that were not what they should be, kept with where they stood and why, so that nothing is lost silently."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.model import Text, UtcTime
from holdfast.store import Unit

_LONGEST = 2_000  # characters of a reason that are kept: it may quote what came from outside

metadata = MetaData()
rejected = Table(
    "holdfast_rejected_records",
    metadata,
    Column("source", Text(), nullable=False),
    Column("file", Text(), nullable=False),
    Column("place", Text(), nullable=False),  # where in the file, as the reader says; "" for the file as a whole
    Column("reason", Text(), nullable=False),
    Column("at", UtcTime(), nullable=False),
    PrimaryKeyConstraint("source", "file", "place"),
)


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could not be indexed."""

    source: str
    file: str
    place: str
    reason: str


async def reject(unit: Unit, records: Sequence[Rejected]) -> None:
    """Keep `records`; one that was rejected before keeps its row, with the newest reason."""
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "source": _clean(record.source),
            "file": _clean(record.file),
            "place": _clean(record.place),
            "reason": _clean(record.reason)[:_LONGEST],
            "at": now,
        }
        for record in records
    ]
    if not rows:
        return
    statement: Any = (sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert)(rejected)
    newest = {"reason": statement.excluded.reason, "at": statement.excluded.at}
    await unit.execute(statement.on_conflict_do_update(index_elements=["source", "file", "place"], set_=newest), rows)


async def list_rejected(unit: Unit, *, source: str | None = None, limit: int = 1_000) -> list[Rejected]:
    """The newest rejected records, at most `limit`."""
    statement = select(rejected.c.source, rejected.c.file, rejected.c.place, rejected.c.reason)
    if source is not None:
        statement = statement.where(rejected.c.source == source)
    rows: Iterable[Any] = await unit.execute(statement.order_by(rejected.c.at.desc()).limit(limit))
    return [Rejected(source=s, file=f, place=p, reason=r) for s, f, p, r in rows]


def _clean(text: str) -> str:
    """File names and reasons may hold anything; the database takes text without NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
