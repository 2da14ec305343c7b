"""Models whose rows are read by key, with columns of every kind."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import JSON, Interval, LargeBinary, MetaData, Numeric, event
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import (
    Amount,
    Cold,
    Encrypted,
    Holdfast,
    Hot,
    KeyedModel,
    Model,
    Policy,
    SoftDeleted,
    Timestamps,
    Versioned,
    Warm,
)
from holdfast.model import NAMING
from tests.backends import settings_for

KEYS = f"k1:{'A' * 43}="


class RowBase(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Genre(enum.Enum):
    NOVEL = "n"
    POEM = "p"


class Author(Versioned, Timestamps, SoftDeleted, RowBase):
    """Has a column of each kind that can be shared."""

    __tablename__ = "authors"
    __policy__ = Policy(Warm(tags=("name:{name}",), negative_ttl="1m"))

    name: Mapped[str]
    born: Mapped[dt.date | None]
    wealth: Mapped[int] = mapped_column(Amount(), default=0)
    share: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal(0))
    rating: Mapped[float] = mapped_column(default=0.0)
    is_alive: Mapped[bool] = mapped_column(default=True)
    genre: Mapped[Genre | None]
    mood: Mapped[Literal["glad", "sad"] | None]
    habits: Mapped[Any] = mapped_column(JSON(), nullable=True)
    photo: Mapped[bytes | None] = mapped_column(LargeBinary())
    breakfast: Mapped[dt.time | None]
    naps: Mapped[dt.timedelta | None] = mapped_column(Interval())
    rival: Mapped[UUID | None]
    biography: Mapped[str | None] = mapped_column(deferred=True)


class Fine(RowBase):
    """What a reader owes."""

    __tablename__ = "fines"
    __policy__ = Policy(Hot(negative_ttl="1m", ttl="2m"), tenant="reader")

    reader: Mapped[str]
    cents: Mapped[int]


class Card(RowBase):
    """Has what nobody may see."""

    __tablename__ = "cards"
    __policy__ = Policy(secret=("pin",))

    pin: Mapped[str]
    holder: Mapped[str]


class Letter(RowBase):
    """Has what the database may not see."""

    __tablename__ = "letters"
    __policy__ = Policy(Cold())

    body: Mapped[Any] = mapped_column(Encrypted(JSON))


class Shelf(KeyedModel, RowBase):
    """Has a key of two columns."""

    __tablename__ = "shelves"

    hall: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[int]


class Word(KeyedModel, RowBase):
    """Has a key that anybody may write."""

    __tablename__ = "words"
    __policy__ = Policy(Warm(negative_ttl="1m"))

    word: Mapped[str] = mapped_column(primary_key=True)
    meaning: Mapped[str]


class Visit(RowBase):
    """Changes often, and is read at once."""

    __tablename__ = "visits"
    __policy__ = Policy(Warm(write_through=True))

    place: Mapped[str]
    guests: Mapped[int] = mapped_column(default=0)


class Debt(RowBase):
    """As `Visit`, of somebody."""

    __tablename__ = "debts"
    __policy__ = Policy(Warm(write_through=True), tenant="reader")

    reader: Mapped[str]
    cents: Mapped[int]


class Rumour(RowBase):
    """Nobody learns of its changes."""

    __tablename__ = "rumours"
    __policy__ = Policy(capture=False)

    told: Mapped[str]


@asynccontextmanager
async def opened(url: str, redis_url: str | None = None, *, migrate: bool = True) -> AsyncIterator[Holdfast]:
    """A data layer with these models."""
    settings = settings_for(url, redis_url=redis_url, redis_timeout=5.0, encryption_keys=KEYS)
    async with await Holdfast.open(settings=settings, metadata=RowBase.metadata, migrate=migrate) as hold:
        yield hold


@contextmanager
def reading(hold: Holdfast, table: str) -> Iterator[list[str]]:
    """The statements that read `table`, as they are made."""
    made: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT") and f"FROM {table}" in statement:
            made.append(statement)

    engines = {engine.sync_engine for engine in (hold.store.engine, hold.store.read_engine)}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
