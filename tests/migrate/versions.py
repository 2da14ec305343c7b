"""A small registry in two versions, between which every kind of change lies."""

from __future__ import annotations

import datetime as dt
import re
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Aspect, Count, Model, Policy, Rollup, Timestamps, Versioned
from holdfast.migrate import Limits, Migrations
from holdfast.model import NAMING, Amount, models_of
from holdfast.store import Store


class Facts(Aspect):
    """Has capture carry these columns."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def needs(self, model: type[Any]) -> tuple[str, ...]:
        return self.names


@cache
def first() -> MetaData:
    """Agents and their payments."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class FirstAgent(Timestamps, Versioned, Base):
        __tablename__ = "agents"
        __policy__ = Policy(Facts("nick"), Rollup("agents_daily", time="created_at", by=("name",), n=Count()))
        name: Mapped[str]
        nick: Mapped[str]
        limit: Mapped[int | None] = mapped_column(Amount())

    class FirstPayment(Base):
        __tablename__ = "payments"
        __table_args__ = (Index("ix_payments_at", "at"),)
        agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
        amount: Mapped[int] = mapped_column(Amount())
        at: Mapped[dt.datetime]
        note: Mapped[str | None]

    return Base.metadata


@cache
def second() -> MetaData:
    """Added: a table, columns, an index, constraints. Gone: columns, an index. Changed: what may be NULL, facts."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class SecondAgent(Timestamps, Versioned, Base):
        __tablename__ = "agents"
        __policy__ = Policy(Facts("title"), Rollup("agents_daily", time="created_at", by=("name",), n=Count()))
        __table_args__ = (
            UniqueConstraint("name", "title"),
            Index("ix_agents_title", "title"),
            CheckConstraint("length(name) < 100", name="short"),
        )
        name: Mapped[str]
        title: Mapped[str] = mapped_column(default="none")
        price: Mapped[int] = mapped_column(Amount(), default=7)

    class SecondPayment(Base):
        __tablename__ = "payments"
        agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
        amount: Mapped[int] = mapped_column(Amount())
        at: Mapped[dt.datetime]
        note: Mapped[str]

    class Extra(Base):
        __tablename__ = "extras"
        payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))

    return Base.metadata


@cache
def boxes() -> MetaData:
    """Boxes and lids, both with an index."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class ColouredBox(Base):
        __tablename__ = "boxes"
        label: Mapped[str]
        colour: Mapped[str | None] = mapped_column(index=True)

    class Lid(Base):
        __tablename__ = "lids"
        colour: Mapped[str | None] = mapped_column(index=True)

    return Base.metadata


@cache
def fewer_boxes() -> MetaData:
    """Of the boxes a column is gone with its index, and the lids are with theirs."""

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class Box(Base):
        __tablename__ = "boxes"
        label: Mapped[str]

    return Base.metadata


def migrations(store: Store, folder: Path, metadata: MetaData | None = None, **options: Any) -> Migrations:
    """The migrations of `folder`, for these models; locks are waited for 0.2 s."""
    metadatas = () if metadata is None else (metadata,)
    models = [] if metadata is None else models_of(metadata)
    options.setdefault("limits", Limits(lock_timeout=0.2, give_up=20))
    return Migrations(store, folder, metadatas=metadatas, models=models, before=options.pop("before", ()), **options)


def fill(folder: Path, value: str = "'-'") -> None:
    """Say in the files of `folder` that refuse to run what the rows get that have no value."""
    for path in folder.glob("*.py"):
        text = re.sub(
            r'raise NotImplementedError\("fill (\w+)\.(\w+) before .*"\)',
            lambda found: f'op.execute("UPDATE {found[1]} SET {found[2]} = {value} WHERE {found[2]} IS NULL")',
            path.read_text(),
        )
        path.write_text(text)


def write(folder: Path, name: str, up: str, down: str = "pass", *, follows: str | None = None, more: str = "") -> Path:
    """Write a migration by hand."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(
        f'"""{name} in words."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f"revision = {name!r}\ndown_revision = {follows!r}\n{more}\n\n"
        f"def upgrade() -> None:\n    {up}\n\n\ndef downgrade() -> None:\n    {down}\n"
    )
    return path
