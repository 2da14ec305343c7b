"""API keys among 100,000: how long it takes to say whose one is, from memory, from Redis and from the database.

On PostgreSQL with Redis, one caller at a time. The figures are 99th percentiles of single calls, the clock included.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from benchmarks.harness import Options, Report
from devservers import start_postgres, start_redis
from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import ApiKey, ApiKeyUse, User
from holdfast.guard.keys import Peppers
from holdfast.guard.keys.text import new_key, read_key
from holdfast.settings import Settings

MEMORY = 0.050  # ms, of 100 calls the slowest but one
SHARED = 2.0
DATABASE = 5.0

KEYS = 100_000
CALLS = 1_000
CASE = "p99 of a verification"


async def run(options: Options) -> Report:
    """Measure each level."""
    report = Report("keys", options)
    with start_postgres() as postgres, start_redis() as redis, postgres.database() as url:
        settings = Settings(database_url=url, redis_url=redis.url)
        async with (
            await Holdfast.open(settings=settings, metadata=accounts.metadata) as one,
            await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as two,
        ):
            texts = await _made(one, options.scaled(KEYS))
            await _verified(report, one, two, texts, min(options.scaled(CALLS), len(texts) // 20))
    return report


async def _made(hold: Holdfast, number: int) -> list[str]:
    """So many keys of one user, as rows; their texts."""
    peppers = Peppers.configured(None, production=False)
    texts = [new_key("hold", "live") for _ in range(number)]
    async with hold.unit(tenant=ALL) as unit:
        user = await unit[User].add(User(external_id="benchmark"))
        await unit[ApiKey].add_many([_row(text, peppers, user) for text in texts])
        keys = [row[0] for row in await unit.execute("SELECT id FROM api_keys")]
        await unit[ApiKeyUse].add_many([{"key_id": key} for key in keys])
        await unit.execute("ANALYZE api_keys")
    return texts


def _row(text: str, peppers: Peppers, user: User) -> dict[str, Any]:
    read = read_key(text)
    assert read is not None
    return {
        "lookup": peppers.hashed(text),
        "pepper": peppers.ids[0],
        "shown": read.shown,
        "name": "benchmark",
        "user_id": user.id,
        "scopes": ["tools:read"],
    }


async def _verified(report: Report, one: Holdfast, two: Holdfast, texts: list[str], calls: int) -> None:
    random.Random(17).shuffle(texts)
    parts = (texts[start : start + calls] for start in count(0, calls))

    async def p99(hold: Holdfast, these: Sequence[str]) -> float:
        taken = []
        for text in these:
            began = time.perf_counter()
            await hold.keys.verify(text, scope="tools:read")
            taken.append(time.perf_counter() - began)
        return sorted(taken)[int(len(taken) * 0.99)] * 1e3

    async def level(before: Callable[[list[str]], Any], hold: Holdfast) -> float:
        these = next(parts)
        await before(these)
        return await p99(hold, these)

    async def nothing(these: list[str]) -> None:
        assert these, "every key was seen already"

    await report.measure(
        CASE,
        "ms",
        {
            "memory": lambda: level(lambda these: p99(one, these), one),
            "Redis": lambda: level(lambda these: p99(two, these), one),
            "database": lambda: level(nothing, one),
        },
    )
    report.target("ms, p99 from memory", report.median(CASE, "memory"), at_most=MEMORY)
    report.target("ms, p99 from Redis", report.median(CASE, "Redis"), at_most=SHARED)
    report.target("ms, p99 from the database", report.median(CASE, "database"), at_most=DATABASE)
