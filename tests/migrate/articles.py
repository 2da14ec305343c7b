"""What is backfilled: articles, with tags in a JSON array, and the table that the tags are to move to."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, ForeignKey, MetaData, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import KeyedModel, Model, SoftDeleted, Timestamps, Versioned
from holdfast.model import NAMING, Policy

METADATA = MetaData(naming_convention=NAMING)


class Article(Timestamps, Versioned, SoftDeleted, Model):
    __tablename__ = "articles"
    __table_args__ = (CheckConstraint("title <> 'BAD'", name="good"),)
    metadata = METADATA

    name: Mapped[str]
    title: Mapped[str | None]
    seen: Mapped[int] = mapped_column(default=0)
    tags: Mapped[list[str] | None] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


class Tag(Model):
    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("article_id", "tag"),)
    metadata = METADATA

    article_id: Mapped[UUID] = mapped_column(ForeignKey("articles.id"))
    tag: Mapped[str]


class Seat(KeyedModel):
    __tablename__ = "seats"
    __policy__ = Policy(tenant="org")
    metadata = METADATA

    org: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None]
