"""Models that capture must cope with, and a journal over each backend."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import JSON, Float, ForeignKey, Index, LargeBinary, MetaData, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import journal
from holdfast.journal import Batch, Change, Journal
from holdfast.model import Amount, Aspect, Model, Policy
from holdfast.store import Store
from tests.backends import EVERY_BACKEND, settings_for


class Facts(Aspect):
    """Carries columns into the journal, as real aspects do."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        return self.columns


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Note(Base):
    """The plain case: no facts, no tenant."""

    __tablename__ = "notes"
    text: Mapped[str | None]
    n: Mapped[int] = mapped_column(default=0, server_default="0")


class Payment(Base):
    """Tenanted, with a fact of every kind."""

    __tablename__ = "payments"
    __policy__ = Policy(
        Facts("amount", "price", "ratio", "token", "ok", "paid_at", "payee", "blob", "extra"),
        tenant="owner",
        truncate=False,
    )
    __table_args__ = (UniqueConstraint("owner", "token"),)
    owner: Mapped[UUID]
    amount: Mapped[int | None] = mapped_column(Amount())
    price: Mapped[Any] = mapped_column(Numeric(20, 6), nullable=True)
    ratio: Mapped[float | None] = mapped_column(Float())
    token: Mapped[str | None]
    ok: Mapped[bool | None]
    paid_at: Mapped[dt.datetime | None]
    payee: Mapped[UUID | None]
    blob: Mapped[bytes | None] = mapped_column(LargeBinary())
    extra: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)


class Line(Base):
    """A child whose rows go with the parent's."""

    __tablename__ = "parts"
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"))


class Odd(Base):
    """Names that need quoting, a composite key, an index of its own."""

    __tablename__ = "odd table"
    __policy__ = Policy(Facts("Ord er"))
    __table_args__ = (Index("odd unique", "Ord er", unique=True),)
    region: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[str | None] = mapped_column("Ord er")


class Quiet(Base):
    """Kept out of the journal."""

    __tablename__ = "quiet"
    __policy__ = Policy(capture=False)


MODELS: list[type[Model]] = [Note, Payment, Line, Odd, Quiet]


async def make_tables(store: Store, models: Iterable[type[Model]] = MODELS) -> None:
    async with store.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await journal.install(connection, models)


@pytest.fixture(params=EVERY_BACKEND)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn, the ones of this room's own included."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store with the models' tables, captured."""
    store = Store(settings_for(database_url, poll_interval=0.05))
    await make_tables(store)
    yield store
    await store.close()


@pytest.fixture
async def log(store: Store) -> AsyncIterator[Journal]:
    """The journal of `store`, with leases short enough to wait for."""
    made = Journal(store, lease=1.0)
    yield made
    await made.close()


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until `condition()`, which may be a coroutine, is true."""
    async with asyncio.timeout(seconds):
        while not (await found if inspect.isawaitable(found := condition()) else found):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Reader:
    """Reads what came since the last time."""

    def __init__(self, log: Journal) -> None:
        self.log = log
        self.position: Any = None

    async def skip(self) -> None:
        self.position = await self.log.make_tick()

    async def changes(self) -> list[Change]:
        upto = await self.log.make_tick()
        found: list[Change] = []
        async for page in self.log.read(self.position, upto):
            assert not page.lost
            found += page.changes
            self.position = page.position
        return found


@pytest.fixture
async def reader(log: Journal) -> Reader:
    made = Reader(log)
    await made.skip()
    return made


class Taken:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    async def __call__(self, batch: Batch, unit: Any = None) -> None:
        self.changes += batch.changes

    @property
    def rows(self) -> list[Change]:
        return [change for change in self.changes if change.op != "reset"]
