"""The log of erasures: who is to be forgotten, how far that got, and that it was done."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, Table, inspect, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.model import Text, UtcTime, uuid7
from holdfast.operate.privacy.marks import Marks
from holdfast.store import Store, Unit

metadata = MetaData()
_OPEN = text("done_at IS NULL")
_erasures = Table(
    "holdfast_erasures",
    metadata,
    Column("id", Text(36), primary_key=True),
    Column("subject", Text(255), nullable=False, index=True),
    Column("asked_at", UtcTime(), nullable=False),
    Column("asked_by", Text(255)),
    Column("reason", Text(500)),
    Column("marks", JSON(none_as_null=True)),  # as hashes, until it is done
    Column("erased", JSON(), nullable=False),  # how many, by place
    Column("erased_at", UtcTime()),
    Column("edge", BigInteger()),  # of the journal then
    Column("done_at", UtcTime()),
    Column("failure", Text()),
    Index("holdfast_erasures_open", "subject", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
)


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """That a person is to be forgotten.

    Attributes:
        id: its own.
        subject: the key of the person, which stays in this log: without it nobody could do it again after a restore.
        asked_at, asked_by, reason: when, who asked, and why.
        erased: how many rows, documents, answers, letters and cached values went, by table or place.
        erased_at: when all of them had gone; None while that is under way.
        edge: of the journal, behind which nothing is about him any more.
        done_at: when the journal had forgotten too, and all was gone through once more.
        failure: why the last attempt failed; it is tried again.
    """

    id: str
    subject: str
    asked_at: dt.datetime
    asked_by: str | None = None
    reason: str | None = None
    erased: dict[str, int] = {}
    erased_at: dt.datetime | None = None
    edge: int | None = None
    done_at: dt.datetime | None = None
    failure: str | None = None

    @property
    def state(self) -> str:
        """`asked`, `erased` (the journal remembers for a while), or `done`."""
        return "asked" if self.erased_at is None else "erased" if self.done_at is None else "done"


_FIELDS = Erasure.__struct_fields__
_COLUMNS = [_erasures.c[name] for name in _FIELDS]


async def begin(unit: Unit, subject: str, *, by: str | None, reason: str | None) -> tuple[Erasure, bool]:
    """The open erasure of a person, begun in this unit unless there is one, and whether it was begun."""
    made = Erasure(id=str(uuid7()), subject=subject, asked_at=dt.datetime.now(dt.UTC), asked_by=by, reason=reason)
    values = msgspec.structs.asdict(made)
    connection = await unit.connection()
    insert: Any = (sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert)(_erasures)
    insert = insert.values(values).on_conflict_do_nothing(index_elements=["subject"], index_where=_OPEN)
    asked = select(*_COLUMNS).where(_erasures.c.subject == subject, _erasures.c.done_at.is_(None))
    with unit.translated():
        began = (await connection.execute(insert)).rowcount == 1
        row = (await connection.execute(asked)).one()
    return _erasure(row), began


async def keep_marks(unit: Unit, erasure: Erasure, marks: Marks) -> None:
    """Keep the hashes of what tells the person from others, until it is done."""
    await _set(unit, erasure, {"marks": marks.hashes})


async def marks_of(unit: Unit, erasure: Erasure) -> Marks:
    """What `keep_marks` has kept."""
    connection = await unit.connection()
    asked = select(_erasures.c.marks).where(_erasures.c.id == erasure.id)
    with unit.translated():
        return Marks(erasure.id, (await connection.execute(asked)).scalar() or ())


async def note(unit: Unit, erasure: Erasure, **values: Any) -> Erasure:
    """Keep how far an erasure got."""
    await _set(unit, erasure, values)
    return msgspec.structs.replace(erasure, **values)


async def finish(unit: Unit, erasure: Erasure, erased: Mapping[str, int]) -> Erasure:
    """Keep that an erasure is done, and its marks no more."""
    values = {"erased": dict(erased), "done_at": dt.datetime.now(dt.UTC), "failure": None}
    await _set(unit, erasure, {**values, "marks": None})
    return msgspec.structs.replace(erasure, **values)


async def erasures(store: Store, *, subject: str | None = None, is_open: bool = False) -> list[Erasure]:
    """The log, the oldest first: of one person, or what is not done yet."""
    asked = select(*_COLUMNS).order_by(_erasures.c.asked_at, _erasures.c.id)
    if subject is not None:
        asked = asked.where(_erasures.c.subject == subject)
    if is_open:
        asked = asked.where(_erasures.c.done_at.is_(None))
    async with store.connect() as connection:
        return [_erasure(row) for row in await connection.execute(asked)]


async def is_there(store: Store) -> bool:
    """Whether the database has a log: it was migrated since there is one."""
    async with store.connect() as connection:
        return await connection.run_sync(lambda plain: inspect(plain).has_table(_erasures.name))


async def _set(unit: Unit, erasure: Erasure, values: Mapping[str, Any]) -> None:
    connection = await unit.connection()
    with unit.translated():
        await connection.execute(update(_erasures).where(_erasures.c.id == erasure.id).values(dict(values)))


def _erasure(row: Any) -> Erasure:
    return Erasure(**dict(zip(_FIELDS, row, strict=True)))
