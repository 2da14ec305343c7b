"""The 16 manners of writing on each backend: one step of each is one transaction, or none that is kept."""

# ruff: noqa: S608  statements are made of numbers that are drawn here
from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg

from torture.journal_models import HOT, PARTITIONS
from torture.journal_transactions import TakenBack, Transaction, Transactor, Work, Write

OWN = 10_000_000  # ids of its own that a writer has
NAMES = 12  # names of `slots` that a writer has


class Hand:
    """A writer: its draw, its ids, and what it knows of its rows."""

    def __init__(
        self,
        number: int,
        name: str,
        draw: random.Random,
        transactor: Transactor,
        hold: tuple[float, float],
        sibling: str | None,
        stop: asyncio.Event,
    ) -> None:
        self.number, self.name, self.draw, self.by = number, name, draw, transactor
        self.sibling = sibling
        self._hold, self._stop = hold, stop
        self._ids = itertools.count((number + 1) * OWN)
        self._versions = itertools.count(1)
        self.generation = 0
        self.connection: Any = None
        self.actor = f"{name}-{number}"

    def new_id(self) -> int:
        """An id that no row ever had."""
        return next(self._ids)

    def new_version(self) -> int:
        """A version higher than any that this writer gave before."""
        return next(self._versions)

    async def hold(self, times: float = 1) -> None:
        """Wait for as long as a long transaction stays open, but not past the end of the work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(times * self.draw.uniform(*self._hold)):
                await self._stop.wait()

    async def close(self) -> None:
        """Close what is open."""
        if self.connection is not None:
            await self.connection.close()

    async def insert(self, t: Transaction, rows: int = 1) -> None:
        """Rows of `things`, of its own."""
        ids = [self.new_id() for _ in range(rows)]
        await t.sql(f"INSERT INTO things (id, version) VALUES {', '.join(f'({id}, 1)' for id in ids)}")
        for id in ids:
            t.wrote("things", id, "insert", 1)

    async def part(self, t: Transaction, table: str = "parts", buckets: tuple[int, int] = (0, 200)) -> None:
        """A row of `parts`, through `table`; then a higher version of it."""
        id, bucket = self.new_id(), self.draw.randrange(*buckets)
        await t.sql(f"INSERT INTO {table} (id, bucket, version) VALUES ({id}, {bucket}, 1)")
        await t.sql(f"UPDATE {table} SET version = version + 1 WHERE id = {id} AND bucket = {bucket}")
        t.wrote("parts", f"[{id},{bucket}]", "insert", 1)
        t.wrote("parts", f"[{id},{bucket}]", "update", 2)

    async def hot(self, t: Transaction, rows: int = 1) -> None:
        """Rows that every writer updates; in one order, so that writers seldom deadlock."""
        for id in sorted(self.draw.sample(range(1, HOT + 1), rows)):
            [(version,)] = await t.sql(f"UPDATE things SET version = version + 1 WHERE id = {id} RETURNING version")
            t.wrote("things", id, "update", version)

    async def again(self, t: Transaction) -> None:
        """A row of its own, deleted and inserted again under the same key."""
        id = self.new_id()
        await t.sql(f"INSERT INTO things (id, version) VALUES ({id}, 1)")
        await t.sql(f"DELETE FROM things WHERE id = {id}")
        await t.sql(f"INSERT INTO things (id, version) VALUES ({id}, 2)")
        t.wrote("things", id, "insert", 1)
        t.wrote("things", id, "delete", 1)
        t.wrote("things", id, "insert", 2)

    async def move(self, t: Transaction, *, table: str = "parts") -> None:
        """A row whose key is changed: the old one is deleted, the new one inserted."""
        id, first, second = self.new_id(), *self.draw.sample(range(200), 2)
        await t.sql(f"INSERT INTO {table} (id, bucket, version) VALUES ({id}, {first}, 1)")
        await t.sql(f"UPDATE {table} SET bucket = {second}, version = 2 WHERE id = {id} AND bucket = {first}")
        t.wrote("parts", f"[{id},{first}]", "insert", 1)
        t.wrote("parts", f"[{id},{first}]", "delete", 1)
        t.wrote("parts", f"[{id},{second}]", "insert", 2)

    def mixed(self, most: int = 3) -> Work:
        """Some of the plain writes, in a drawn order."""
        parts: list[Work] = [self.insert, self.hot, self.again, self.part, self.move]
        chosen = self.draw.choices(parts, weights=(3, 4, 1, 2, 1), k=self.draw.randint(1, most))

        async def work(t: Transaction) -> None:
            for part in chosen:
                await part(t)

        return work


async def units(hand: Hand) -> None:
    """Units of the store, with an actor for each."""
    await hand.by.unit(hand.mixed(), f"{hand.actor}-{hand.by.count}")


async def long_units(hand: Hand) -> None:
    """Units that stay open, and write to rows that others wrote meanwhile."""

    async def work(t: Transaction) -> None:
        await hand.insert(t)
        await hand.hold()
        await hand.hot(t, 3)

    await hand.by.unit(work, hand.actor)


async def long_raw(hand: Hand) -> None:
    """The same through the driver."""

    async def work(t: Transaction) -> None:
        await hand.part(t)
        await hand.hold()
        await hand.hot(t, 3)

    await hand.by.raw(work)


def seldom(manner: Callable[[Hand], Awaitable[None]]) -> Callable[[Hand], Awaitable[None]]:
    """As `manner`, after a pause several times as long: while one is open on SQLite, nobody else writes."""

    async def step(hand: Hand) -> None:
        await hand.hold(times=hand.draw.uniform(0, 8))
        await manner(hand)

    return step


async def rolled_back(hand: Hand) -> None:
    """Units of which most are rolled back at the end."""
    mixed = hand.mixed()

    async def work(t: Transaction) -> None:
        await mixed(t)
        if hand.draw.random() < 0.8:
            raise TakenBack

    await hand.by.unit(work, hand.actor)


async def _with_savepoints(hand: Hand, t: Transaction) -> None:
    await hand.insert(t)
    async with t.undone():
        await hand.hot(t, 2)
        await hand.part(t)
    await hand.hot(t)
    async with t.undone():
        await hand.again(t)


async def savepoints(hand: Hand) -> None:
    """Units with parts that are undone."""
    await hand.by.unit(lambda t: _with_savepoints(hand, t), hand.actor)


async def raw_savepoints(hand: Hand) -> None:
    """The same through the driver, now and then rolled back as a whole."""

    async def work(t: Transaction) -> None:
        await _with_savepoints(hand, t)
        if hand.draw.random() < 0.3:
            raise TakenBack

    await hand.by.raw(work)


async def raw(hand: Hand) -> None:
    """The driver, without an actor."""
    await hand.by.raw(hand.mixed())


async def partitions(hand: Hand) -> None:
    """Through the partitions, past their table."""

    async def work(t: Transaction) -> None:
        for name, buckets in PARTITIONS.items():
            await hand.part(t, name, buckets)

    await hand.by.raw(work)


async def keys(hand: Hand) -> None:
    """Updates that change keys: of `things`, and of `parts`, into other partitions."""

    async def work(t: Transaction) -> None:
        await hand.move(t)
        old, new = hand.new_id(), hand.new_id()
        await t.sql(f"INSERT INTO things (id, version) VALUES ({old}, 1)")
        await t.sql(f"UPDATE things SET id = {new}, version = 2 WHERE id = {old}")
        t.wrote("things", old, "insert", 1)
        t.wrote("things", old, "delete", 1)
        t.wrote("things", new, "insert", 2)

    await hand.by.raw(work)


async def truncate(hand: Hand) -> None:
    """Rows of a table of its own, which is emptied by TRUNCATE; now and then that is undone."""
    generation, count = hand.generation, hand.draw.randint(1, 4)
    empties, undone = hand.draw.random() < 0.3, hand.draw.random() < 0.3

    async def work(t: Transaction) -> None:
        await _wiped_rows(hand, t, generation, count)
        if undone:
            async with t.undone():
                await t.sql("TRUNCATE wiped")
        if empties:
            await t.sql("TRUNCATE wiped")
            t.truncated += 1
            hand.generation = generation + 1
            await _wiped_rows(hand, t, generation + 1, count)

    await hand.by.raw(work)


async def empty(hand: Hand) -> None:
    """The same on SQLite, where each row is deleted."""
    generation, count = hand.generation, hand.draw.randint(1, 4)

    async def work(t: Transaction) -> None:
        await _wiped_rows(hand, t, generation, count)
        if hand.draw.random() < 0.3:
            rows = await t.sql("SELECT id, version FROM wiped")
            await t.sql("DELETE FROM wiped")
            for id, version in rows:
                t.wrote("wiped", id, "delete", version)

    await hand.by.raw(work)


async def _wiped_rows(hand: Hand, t: Transaction, generation: int, count: int) -> None:
    for _ in range(count):
        id = hand.new_id()
        await t.sql(f"INSERT INTO wiped (id, version, generation) VALUES ({id}, 1, {generation})")
        t.wrote("wiped", id, "insert", 1)


async def prepared(hand: Hand) -> None:
    """A transaction that is prepared, and committed later."""

    async def work(t: Transaction) -> None:
        await hand.insert(t, 2)
        await hand.hot(t)  # its lock is kept until the commit

    async def wait() -> None:
        await asyncio.sleep(hand.draw.uniform(0.1, 1.0))

    await hand.by.raw(work, prepared=wait)


async def bulk(hand: Hand) -> None:
    """Statements that write hundreds of rows: by INSERT, and by COPY where there is one."""
    count = hand.draw.choice((1, 127, 128, 129, 400))
    if hand.by.store.dialect == "postgresql" and hand.draw.random() < 0.5:
        ids = [hand.new_id() for _ in range(count)]
        writes = [Write("things", str(id), "insert", 1) for id in ids]
        await hand.by.copy("things", ["id", "version"], [(id, 1) for id in ids], writes)
    else:
        first = hand.new_id()

        async def work(t: Transaction) -> None:
            await hand.insert(t, count)
            changed = await t.sql(
                f"UPDATE things SET version = version + 1 WHERE id > {first} AND id <= {first + count}"
                " RETURNING id, version"
            )
            for id, version in changed:
                t.wrote("things", id, "update", version)

        await hand.by.raw(work)
    await asyncio.sleep(hand.draw.uniform(0.1, 0.3))


async def sibling(hand: Hand) -> None:
    """A writer in another database of the same server: its transactions take ids of the same sequence."""
    if hand.connection is None:
        hand.connection = await asyncpg.connect(hand.sibling)
        await hand.connection.execute("CREATE TABLE IF NOT EXISTS elsewhere (n bigint)")
    async with hand.connection.transaction():
        await hand.connection.execute(f"INSERT INTO elsewhere VALUES ({hand.new_id()})")
        if hand.draw.random() < 0.1:
            await hand.hold()


async def upserts(hand: Hand) -> None:
    """INSERT … ON CONFLICT DO UPDATE, in units."""
    name = f"{hand.number}-{hand.draw.randrange(NAMES)}"
    id, version = hand.new_id(), hand.new_version()

    async def work(t: Transaction) -> None:
        there = await t.sql(f"SELECT id FROM slots WHERE name = '{name}'")
        await t.sql(
            f"INSERT INTO slots (id, name, version) VALUES ({id}, '{name}', {version})"
            " ON CONFLICT (name) DO UPDATE SET version = excluded.version"
        )
        if there:
            t.wrote("slots", there[0][0], "update", version)
        else:
            t.wrote("slots", id, "insert", version)

    await hand.by.unit(work, hand.actor)


def _replacing(hand: Hand) -> Work:
    """INSERT OR REPLACE: by id, by name, or of two rows at once."""
    base, version = (hand.number + 1) * OWN, hand.new_version()
    id = base + hand.draw.randrange(NAMES)
    name = f"{hand.number}-{hand.draw.randrange(NAMES)}"

    async def work(t: Transaction) -> None:
        evicted = await t.sql(f"SELECT id, version FROM slots WHERE id = {id} OR name = '{name}'")
        await t.sql(f"INSERT OR REPLACE INTO slots (id, name, version) VALUES ({id}, '{name}', {version})")
        for old, its_version in evicted:
            t.wrote("slots", old, "delete", its_version)
        t.wrote("slots", id, "insert", version)

    return work


async def raw_replace(hand: Hand) -> None:
    """INSERT OR REPLACE through the driver."""
    await hand.by.raw(_replacing(hand))


async def unit_replace(hand: Hand) -> None:
    """INSERT OR REPLACE in units."""
    await hand.by.unit(_replacing(hand), hand.actor)


Manner = Callable[[Hand], Awaitable[None]]
POSTGRES: list[Manner] = [
    *(units, units, units, upserts),
    *(long_units, long_raw, rolled_back, savepoints),
    *(raw, raw_savepoints, partitions, keys),
    *(truncate, prepared, bulk, sibling),
]
SQLITE: list[Manner] = [
    *(units, units, units, upserts),
    *(seldom(long_units), seldom(long_raw), rolled_back, savepoints),
    *(raw, raw, raw_savepoints, keys),
    *(raw_replace, unit_replace, bulk, empty),
]
MANNERS: dict[str, list[tuple[str, Manner]]] = {
    "postgresql": [(manner.__name__, manner) for manner in POSTGRES],
    "sqlite": [(manner.__name__, manner) for manner in SQLITE],
}
WRITERS = 16
