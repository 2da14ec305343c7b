"""Models of an office that organisations share: tenanted, deleted softly, attributed, with keys of their own."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, MetaData, func, select
from sqlalchemy.orm import Mapped, column_property, mapped_column, query_expression, relationship

from holdfast.model import (
    NAMING,
    Attributed,
    KeyedModel,
    Model,
    Policy,
    SoftDeleted,
    Timestamps,
    Versioned,
    live_unique,
)
from holdfast.store import Searchable


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class KeyedBase(KeyedModel):
    __abstract__ = True
    metadata = Base.metadata


class Country(Base):
    """Everybody's."""

    __tablename__ = "countries"

    name: Mapped[str]
    folders: Mapped[list[Folder]] = relationship(back_populates="country")


class Notice(Base):
    """Everybody's, to be found by what it says."""

    __tablename__ = "notices"
    __policy__ = Policy(Searchable("text"))

    text: Mapped[str]


class Folder(Timestamps, Versioned, Attributed, SoftDeleted, Base):
    """An organisation's; no two that are not deleted have one title."""

    __tablename__ = "folders"
    __policy__ = Policy(tenant="org")
    __table_args__ = (live_unique("org", "title"),)

    org: Mapped[str]
    title: Mapped[str]
    pages: Mapped[int] = mapped_column(default=0)
    deleted_by: Mapped[str | None]
    country_id: Mapped[UUID | None] = mapped_column(ForeignKey("countries.id"))

    country: Mapped[Country | None] = relationship(back_populates="folders")
    sheets: Mapped[list[Sheet]] = relationship(back_populates="folder", order_by="Sheet.text", viewonly=True)


class Sheet(SoftDeleted, Base):
    """In a folder of the same organisation."""

    __tablename__ = "sheets"
    __policy__ = Policy(Searchable("text"), tenant="org")
    __table_args__ = (ForeignKeyConstraint(("org", "folder_id"), ("folders.org", "folders.id")),)

    org: Mapped[str]
    folder_id: Mapped[UUID]
    text: Mapped[str]

    folder: Mapped[Folder] = relationship(back_populates="sheets", viewonly=True)


class Membership(Versioned, KeyedBase):
    """Who belongs to an organisation; the key is both."""

    __tablename__ = "memberships"
    __policy__ = Policy(tenant="org")

    org: Mapped[str] = mapped_column(primary_key=True)
    member: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(default="reader")


class Report(Base):
    """Everybody's, with columns that are read from what is an organisation's."""

    __tablename__ = "reports"

    name: Mapped[str]
    folders: Mapped[int] = column_property(select(func.count(Folder.id)).scalar_subquery())
    last: Mapped[str | None] = column_property(select(func.max(Folder.title)).scalar_subquery(), deferred=True)
    asked: Mapped[str | None] = query_expression()


class Line(KeyedBase):
    """A line of an order, by two numbers, one of which has another name in the table."""

    __tablename__ = "lines"
    __policy__ = Policy(Searchable("text"))

    order: Mapped[int] = mapped_column("order_number", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")


class Currency(KeyedBase):
    """By its code."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(primary_key=True)
    decimals: Mapped[int] = mapped_column(default=2)
