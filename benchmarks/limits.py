"""Limits beside limits, throttled-py, pyrate-limiter, and what is written by hand, on one Redis, all through redis-py.

Each admits at most N in a window of W seconds of one caller. How many get through in the worst window is counted by the
clock of this process, from before a call is made: what the callers see. What a call takes is the mean where all are
admitted (1,000 of one caller, or 250 of each of 16), where the first half is, and where the limit is used up. Bytes
are what Redis says of the keys of one caller who has used up 1,000 a minute.
"""

from __future__ import annotations

import asyncio
import importlib
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.harness import Options, Report
from devservers import start_redis
from holdfast.guard.limits import Limit, Limiter
from holdfast.store.redis import Redis

THROUGHPUT = 1.5  # times that of the moving window of limits, at 16 tasks
OVER = 1.0  # of N, the most that is admitted in any window
BYTES = 1.0  # of what the smallest of the exact ones keeps

CALLS = 4_000
TASKS = 16
MOST, WINDOW = 100, 2  # seconds
SECONDS = 8.0  # of calls at three times the limit
KEPT = 1_000
FULL = 100  # in a minute, of a limit that is used up
USERS = [f"user{number}" for number in range(TASKS)]

OURS = "holdfast"
COUNTERS = "holdfast, above 10,000"
MOVING = "limits, moving window"
SLIDING = "limits, sliding counter"
THROTTLED = "throttled-py, sliding window"
PYRATE = "pyrate-limiter, log"
SORTED = "by hand, sorted set of milliseconds"
EXACT = (MOVING, PYRATE)

Hit = Callable[[str], Awaitable[bool]]
Make = Callable[[int, int], Awaitable[Hit]]
"""Makes a limiter of so many in so many seconds; it is told who calls, and says whether the call passes."""


async def run(options: Options) -> Report:
    """Measure cost, throughput, exactness and memory."""
    report = Report("limits", options)
    with start_redis() as server:
        redis = Redis(server.url, prefix="bench", timeout=5.0)
        client: Any = importlib.import_module("redis.asyncio").Redis.from_url(server.url)
        makers = _makers(redis, client, server.url)
        await _cost(report, makers)
        await _worst_window(report, makers)
        await _memory(report, makers, client)
        await client.aclose()
        await redis.close()
    return report


def _makers(redis: Redis, client: Any, url: str) -> dict[str, Make]:
    """All of them; imported here, since only a developer has the peers."""
    limits: Any = importlib.import_module("limits")
    storage: Any = importlib.import_module("limits.aio.storage")
    strategies: Any = importlib.import_module("limits.aio.strategies")
    throttled: Any = importlib.import_module("throttled.asyncio")
    pyrate: Any = importlib.import_module("pyrate_limiter")

    async def ours(most: int, window: int) -> Hit:
        limiter, limit = Limiter(redis, prefix=_new()), Limit(most, float(window))

        async def hit(who: str) -> bool:
            return (await limiter.hit(who, limits=limit)).allowed

        return hit

    async def counters(most: int, window: int) -> Hit:
        """The same work, of a limit that is high enough: a call costs so much that as many fit."""
        limiter, limit, cost = Limiter(redis, prefix=_new()), Limit(100 * KEPT, float(window)), 100 * KEPT // most

        async def hit(who: str) -> bool:
            return (await limiter.hit(who, cost, limits=limit)).allowed

        return hit

    def of_limits(strategy: str) -> Make:
        async def make(most: int, window: int) -> Hit:
            store = storage.RedisStorage(f"async+{url}", implementation="redispy", key_prefix=_new())
            limiter = getattr(strategies, strategy)(store)
            item = limits.RateLimitItemPerSecond(most, window)

            async def hit(who: str) -> bool:
                return bool(await limiter.hit(item, who))

            return hit

        return make

    async def of_throttled(most: int, window: int) -> Hit:
        import datetime as dt

        store = throttled.RedisStore(server=url, options={"REUSE_CONNECTION": False})
        quota = throttled.per_duration(dt.timedelta(seconds=window), most)
        limiter, space = throttled.Throttled(using="sliding_window", quota=quota, store=store), _new()

        async def hit(who: str) -> bool:
            return not (await limiter.limit(f"{space}{who}")).limited

        return hit

    async def of_pyrate(most: int, window: int) -> Hit:
        """A bucket a caller, as it wants it; without the task that clears its keys."""
        rates, space = [pyrate.Rate(most, window * 1_000)], _new()
        buckets: dict[str, Any] = {}

        async def hit(who: str) -> bool:
            bucket = buckets.get(who)
            if bucket is None:
                bucket = buckets[who] = await pyrate.RedisBucket.init(rates, client, f"{space}{who}")
            return bool(await bucket.put(pyrate.RateItem(who, bucket.now())))

        return hit

    async def by_hand(most: int, window: int) -> Hit:
        """As it is often written: what is there from one millisecond is one member, and who is denied is one too."""
        space = _new()

        async def hit(who: str) -> bool:
            now, key = time.time_ns() // 1_000_000, f"{space}{who}"
            pipeline = client.pipeline(transaction=True)
            pipeline.zremrangebyscore(key, 0, now - window * 1_000)
            pipeline.zadd(key, {str(now): now})
            pipeline.zcard(key)
            pipeline.expire(key, window)
            return int((await pipeline.execute())[2]) <= most

        return hit

    return {
        OURS: ours,
        COUNTERS: counters,
        MOVING: of_limits("MovingWindowRateLimiter"),
        SLIDING: of_limits("SlidingWindowCounterRateLimiter"),
        THROTTLED: of_throttled,
        PYRATE: of_pyrate,
        SORTED: by_hand,
    }


def _new() -> str:
    """What nobody has used as the beginning of a key."""
    return f"b{uuid.uuid4().hex[:8]}"


async def _cost(report: Report, makers: Mapping[str, Make]) -> None:
    """What a call takes where all are admitted, where half are, and where none is any more."""
    alone, each = report.options.scaled(CALLS) // 4, report.options.scaled(CALLS) // TASKS
    for share, how in ((1.0, "admitted"), (0.5, "half admitted"), (0.0, "denied")):

        async def one_after_the_other(name: str, share: float = share) -> float:
            hit, who, took, passed = await _filled(makers[name], share, alone), "user", [], 0
            for _ in range(alone):
                began = time.perf_counter()
                passed += await hit(who)
                took.append(time.perf_counter() - began)
            _expect(name, passed, round(share * alone))
            return statistics.fmean(took) * 1e6

        async def at_once(name: str, share: float = share) -> float:
            hit = await _filled(makers[name], share, each)

            async def task(number: int) -> int:
                return sum([await hit(USERS[number]) for _ in range(each)])

            began = time.perf_counter()
            passed = sum(await asyncio.gather(*map(task, range(TASKS))))
            took = time.perf_counter() - began
            _expect(name, passed, round(share * each) * TASKS)
            return each * TASKS / took

        await report.measure(f"a call, {how}", "µs", {name: partial(one_after_the_other, name) for name in makers})
        case = f"{TASKS} tasks, {how}"
        await report.measure(case, "calls/s", {name: partial(at_once, name) for name in makers})
        for name in (OURS, COUNTERS):
            ratio = report.ratio(case, name, MOVING)
            report.target(f"{name}: throughput over {MOVING}, {how}", ratio, at_least=THROUGHPUT)


async def _filled(make: Make, share: float, calls: int) -> Hit:
    """A new limiter that lets this share of so many calls of each user through."""
    hit = await make(round(share * calls) or FULL, 60)
    if not share:
        for who in ("user", *USERS):
            await asyncio.gather(*(hit(who) for _ in range(FULL)))
    return hit


def _expect(name: str, passed: int, expected: int) -> None:
    if name in (OURS, COUNTERS, *EXACT) and passed != expected:
        raise RuntimeError(f"{name} let {passed} calls pass, not {expected}: the figure would be of something else")


async def _worst_window(report: Report, makers: Mapping[str, Make]) -> None:
    """Three times as many calls as may pass, all limiters side by side: steadily, and by one who saves them up."""
    seconds = max(2.5 * WINDOW, SECONDS * report.options.scale)

    async def load(hit: Hit, quiet: float) -> list[tuple[float, float]]:
        """What is admitted, when it was asked for and when it was answered."""
        admitted: list[tuple[float, float]] = []
        began, calls = time.perf_counter(), 0
        while (now := time.perf_counter()) < began + seconds:
            due = min(TASKS, int((now - began) * 3 * MOST / WINDOW) + 1 - calls)
            if due < 1 or (calls and now < began + quiet):
                await asyncio.sleep(0.002)
                continue
            calls += due
            passed = await asyncio.gather(*(hit("one") for _ in range(due)))
            admitted += [(now, time.perf_counter())] * sum(passed)
        return admitted

    for how, quiet in (("steadily", 0.0), ("saved up", 0.95 * WINDOW)):
        hits = {name: await make(MOST, WINDOW) for name, make in makers.items()}
        await asyncio.sleep(WINDOW - time.time() % WINDOW)  # where windows are cut that are cut by the clock
        found = await asyncio.gather(*(load(hit, quiet) for hit in hits.values()))
        admitted = dict(zip(hits, found, strict=True))
        for name, calls in admitted.items():
            report.record(f"{MOST} in {WINDOW} s at 3 ×, {how}", name, "admitted in all", [float(len(calls))])
        for name, calls in admitted.items():
            report.record(f"the most in any window, {how}", name, "calls", [float(_worst(calls))])
    for name in (OURS, COUNTERS):
        worst = max(report.median(f"the most in any window, {how}", name) for how in ("steadily", "saved up"))
        report.target(f"{name}: the most in any window, of what may be", worst / MOST, at_most=OVER)


def _worst(calls: list[tuple[float, float]]) -> int:
    """The most calls that certainly lie in one window: begun in it, and answered in it."""
    return max(
        (sum(begun >= start and done < start + WINDOW for begun, done in calls) for start, _ in calls), default=0
    )


async def _memory(report: Report, makers: Mapping[str, Make], client: Any) -> None:
    for name, make in makers.items():
        await client.flushdb()
        hit = await make(KEPT, 60)
        for _ in range(KEPT):
            await hit("user:42")
        names = await client.keys("*")
        sizes = [await client.memory_usage(key, samples=0) for key in names]
        report.record(f"kept for {KEPT:,} calls", name, "bytes", [float(sum(sizes))])
    smallest = min(report.median(f"kept for {KEPT:,} calls", name) for name in EXACT)
    of_it = report.median(f"kept for {KEPT:,} calls", OURS) / smallest
    report.target(f"{OURS}: bytes, of the smallest exact peer's", of_it, at_most=BYTES)
