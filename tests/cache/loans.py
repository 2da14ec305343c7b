"""Models of a library, and loaders that count how often they load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import Holdfast, Load, Model, Policy, Query, Warm
from holdfast.model import NAMING


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Loan(Base):
    """A book that somebody has at home."""

    __tablename__ = "loans"
    __policy__ = Policy(Warm(tags=("reader:{reader}", "branch:{branch}:{reader}")))

    reader: Mapped[str]
    title: Mapped[str]
    branch: Mapped[str | None]


class Loans:
    """Loads the titles that a reader has.

    Attributes:
        count: how often it loaded.
        before, after: awaited before and after reading, if given.
    """

    def __init__(self, hold: Holdfast) -> None:
        self.hold = hold
        self.count = 0
        self.before: Callable[[], Awaitable[Any]] | None = None
        self.after: Callable[[], Awaitable[Any]] | None = None

    async def __call__(self, load: Load) -> list[str]:
        self.count += 1
        reader = load.key.partition(":")[2]
        load.tags(f"reader:{reader}")
        if self.before is not None:
            await self.before()
        async with self.hold.read() as unit:
            rows = await unit[Loan].list(Query(Loan).where(reader=reader).order_by("title"))
        if self.after is not None:
            await self.after()
        return [row.title for row in rows]


async def lend(hold: Holdfast, reader: str, *titles: str, branch: str | None = None) -> None:
    """Commit that `reader` has `titles` now."""
    async with hold.unit() as unit:
        await unit[Loan].add_many([{"reader": reader, "title": title, "branch": branch} for title in titles])
