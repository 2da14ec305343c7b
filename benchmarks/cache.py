"""The cache beside cashews, aiocache, async-hybrid-cache and dogpile.cache; floors: moka-py alone, redis-py alone.

Freshness is on in ours, so each hit has been held against the journal; the peers have no such thing. All keep the same
value: a small dictionary. async-hybrid-cache is there from Python 3.12 on, which it needs. The database is a SQLite
file, where renewing costs what it costs beside the reads; the stampede runs over four processes on PostgreSQL and
Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from moka_py import Moka

from benchmarks.cache_stampede import stampede
from benchmarks.harness import Options, Report, Subject
from devservers import start_postgres, start_redis
from holdfast import Holdfast, cached
from holdfast.cache import HOT
from holdfast.cache.counts import Counts
from holdfast.cache.statistics import endpoint, timed
from holdfast.settings import Settings

T = TypeVar("T")

DECORATED = 15.0  # times as fast as the decorators of cashews and aiocache
GET = 6.0  # times as fast as the get of cashews and aiocache
FASTER = 1.0  # times as fast as async-hybrid-cache, which has neither statistics nor anything that a value depends on
BLOCKING = 2.0  # times as fast as dogpile's get_or_create
REMOTE = 1.15  # of a raw GET and decoding
MANY = 2.0  # of one MGET
LATE = 0.05  # seconds after the load that the slowest caller of a stampede may wait
COUNTING = 150.0  # nanoseconds of a hit that go into the statistics
TAG = 60.0  # nanoseconds that a tag adds to a hit
INVALIDATE = 2.0  # milliseconds for a tag of a million members

HYBRID = "async-hybrid-cache"

READS = 50_000
SLOW_READS = 5_000
REMOTE_READS = 1_000
BATCHES = 100
KEYS = 100
MEMBERS = 1_000_000
VALUE = {"id": 17, "name": "Ada", "tags": ["a", "b"], "score": 4.5}


async def run(options: Options) -> Report:
    """Measure each level."""
    report = Report("cache", options)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_redis() as redis,
        start_postgres() as postgres,
        postgres.database() as url,
    ):
        settings = Settings(database_url=f"sqlite:///{folder}/cache.db", cache_capacity=2_000_000)
        await _remote(report, f"sqlite:///{folder}/cache.db", redis.url)
        async with await Holdfast.open(settings=settings) as hold:
            await _memory(report, hold)
            await _tags(report, hold)
        async with await Holdfast.open(settings=Settings(database_url=url, cache_capacity=2_000_000)) as hold:
            await _invalidation(report, hold)
        await asyncio.to_thread(_blocking, report, Path(folder))
        await _stampede(report, url, redis.url)
    return report


def _nanoseconds(function: Callable[[], Awaitable[object]], count: int) -> Callable[[], Awaitable[float]]:
    """A subject: nanoseconds of one call, in a task that has neither opened a unit nor committed one."""

    async def calls() -> float:
        began = time.perf_counter()
        for _ in range(count):
            await function()
        return (time.perf_counter() - began) / count * 1e9

    async def subject() -> float:
        return await asyncio.get_running_loop().create_task(calls(), context=contextvars.Context())

    return subject


def _plain(function: Callable[[], object], count: int) -> Callable[[], float]:
    def subject() -> float:
        began = time.perf_counter()
        for _ in range(count):
            function()
        return (time.perf_counter() - began) / count * 1e9

    return subject


def _hybrid() -> Any:
    """A cache of async-hybrid-cache; None on a Python that it does not support."""
    if sys.version_info < (3, 12):
        return None
    return importlib.import_module("async_hybrid_cache").AsyncHybridCache()


async def _memory(report: Report, hold: Holdfast) -> None:
    from aiocache import Cache as Aiocache
    from aiocache import cached as aiocached
    from cashews import Cache as Cashews

    reads, slow = report.options.scaled(READS), report.options.scaled(SLOW_READS)
    cashews = Cashews()
    cashews.setup("mem://")
    aiocache = Aiocache(Aiocache.MEMORY)
    hybrid = _hybrid()

    async def load(number: int) -> dict[str, Any]:
        return VALUE

    ours = cached(key="user:{number}", tags=("users:{number}",), ttl="1h")(load)
    peers: dict[str, Callable[[int], Awaitable[Any]]] = {
        "cashews": cashews(ttl="1h", key="user:{number}")(load),
        "aiocache": aiocached(ttl=3_600, key_builder=lambda function, number: f"user:{number}")(load),
    }
    if hybrid is not None:
        peers[HYBRID] = hybrid.cached(lambda number: f"user:{number}")(load)

    await report.measure(
        "hit through the decorator",
        "ns",
        {"holdfast": _nanoseconds(lambda: ours(17), reads)}
        | {name: _nanoseconds(partial(peer, 17), slow) for name, peer in peers.items()},
    )
    for peer in peers:
        times = 1 / report.ratio("hit through the decorator", "holdfast", peer)
        wanted = FASTER if peer == HYBRID else DECORATED
        report.target(f"decorated hit, times as fast as {peer}", times, at_least=wanted)

    await hold.cache.set("k", VALUE, tags=("t",))
    await cashews.set("k", VALUE, expire=3_600)
    await aiocache.set("k", VALUE, ttl=3_600)
    moka: Moka[str, Any] = Moka(1_000)
    moka.set("k", VALUE)
    others: dict[str, Any] = {"cashews": cashews, "aiocache": aiocache}
    if hybrid is not None:
        await hybrid.set("k", VALUE)
        others[HYBRID] = hybrid
    subjects: dict[str, Subject] = {
        "holdfast": _nanoseconds(lambda: hold.cache.get("k"), reads),
        "holdfast, noting a change before each": _nanoseconds(_changing(hold, lambda: hold.cache.get("k")), reads),
        "holdfast peek": _plain(lambda: hold.cache.peek("k"), reads),
        "moka-py": _plain(lambda: moka.get("k"), reads),
    }
    for peer, cache in others.items():
        subjects[peer] = _nanoseconds(partial(cache.get, "k"), slow)
    await report.measure("get", "ns", subjects)
    for peer in others:
        wanted = FASTER if peer == HYBRID else GET
        times = 1 / report.ratio("get", "holdfast", peer)
        report.target(f"get, times as fast as {peer}", times, at_least=wanted)
    await report.measure(
        "counting a hit",
        "ns",
        {"counted": _plain(_counting(Counts()), reads), "not counted": _plain(lambda: None, reads)},
    )
    counting = report.median("counting a hit", "counted") - report.median("counting a hit", "not counted")
    report.target("nanoseconds of a hit for statistics", counting, at_most=COUNTING)


def _counting(counts: Counts) -> Callable[[], None]:
    """What a hit does for the statistics."""
    place_of = endpoint.get

    def count() -> None:
        counts.hits = hits = counts.hits + 1
        if not hits & 63:
            timed(counts, 0.0)
        place = place_of()
        if place is not None:
            place.hits += 1

    return count


def _changing(hold: Holdfast, function: Callable[[], T]) -> Callable[[], T]:
    """`function`, before which something else has changed: what it reads has to be held against the marks again."""
    freshness = hold.cache.answers.freshness

    def changed() -> T:
        freshness.changed((), freshness.tick)
        return function()

    return changed


async def _tags(report: Report, hold: Holdfast) -> None:
    reads = report.options.scaled(READS)
    for count in (0, 10):
        await hold.cache.set(f"tagged{count}", VALUE, tags=tuple(f"t{n}" for n in range(count)))
    await report.measure(
        "peek by tags",
        "ns",
        {
            "none": _plain(_changing(hold, lambda: hold.cache.peek("tagged0")), reads),
            "ten": _plain(_changing(hold, lambda: hold.cache.peek("tagged10")), reads),
        },
    )
    each = (report.median("peek by tags", "ten") - report.median("peek by tags", "none")) / 10
    report.target("nanoseconds that a tag adds to a hit", each, at_most=TAG)


async def _invalidation(report: Report, hold: Holdfast) -> None:
    members = report.options.scaled(MEMBERS)
    for number in range(members):
        await hold.cache.set(f"member:{number}", number, tags=("crowd",), skip_l2=True)
    few = "a tag of one"
    await hold.cache.set("lonely", 1, tags=("alone",))

    async def invalidate(tag: str) -> float:
        began = time.perf_counter()
        await hold.cache.invalidate(tag)
        return (time.perf_counter() - began) * 1e3

    subjects: dict[str, Subject] = {
        few: lambda: invalidate("alone"),
        f"a tag of {members:,}": lambda: invalidate("crowd"),
    }
    await report.measure("invalidate", "ms", subjects, rounds=5 * report.options.rounds)  # each waits for the disk
    assert hold.cache.peek("member:1") is None
    took = report.median("invalidate", f"a tag of {members:,}")
    report.target(f"ms to invalidate a tag of {members:,}", took, at_most=INVALIDATE)


def _blocking(report: Report, folder: Path) -> None:
    from dogpile.cache import make_region

    reads = report.options.scaled(READS)
    region = make_region().configure("dogpile.cache.memory", expiration_time=3_600)
    with Holdfast.blocking(settings=Settings(database_url=f"sqlite:///{folder}/blocking.db")) as hold:
        cache: Any = hold.cache
        cache.set("k", VALUE)
        get_or_load, peek = cache.get_or_load, cache.peek

        def load(load: Any) -> dict[str, Any]:
            return VALUE

        @cached(key="user:{number}", tags=("users:{number}",), ttl="1h")
        def ours(number: int) -> dict[str, Any]:
            return VALUE

        @region.cache_on_arguments()
        def theirs(number: int) -> dict[str, Any]:
            return VALUE

        async def measured() -> None:
            await report.measure(
                "blocking hit",
                "ns",
                {
                    "holdfast peek": _plain(lambda: peek("k"), reads),
                    "holdfast get_or_load": _plain(lambda: get_or_load("k", load), reads),
                    "holdfast decorated": _plain(lambda: ours(17), reads),
                    "dogpile get_or_create": _plain(lambda: region.get_or_create("k", lambda: VALUE), reads),
                    "dogpile decorated": _plain(lambda: theirs(17), reads),
                },
            )

        # The subjects are plain calls; the loop that turns them is another than the cache's.
        with contextlib.suppress(StopIteration):
            measured().send(None)
    times = 1 / report.ratio("blocking hit", "holdfast get_or_load", "dogpile get_or_create")
    report.target("blocking hit, times as fast as dogpile", times, at_least=BLOCKING)
    times = 1 / report.ratio("blocking hit", "holdfast decorated", "dogpile decorated")
    report.target("decorated blocking hit, times as fast as dogpile's", times, at_least=BLOCKING)


async def _remote(report: Report, url: str, redis_url: str) -> None:
    from redis import asyncio as redis

    count, batches = report.options.scaled(REMOTE_READS), report.options.scaled(BATCHES)
    client: Any = redis.Redis.from_url(redis_url)
    encoded, decode = msgspec.msgpack.encode(VALUE), msgspec.msgpack.Decoder(Any).decode
    keys = [f"many:{number}" for number in range(KEYS)]
    await client.mset({f"raw:{key}": encoded for key in ["k", *keys]})
    settings = Settings(database_url=url, redis_url=redis_url)
    async with await Holdfast.open(settings=settings) as hold:
        options = HOT.but(skip_l1=True)
        await hold.cache.set("k", VALUE, options=options)
        await hold.cache.set_many(dict.fromkeys(keys, VALUE), options=options)

        async def never(load: Any) -> Any:
            raise AssertionError("everything is kept")

        async def raw() -> object:
            return decode(await client.get("raw:k"))

        async def raw_many() -> object:
            return [decode(data) for data in await client.mget([f"raw:{key}" for key in keys])]

        def microseconds(function: Callable[[], Awaitable[object]], count: int) -> Callable[[], Awaitable[float]]:
            timed = _nanoseconds(function, count)

            async def subject() -> float:
                return await timed() / 1e3

            return subject

        await report.measure(
            "hit in Redis",
            "µs",
            {
                "holdfast": microseconds(lambda: hold.cache.get_or_load("k", never, options=options), count),
                "redis-py GET and decode": microseconds(raw, count),
            },
        )
        over = report.ratio("hit in Redis", "holdfast", "redis-py GET and decode")
        report.target("hit in Redis over a raw GET", over, at_most=REMOTE)
        await report.measure(
            f"{KEYS} hits in Redis",
            "µs",
            {
                "holdfast": microseconds(lambda: hold.cache.get_or_load_many(keys, never, options=options), batches),
                "redis-py MGET and decode": microseconds(raw_many, batches),
            },
        )
        over = report.ratio(f"{KEYS} hits in Redis", "holdfast", "redis-py MGET and decode")
        report.target(f"{KEYS} hits in Redis over one MGET", over, at_most=MANY)
    await client.aclose()


async def _stampede(report: Report, url: str, redis_url: str) -> None:
    runs = [await stampede(url, redis_url, f"stampede:{number}") for number in range(report.options.rounds)]
    report.record("stampede of 4 × 250", "loads", "loads", [run.loads for run in runs])
    report.record("stampede of 4 × 250", "slowest after the load", "s", [run.late for run in runs])
    report.target("loads of a stampede, at most", max(run.loads for run in runs), at_most=1)
    late = max(run.late for run in runs)
    report.target("seconds after the load, slowest caller", late, at_most=LATE)
    killed = await stampede(url, redis_url, "stampede:killed", kill=True)
    report.record("stampede whose holder is killed", "slowest after the lease", "s", [killed.late])
    report.target("seconds after the lease, its holder killed", killed.late, at_most=LATE * 4)
