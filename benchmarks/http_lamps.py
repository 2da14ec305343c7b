"""The model of the benchmark of HTTP."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import Expose, Policy, Warm
from holdfast.apps import accounts
from holdfast.model import NAMING, Model, Timestamps, Versioned


class LampModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Lamp(Timestamps, Versioned, LampModel):
    """A lamp of a lighthouse."""

    __tablename__ = "lamps"
    __policy__ = Policy(Warm(), Expose(cached=True), tenant="org_id")

    org_id: Mapped[UUID]
    name: Mapped[str]
    range_nm: Mapped[int]


METADATA = (LampModel.metadata, accounts.metadata)
