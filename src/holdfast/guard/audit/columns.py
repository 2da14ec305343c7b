"""The columns of the models that keep the trail."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from holdfast.model import Text, uuid7
from holdfast.model.policy import PLAIN

TENANT = 255  # characters


class AuditColumns:
    """Mixed into the model of the trail: `class AuditLog(AuditColumns, KeyedModel)`; the attributes are `Record`'s.

    Its policy is `Policy(AppendOnly(by_workers=True), tenant="tenant", capture=False)`: nothing follows what follows.
    """

    tenant: Mapped[str] = mapped_column(Text(TENANT), primary_key=True, sort_order=-90)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, sort_order=-89, info=PLAIN)
    id: Mapped[UUID] = mapped_column(default=uuid7, sort_order=-88, info=PLAIN)
    created_at: Mapped[dt.datetime] = mapped_column(sort_order=-87, info=PLAIN)
    action: Mapped[str] = mapped_column(Text(100), sort_order=-86, info=PLAIN)
    outcome: Mapped[str] = mapped_column(Text(20), sort_order=-85, info=PLAIN)
    reason: Mapped[str | None] = mapped_column(sort_order=-84, info=PLAIN)
    actor: Mapped[str | None] = mapped_column(sort_order=-83, info=PLAIN)
    impersonator: Mapped[str | None] = mapped_column(sort_order=-82, info=PLAIN)
    target_type: Mapped[str | None] = mapped_column(sort_order=-81, info=PLAIN)
    target_id: Mapped[str | None] = mapped_column(sort_order=-80, info=PLAIN)
    request_id: Mapped[str | None] = mapped_column(sort_order=-79, info=PLAIN)
    changes: Mapped[str | None] = mapped_column(sort_order=-78, info=PLAIN)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary, sort_order=-77, info=PLAIN)  # a ciphertext
    subject: Mapped[str | None] = mapped_column(sort_order=-76, info=PLAIN)
    key_id: Mapped[str] = mapped_column(Text(32), sort_order=-75, info=PLAIN)
    mac: Mapped[bytes] = mapped_column(LargeBinary, sort_order=-74, info=PLAIN)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Index, ...]:
        name = cls.__tablename__  # type: ignore[attr-defined]
        asked = (("created_at",), ("actor",), ("action",), ("target_type", "target_id"), ("request_id",))
        return tuple(Index(f"ix_{name}_{'_'.join(columns)}", "tenant", *columns) for columns in asked)


class AuditHeadColumns:
    """Mixed into the model of the ends of the chains: `class AuditHead(AuditHeadColumns, KeyedModel)`.

    Its policy is `Policy(internal=True, capture=False)`.

    Attributes:
        tenant: whose chain.
        seq, mac: the place and the seal of its last record.
    """

    tenant: Mapped[str] = mapped_column(Text(TENANT), primary_key=True, sort_order=-90)
    seq: Mapped[int] = mapped_column(BigInteger, sort_order=-89, info=PLAIN)
    mac: Mapped[bytes] = mapped_column(LargeBinary, sort_order=-88, info=PLAIN)
