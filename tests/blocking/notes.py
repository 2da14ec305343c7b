"""What the tests of the blocking face keep, here and in processes of their own."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import Holdfast, Model
from holdfast.blocking import BlockingHoldfast
from tests.backends import settings_for


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Note(Base):
    __tablename__ = "notes"
    text: Mapped[str]
    usage_count: Mapped[int | None]
    last_used_at: Mapped[dt.datetime | None]


def opening(url: str) -> BlockingHoldfast:
    """A blocking data layer of notes."""
    return Holdfast.blocking(settings=settings_for(url), metadata=Base.metadata)
