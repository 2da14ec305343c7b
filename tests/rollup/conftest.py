"""A database with sales in it, and a follower that takes its steps when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from holdfast import Holdfast, Rollup
from holdfast.journal import Batch, Change, Position
from holdfast.journal.changes import reset_everything
from holdfast.rollup.refresh import refresh
from holdfast.rollup.statements import batch_statement
from tests.rollup.declared import BY_SHOP, DAILY, Base


class Followed:
    """The rollups of `hold`, marked and refreshed step by step instead of in the background."""

    def __init__(self, hold: Holdfast) -> None:
        self.hold = hold
        self.position: Position | None = None

    async def begin(self) -> None:
        """From now on."""
        self.position = await self.hold.journal.make_tick()

    async def follow(self, most: int | None = None) -> None:
        """Mark what changed since the last time; of each page at most the first `most` changes."""
        assert self.position is not None
        upto = await self.hold.journal.make_tick()
        async for page in self.hold.journal.read(self.position, upto):
            changes = page.changes if most is None else page.changes[:most]
            self.position = page.position
            if len(changes) < len(page.changes):
                self.position = self.hold.journal._feed.position_of(changes[-1], page.position.epoch)
            await self.give(changes)
            if most is not None:
                return

    async def give(self, changes: list[Change]) -> None:
        """Hand `changes` to the rollups as the journal does."""
        assert self.position is not None
        batch = Batch(changes, self.position)
        if changes:
            await self.hold.run(lambda unit: self.hold.rollups._follow(batch, unit))

    async def reset(self) -> None:
        """What a follower gets whose history is lost."""
        await self.begin()
        assert self.position is not None
        await self.give([reset_everything(self.position.tick)])

    async def refresh(self, limit: int = 200) -> int:
        """Compute up to `limit` dirty buckets of each rollup."""
        return sum([await refresh(self.hold.store, rollup, limit=limit) for rollup in (DAILY, BY_SHOP)])

    async def settle(self) -> None:
        """Mark and compute everything."""
        await self.follow()
        while await self.refresh():
            pass


async def kept(hold: Holdfast, rollup: Rollup) -> list[tuple[Any, ...]]:
    """The figures in the rollup's table, in order."""
    async with hold.read() as unit:
        return sorted(tuple(row) for row in await unit.execute(select(rollup.results())))


async def computed(hold: Holdfast, rollup: Rollup) -> list[tuple[Any, ...]]:
    """The figures computed from all rows at once, in order."""
    async with hold.read() as unit:
        return sorted(tuple(row) for row in await unit.execute(batch_statement(rollup, hold.store.dialect)))


async def assert_equal_to_the_batch(hold: Holdfast) -> None:
    for rollup in (DAILY, BY_SHOP):
        assert await kept(hold, rollup) == await computed(hold, rollup)


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    """A database with the tables of `declared`, nobody following it."""
    async with await Holdfast.open(database_url, metadata=Base.metadata) as opened:
        yield opened


@pytest.fixture
async def followed(hold: Holdfast) -> Followed:
    steps = Followed(hold)
    await steps.begin()
    return steps
