"""The tables of the journal's torture: captured ones, the outcomes of transactions, the effects of a follower."""

from __future__ import annotations

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import journal
from holdfast.model import Aspect, Model, Policy, models_of
from holdfast.store import Store

metadata = MetaData()
"""Apart from that of other models, so that opening a database with theirs does not make these."""

HOT = 64
"""Rows of `things` that every writer updates, with the ids from 1 on."""

PARTITIONS = {"parts_0": (0, 100), "parts_1": (100, 200)}
"""Partitions of `parts` on PostgreSQL, and the buckets they hold, half-open."""


class Facts(Aspect):
    """Carries columns into the journal, as the aspects of higher rooms do."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        return self.columns


class Base(Model):
    """A row with a number for its key. `version` grows with every write to a key, also over its deletion."""

    __abstract__ = True
    metadata = metadata

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, sort_order=-100)  # type: ignore[assignment]


class Thing(Base):
    """The plain case."""

    __tablename__ = "things"
    __policy__ = Policy(Facts("version"))
    version: Mapped[int]


class Slice(Base):
    """Partitioned on PostgreSQL; a new bucket is a new key, and may be another partition."""

    __tablename__ = "parts"
    __policy__ = Policy(Facts("version"))
    __table_args__ = {"postgresql_partition_by": "RANGE (bucket)"}  # noqa: RUF012  SQLAlchemy's own declaration
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


class Slot(Base):
    """With a second unique key, by which a new row can evict another."""

    __tablename__ = "slots"
    __policy__ = Policy(Facts("version"))
    name: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int]


class Wiped(Base):
    """Emptied as a whole now and then; `generation` is how many times it was emptied before the row came."""

    __tablename__ = "wiped"
    __policy__ = Policy(Facts("version", "generation"))
    version: Mapped[int]
    generation: Mapped[int]


class Outcome(Model):
    """A transaction that was committed: what is asked when its writer was not told."""

    __tablename__ = "outcomes"
    __policy__ = Policy(capture=False)
    metadata = metadata
    id: Mapped[str] = mapped_column(primary_key=True)  # type: ignore[assignment]


class Effect(Model):
    """A change as the transactional follower took it; `id` grows in the order in which it did."""

    __tablename__ = "effects"
    __policy__ = Policy(capture=False)
    metadata = metadata
    id: Mapped[int] = mapped_column(primary_key=True)  # type: ignore[assignment]
    batch: Mapped[str]
    change: Mapped[str]


async def make_tables(store: Store) -> None:
    """Make the tables, their partitions, and the journal's capture of them."""
    async with store.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        if store.dialect == "postgresql":
            for name, (first, end) in PARTITIONS.items():
                await connection.exec_driver_sql(
                    f"CREATE TABLE {name} PARTITION OF parts FOR VALUES FROM ({first}) TO ({end})"
                )
        await journal.install(connection, models_of(metadata))
