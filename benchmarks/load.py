"""What one process does under load, on PostgreSQL with Redis: units that it commits, and operations of its cache.

A unit inserts one row of a captured model; 32 tasks commit one after the other each. Of 200 operations of the cache 190
read (`get_or_load` of 1,000 keys), 9 write (`set`) and one ends what carries one of 100 tags, for which an event is
committed; 64 tasks do so. "the cache" reads as it does, from memory first; "Redis alone" leaves the memory of this
process out (`skip_l1`), as for what another one has loaded, and "redis-py" beside it sends GET and SET, no more. What
is read is a dictionary of five members, and what loads it asks nobody.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any
from zlib import crc32

import msgspec
import redis.asyncio
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from benchmarks.harness import Options, Report, per_second
from devservers import start_postgres, start_redis
from holdfast import Holdfast, Load, Policy
from holdfast.cache import Options as Keeping
from holdfast.model import NAMING, Model, Timestamps
from holdfast.settings import Settings

UNITS, COMMITTING = 4_000, 32
OPERATIONS, ASKING = 40_000, 64
KEYS, TAGS = 1_000, 100

TRANSACTIONS = 1_000  # a second
CACHED = 10_000  # a second

COMMITTED, OPERATED = "committed units", "operations of the cache"
CACHE = "the cache"


class LoadModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Buoy(Timestamps, LoadModel):
    """A buoy."""

    __tablename__ = "benchmark_buoys"
    __policy__ = Policy()

    name: Mapped[str]
    depth: Mapped[int]


async def run(options: Options) -> Report:
    """Measure both."""
    report = Report("load", options)
    with start_postgres() as postgres, start_redis() as cache, postgres.database() as url:
        settings = Settings(database_url=url, redis_url=cache.url)
        async with await Holdfast.open(settings=settings, metadata=LoadModel.metadata) as hold:
            units, operations = options.scaled(UNITS), options.scaled(OPERATIONS)
            await report.measure(COMMITTED, "1/s", {"PostgreSQL": per_second(lambda: _commit(hold, units), units)})
            await report.measure(
                OPERATED,
                "1/s",
                {
                    CACHE: per_second(lambda: _operate(hold, "memory", operations), operations),
                    "Redis alone": per_second(lambda: _operate(hold, "redis", operations, skip_l1=True), operations),
                    "redis-py": per_second(lambda: _ask(cache.url, operations), operations),
                },
            )
    report.target("transactions a second", report.median(COMMITTED, "PostgreSQL"), at_least=TRANSACTIONS)
    report.target("operations of the cache a second", report.median(OPERATED, CACHE), at_least=CACHED)
    return report


async def _commit(hold: Holdfast, units: int) -> None:
    numbers = iter(range(units))

    async def commit() -> None:
        for number in numbers:
            async with hold.unit() as unit:
                await unit[Buoy].add(Buoy(name=f"buoy {number}", depth=number))

    await asyncio.gather(*(commit() for _ in range(COMMITTING)))


async def _operate(hold: Holdfast, name: str, operations: int, **given: Any) -> None:
    chance, keeping = random.Random(11), Keeping.of(ttl="10m", **given)
    keys = [f"{name}:{number}" for number in range(KEYS)]
    numbers = iter(range(operations))

    async def load(load: Load) -> dict[str, Any]:
        return _value(load.key)

    def tag(key: str) -> str:
        return f"buoys:{crc32(key.encode()) % TAGS}"

    async def operate() -> None:
        for number in numbers:
            key = chance.choice(keys)
            kind = number % 200
            if kind == 0:
                await hold.cache.invalidate(tag(key))
            elif kind < 10:
                await hold.cache.set(key, _value(key), options=keeping, tags=(tag(key),))
            else:
                await hold.cache.get_or_load(key, load, options=keeping, tags=(tag(key),))

    await asyncio.gather(*(operate() for _ in range(ASKING)))


async def _ask(url: str, operations: int) -> None:
    """The same reads and writes by redis-py itself: of 200 operations 190 GET and 10 SET."""
    chance, numbers = random.Random(11), iter(range(operations))
    async with redis.asyncio.Redis.from_url(url) as client:
        written = msgspec.json.encode(_value("plain:0"))
        for number in range(KEYS):
            await client.set(f"plain:{number}", written, px=600_000)

        async def ask() -> None:
            for number in numbers:
                key = f"plain:{chance.randrange(KEYS)}"
                if number % 200 < 10:
                    await client.set(key, msgspec.json.encode(_value(key)), px=600_000)
                else:
                    msgspec.json.decode(await client.get(key) or b"null")

        await asyncio.gather(*(ask() for _ in range(ASKING)))


def _value(key: str) -> dict[str, Any]:
    return {"key": key, "depth": 12, "lit": True, "colour": "green", "seen": "2026-01-31"}
