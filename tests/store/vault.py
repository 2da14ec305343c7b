"""Models with encrypted columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.model import NAMING, Encrypted, Model, Policy, Timestamps, Versioned


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Person(Timestamps, Versioned, Base):
    """Found by e-mail address, which is unique; nothing else of a person can be looked for."""

    __tablename__ = "people"
    __table_args__ = (UniqueConstraint("email_blind"),)

    name: Mapped[str]
    email: Mapped[str | None] = mapped_column(Encrypted(blind=True, normalise=str.casefold))
    note: Mapped[str | None] = mapped_column(Encrypted())
    photo: Mapped[bytes | None] = mapped_column("photo_bytes", Encrypted(bytes))
    facts: Mapped[Any] = mapped_column(Encrypted(JSON), nullable=True)


class Account(Base):
    """A tenant's."""

    __tablename__ = "accounts"
    __policy__ = Policy(tenant="org")

    org: Mapped[str]
    iban: Mapped[str] = mapped_column("iban_code", Encrypted(blind=True))
