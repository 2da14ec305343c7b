"""The documents that the torture of the cache reads and changes, by groups."""

from __future__ import annotations

import struct

import msgspec
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import KeyedModel, Policy, Warm
from holdfast.model import NAMING

DOCUMENTS = 60
GROUPS = 12
MAX_STALENESS = 1.0  # seconds: what is promised

READ = struct.Struct("<dhib")
"""One read of a document: when it began (seconds of the boot clock), which, the version, whether it was told stale."""

COMMIT = struct.Struct("<dhi")
"""One commit: when it had returned, which document, the version."""


class Base(KeyedModel):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Document(Base):
    """One that is read often and changed often; its version grows by one with each commit."""

    __tablename__ = "documents"
    __policy__ = Policy(Warm(tags=("group:{part_of}",)))

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    part_of: Mapped[int]
    version: Mapped[int] = mapped_column(default=0)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the run is told.

    Attributes:
        url, redis: where the database is, and Redis.
        number: which of the nodes or writers it is.
        file: where its notes go.
        readers: tasks that read at a time, or write.
        seed, plant: as in the run's options.
    """

    url: str
    redis: str
    number: int
    file: str
    readers: int
    seed: int
    plant: str | None = None
