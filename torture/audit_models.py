"""The tables of the audit trail's torture. What was committed is read off them: it was committed with them.

A deed has a version for each write, 1, 2, 3, …; who deletes one digs its grave in the same transaction. A saying is put
on record by a unit that also keeps it as a row.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import AppendOnly, Audited, KeyedModel, Model, Policy
from holdfast.guard.audit import AuditColumns, AuditHeadColumns
from holdfast.model import NAMING, uuid7

metadata = MetaData(naming_convention=NAMING)
"""Apart from that of other models, so that opening a database with theirs does not make these."""

TENANTS = tuple(f"t{number}" for number in range(7))


class Deed(Model):
    """What is audited."""

    metadata = metadata
    __tablename__ = "deeds"
    __policy__ = Policy(Audited(subject="tenant"), tenant="tenant", private=("word",))
    tenant: Mapped[str]
    version: Mapped[int]
    word: Mapped[str]


class Grave(KeyedModel):
    """A deed that was deleted, and the version it had."""

    metadata = metadata
    __tablename__ = "graves"
    __policy__ = Policy(capture=False)
    id: Mapped[UUID] = mapped_column(primary_key=True)  # type: ignore[assignment]
    tenant: Mapped[str]
    version: Mapped[int]


class Saying(KeyedModel):
    """What was put on record by itself."""

    metadata = metadata
    __tablename__ = "sayings"
    __policy__ = Policy(capture=False)
    id: Mapped[UUID] = mapped_column(primary_key=True)  # type: ignore[assignment]
    tenant: Mapped[str]


class DeedLog(AuditColumns, KeyedModel):
    """The trail."""

    metadata = metadata
    __tablename__ = "audit_logs"
    __policy__ = Policy(AppendOnly(by_workers=True), tenant="tenant", capture=False)
    id: Mapped[UUID] = mapped_column(default=uuid7, sort_order=-88)  # type: ignore[assignment]


class DeedHead(AuditHeadColumns, KeyedModel):
    """The ends of its chains."""

    metadata = metadata
    __tablename__ = "audit_heads"
    __policy__ = Policy(internal=True, capture=False)
