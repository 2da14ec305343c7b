"""Models of a small shop, with a column of every kind that an order or a page can meet."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import Float, ForeignKey, MetaData, Numeric
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast.model import NAMING, Amount, Model, Policy, Timestamps, Versioned


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Maker(Timestamps, Base):
    """Who makes parts; its name is unique."""

    __tablename__ = "makers"
    __policy__ = Policy(private=("name",))

    name: Mapped[str] = mapped_column(unique=True)
    parts: Mapped[list[Part]] = relationship(back_populates="maker", order_by="Part.title")


class Part(Timestamps, Versioned, Base):
    """A part of a kind, in a shop."""

    __tablename__ = "parts"

    title: Mapped[str]
    price: Mapped[int] = mapped_column(Amount(), default=0)
    rebate: Mapped[int | None] = mapped_column(Amount())
    stock: Mapped[int] = mapped_column(default=0)
    weight: Mapped[float | None] = mapped_column(Float)
    width: Mapped[object | None] = mapped_column(Numeric(10, 3))
    seen_at: Mapped[dt.datetime | None]
    made_on: Mapped[dt.date | None]
    fragile: Mapped[bool] = mapped_column(default=False)
    colour: Mapped[str | None] = mapped_column("colour_name")
    maker_id: Mapped[UUID | None] = mapped_column(ForeignKey("makers.id"))

    maker: Mapped[Maker | None] = relationship(back_populates="parts")
    reviews: Mapped[list[Review]] = relationship(back_populates="part")


class Review(Base):
    """What somebody thinks of a part: one to five stars."""

    __tablename__ = "reviews"

    stars: Mapped[int]
    part_id: Mapped[UUID] = mapped_column(ForeignKey("parts.id"))
    part: Mapped[Part] = relationship(back_populates="reviews")
