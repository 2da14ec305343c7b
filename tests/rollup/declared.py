"""A model with rollups, on metadata of its own."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Index, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Amount, Count, Model, Policy, Rollup, Sum
from holdfast.model import NAMING


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


DAILY = Rollup(
    "sales_daily",
    time="sold_at",
    by=("shop", "buyer"),
    volume=Sum("amount", where={"status": "settled"}),
    gross=Sum("amount"),
    settled=Count(where={"status": "settled"}),
    sales=Count(),
)
BY_SHOP = Rollup("sales_by_shop", time="sold_at", by=("shop",), volume=Sum("amount"))


class Sale(Base):
    __tablename__ = "sales"
    __policy__ = Policy(DAILY, BY_SHOP)
    __table_args__ = (
        Index("ix_sales_shop_buyer_sold_at", "shop", "buyer", "sold_at"),
        Index("ix_sales_shop_sold_at", "shop", "sold_at"),
    )

    shop: Mapped[str]
    buyer: Mapped[str | None]
    sold_at: Mapped[dt.datetime | None]
    status: Mapped[str] = mapped_column(default="settled")
    amount: Mapped[int] = mapped_column(Amount())
