"""Reads of the cache while Redis swallows everything, as behind a firewall that drops packets, and once it is back.

Every read asks Redis, since nothing is kept in memory, and a load takes 20 ms. Readers read without a pause, one after
the other or twenty at a time; Redis is behind a relay that answers nothing for some seconds. A read may wait once for
Redis, for `HOLDFAST_REDIS_TIMEOUT`, and load then; two seconds after Redis is back, reads are served from it again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from typing import Any

from benchmarks.harness import Options, Report, quantile
from devservers import start_redis
from devservers.relay import Relay, relay
from holdfast import Holdfast, Load
from holdfast.cache import HOT
from holdfast.settings import Settings

TIMEOUT = 0.25  # seconds that a read waits for Redis: the default
LOAD = 0.02  # seconds of a load
SLACK = 0.03  # seconds that a loop of two busy cores may be late
BACK = 2.0  # seconds after which Redis is used again
HOLE = (3.0, 5.0)  # seconds for which it answers nothing
KEYS = 200


async def run(options: Options) -> Report:
    """Measure reads before and in the hole, and how soon Redis is used again."""
    report = Report("cache_blackhole", options)
    with tempfile.TemporaryDirectory() as folder, start_redis() as redis:
        async with relay(redis.host, redis.port) as line:
            settings = Settings(
                database_url=f"sqlite:///{folder}/cache.db",
                redis_url=f"redis://127.0.0.1:{line.port}/0",
                redis_timeout=TIMEOUT,
            )
            async with await Holdfast.open(settings=settings) as hold:
                await hold.cache.renew()
                for readers in (1, 20):
                    await _holes(report, hold, line, readers)
    return report


async def _holes(report: Report, hold: Holdfast, line: Relay, readers: int) -> None:
    case = f"{readers} reader{'s' if readers > 1 else ''}"
    figures: dict[str, list[float]] = {}
    reading = _Reading(hold)
    for _ in range(report.options.rounds):
        await reading.all_once()  # has everything kept
        before = await reading.for_a_while(readers, 1.0)
        line.drops = True
        during = await reading.for_a_while(readers, random.uniform(*HOLE))
        line.drops = False
        back = await reading.until_served()
        for name, seconds in (
            ("before, median", quantile(before, 0.5)),
            ("in the hole, median", quantile(during, 0.5)),
            ("in the hole, p99", quantile(during, 0.99)),
            ("in the hole, longest", max(during)),
            ("until Redis is used again", back),
        ):
            figures.setdefault(name, []).append(seconds * 1e3)
    for name, runs in figures.items():
        report.record(case, name, "ms", runs)
    limit = (TIMEOUT + LOAD + SLACK) * 1e3
    report.target(f"{case}: p99 in the hole, ms", max(figures["in the hole, p99"]), at_most=limit)
    back = max(figures["until Redis is used again"])
    report.target(f"{case}: ms until Redis is used again", back, at_most=BACK * 1e3)


class _Reading:
    """Reads of keys in turn, each of which asks Redis."""

    def __init__(self, hold: Holdfast) -> None:
        self._cache = hold.cache
        self._options = HOT.but(skip_l1=True, ttl="1h")
        self._numbers = itertools.count()

    async def all_once(self) -> None:
        """Read every key."""
        await asyncio.gather(*(self._lookup() for _ in range(KEYS)))

    async def for_a_while(self, readers: int, seconds: float) -> list[float]:
        """Have so many read for so long; returns the seconds of each read."""
        end = time.perf_counter() + seconds
        took: list[float] = []

        async def reader() -> None:
            while (began := time.perf_counter()) < end:
                await self._lookup()
                took.append(time.perf_counter() - began)

        await asyncio.gather(*(reader() for _ in range(readers)))
        return took

    async def until_served(self) -> float:
        """Seconds until a read is served from Redis."""
        began = time.perf_counter()
        while (await self._lookup()).loaded:
            pass
        return time.perf_counter() - began

    async def _lookup(self) -> Any:
        key = f"key:{next(self._numbers) % KEYS}"
        return await self._cache.lookup(key, _load, options=self._options)


async def _load(load: Load) -> dict[str, Any]:
    await asyncio.sleep(LOAD)
    return {"of": load.key}
