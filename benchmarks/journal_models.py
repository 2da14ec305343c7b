"""The tables that the journal benchmark writes: two kinds of rows, each under three policies."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, MetaData, Table
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from holdfast.model import NAMING, Amount, Aspect, Model, Policy, uuid7

metadata = MetaData(naming_convention=NAMING)
"""Apart from that of other models, so that opening a database with theirs does not make these."""


class Recorded(Aspect):
    """Puts columns into the journal with every change, as a rollup or a cache tag would."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        return self.columns


KEYS_ONLY = Policy()
NOT_AT_ALL = Policy(capture=False)


class Entry(Model):
    """A narrow row that is cheap to write: what capture adds weighs most here, so here its limits are held."""

    __abstract__ = True
    metadata = metadata

    account_id: Mapped[int]
    kind: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger())
    quantity: Mapped[int]
    settled: Mapped[bool]
    note: Mapped[str]
    created_at: Mapped[dt.datetime]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index, ...]:
        return (Index(None, "created_at"),)


class UncapturedEntry(Entry):
    __tablename__ = "entries_uncaptured"
    __policy__ = NOT_AT_ALL


class KeyedEntry(Entry):
    __tablename__ = "entries_keyed"
    __policy__ = KEYS_ONLY


class FactualEntry(Entry):
    __tablename__ = "entries_factual"
    __policy__ = Policy(Recorded("account_id", "kind", "amount", "created_at"))


class Payment(Model):
    """A wider row with an exact amount, and an index in which new rows land anywhere."""

    __abstract__ = True
    metadata = metadata

    agent_id: Mapped[UUID]
    signature: Mapped[str]
    mint: Mapped[str]
    amount: Mapped[int] = mapped_column(Amount())
    slot: Mapped[int] = mapped_column(BigInteger())
    successful: Mapped[bool]
    created_at: Mapped[dt.datetime]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index, ...]:
        return (Index(None, "agent_id", "created_at"),)


class UncapturedPayment(Payment):
    __tablename__ = "payments_uncaptured"
    __policy__ = NOT_AT_ALL


class KeyedPayment(Payment):
    __tablename__ = "payments_keyed"
    __policy__ = KEYS_ONLY


class FactualPayment(Payment):
    """Its facts are those of a rollup by day, token and agent."""

    __tablename__ = "payments_factual"
    __policy__ = Policy(Recorded("agent_id", "mint", "amount", "created_at"))


@dataclass(frozen=True)
class Kind:
    """One kind of rows, and the models that have them."""

    name: str
    uncaptured: type[Model]
    keyed: type[Model]
    factual: type[Model]

    @property
    def columns(self) -> list[str]:
        """In the order of the tuples that `rows_of` makes."""
        return [column.name for column in table_of(self.uncaptured).columns]

    def subjects(self) -> dict[str, Table]:
        """The tables, by what is captured of them."""
        return {
            "not captured": table_of(self.uncaptured),
            "keys": table_of(self.keyed),
            "four facts": table_of(self.factual),
        }


ENTRIES = Kind("narrow rows", UncapturedEntry, KeyedEntry, FactualEntry)
PAYMENTS = Kind("wide rows", UncapturedPayment, KeyedPayment, FactualPayment)


def table_of(model: type[Model]) -> Table:
    """The table of `model`."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def rows_of(kind: Kind, count: int) -> list[tuple[Any, ...]]:
    """`count` rows, the same with each call but for their keys; keys and times grow, the rest varies."""
    draw = random.Random(1)
    make = _entry if kind is ENTRIES else _payment
    return [make(draw, number) for number in range(count)]


_BEGAN = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DRAW = random.Random(2)
_AGENTS = [UUID(int=_DRAW.getrandbits(128), version=4) for _ in range(1_000)]
_MINTS = ["".join(_DRAW.choices(_BASE58, k=44)) for _ in range(5)]
_SIGNATURES = ["".join(_DRAW.choices(_BASE58, k=80)) for _ in range(1_000)]
_STATES = ("opened", "paid", "refunded", "closed")


def _entry(draw: random.Random, number: int) -> tuple[Any, ...]:
    return (
        uuid7(),
        draw.randrange(10_000),
        draw.choice(_STATES),
        draw.randrange(10**6),
        draw.randrange(10),
        draw.random() < 0.5,
        f"entry {number:08d}",
        _BEGAN + dt.timedelta(milliseconds=1_037 * number),
    )


def _payment(draw: random.Random, number: int) -> tuple[Any, ...]:
    return (
        uuid7(),
        draw.choice(_AGENTS),
        f"{draw.choice(_SIGNATURES)}{number:08d}",
        draw.choice(_MINTS),
        draw.randrange(1, 10**9),
        300_000_000 + number,
        draw.random() < 0.95,
        _BEGAN + dt.timedelta(milliseconds=1_037 * number),
    )
