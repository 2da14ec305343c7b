"""How fast the cache is here and now, and how many users break it: measured on the cache that serves, beside its work.

Four tests: `health` asks each level once; `basic` times a hundred operations of each kind; `concurrent` reads as 10, 50
and 100 users at once; `stress` doubles the users until reads are too slow or fail.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, get_args

import msgspec

from holdfast.cache import Cache, Load
from holdfast.cache.namespace import Namespace
from holdfast.cache.statistics import OWN
from holdfast.errors import HoldfastError, InvalidValue
from holdfast.store import Store

Test = Literal["health", "basic", "concurrent", "stress"]
TESTS: tuple[Test, ...] = get_args(Test)

LIMIT = 0.1  # seconds that 99 of 100 reads may take: what a cached answer may
_BASIC = [f"basic:{number}" for number in range(100)]
_LOADED = [f"load:{key}" for key in _BASIC]
_USERS = (10, 50, 100)
_FIRST, _MOST = 200, 6_400  # users of the stress test
_LEVEL = 0.5  # seconds
_SOME = [f"some:{number}" for number in range(1_000)]
_MISSED = object()
_MEMORY, _REDIS = 0.90, 0.09  # of the reads; the rest is loaded from the database
_SLOW_REDIS = 0.005  # seconds
_SLOW_EVENT = 0.05  # seconds


class Timing(msgspec.Struct, frozen=True):
    """How long some operations took, in milliseconds, and how many would fit into a second one after the other.

    Reads that gave nothing, of a Redis that is away say, are not among them.
    """

    operation: str
    count: int
    median: float
    p95: float
    p99: float
    slowest: float
    per_second: float


class Level(msgspec.Struct, frozen=True):
    """Reads by so many users at once; milliseconds. `failed` reads raised."""

    users: int
    reads: int
    failed: int
    per_second: float
    median: float
    p95: float
    p99: float


class Check(msgspec.Struct, frozen=True):
    """Whether one level of the cache gave back what it was given."""

    level: Literal["memory", "redis", "database", "journal"]
    ok: bool
    milliseconds: float
    detail: str = ""


class Performance(msgspec.Struct, kw_only=True):
    """What was measured; None where a test was not run.

    Attributes:
        began: seconds since 1970.
        seconds: how long it took.
        breaking_point: the first level of the stress test that was too slow or failed; None where none was.
        recommendations: what to do about it.
    """

    began: float
    seconds: float = 0.0
    health: list[Check] | None = None
    basic: list[Timing] | None = None
    concurrent: list[Level] | None = None
    stress: list[Level] | None = None
    breaking_point: Level | None = None
    recommendations: list[str] = msgspec.field(default_factory=list)


async def measure_performance(
    cache: Cache, store: Store, tests: Sequence[str] = TESTS, *, progress: Callable[[str], None] = lambda test: None
) -> Performance:
    """Run tests of the cache; it serves others meanwhile, who will notice the stress test.

    Args:
        progress: told what is done now.

    Raises:
        InvalidValue: there is no such test.
    """
    for test in tests:
        if test not in TESTS:
            raise InvalidValue(f"{test!r} is no test of the cache's performance; there are {', '.join(TESTS)}")
    found = Performance(began=time.time())
    began = time.perf_counter()
    run = _Run(cache, store, progress)
    try:
        for test in TESTS:
            if test in tests:
                progress(test)
                setattr(found, test, await getattr(run, test)())
    finally:
        await run.end()
    found.breaking_point = next((level for level in found.stress or () if is_broken(level)), None)
    found.recommendations = recommendations(found)
    found.seconds = round(time.perf_counter() - began, 3)
    return found


def is_broken(level: Level) -> bool:
    """Whether so many users are too many."""
    return bool(level.failed) or level.p99 > LIMIT * 1e3


def recommendations(found: Performance) -> list[str]:
    """What to do about what was measured."""
    advice: list[str] = []
    for check in found.health or ():
        if not check.ok:
            advice.append(f"{check.level}: {check.detail}")
    for timing in found.basic or ():
        if timing.operation == "read from redis" and timing.p95 > _SLOW_REDIS * 1e3:
            advice.append(
                f"a read from Redis takes {timing.p95:g} ms (p95): is it on another continent, or busy? See"
                " /metrics/redis; longer values in memory need it less"
            )
        if timing.operation == "delete" and timing.p95 > _SLOW_EVENT * 1e3:
            advice.append(
                f"to end a key takes {timing.p95:g} ms (p95), which is a commit of the database: give several keys to"
                " one delete, or one tag to all"
            )
    broken = found.breaking_point
    if broken is not None:
        why = f"{broken.failed:,} reads failed" if broken.failed else f"p99 is {broken.p99:g} ms"
        advice.append(
            f"{broken.users:,} users at once are too many for this process ({why}, {LIMIT * 1e3:g} ms allowed): start"
            " more processes, and keep what is read most in memory"
        )
    return advice


class _Run:
    """Keys of its own, which end when it does."""

    def __init__(self, cache: Cache, store: Store, progress: Callable[[str], None]) -> None:
        self._cache, self._store, self._progress = cache, store, progress
        self._space: Namespace = cache.namespace(f"performance-{secrets.token_hex(4)}", ttl=120.0, counted_as=OWN)
        self._from_redis = self._space.options.but(skip_l1=True)
        self._has_redis = cache.redis_state() != "none"
        self._draw = random.Random(1)
        self._is_filled = False

    async def end(self) -> None:
        await self._space.clear()
        self._cache.forget(*map(self._space.key, ("health", *_BASIC, *_LOADED, *_SOME)))

    async def _load(self, load: Load) -> Any:
        await self._store.ping()
        return {"key": load.key, "text": "x" * 200}

    async def health(self) -> list[Check]:
        value = {"n": 1}
        checks = []

        async def check(
            level: Literal["memory", "redis", "database", "journal"], ask: Callable[[], Awaitable[bool]]
        ) -> None:
            began = time.perf_counter()
            detail = ""
            try:
                if not (ok := await ask()):
                    detail = "it did not give back what it was given"
            except HoldfastError as error:
                ok, detail = False, str(error)
            checks.append(Check(level, ok, _ms(time.perf_counter() - began), detail))

        async def database() -> bool:
            return await self._store.ping() >= 0

        async def journal() -> bool:
            await self._cache.renew()
            return True

        async def memory() -> bool:
            await self._space.set("health", value)
            return bool(self._space.peek("health") == value)

        async def redis() -> bool:
            return bool(await self._kept_in_redis("health") == value)

        await check("database", database)
        await check("journal", journal)
        await check("memory", memory)
        if self._has_redis:
            await check("redis", redis)
        return checks

    async def basic(self) -> list[Timing]:
        value = {"text": "x" * 200}
        kinds: dict[str, Callable[[str], Awaitable[Any]]] = {
            "set": lambda key: self._space.set(key, value),
            "read from memory": lambda key: self._space.get(key, _MISSED),
        }
        if self._has_redis:
            kinds["read from redis"] = self._kept_in_redis
        kinds["load"] = lambda key: self._space.get_or_load(f"load:{key}", self._load)
        kinds["delete"] = lambda key: self._space.delete(key)
        found = []
        for operation, do in kinds.items():
            times = []
            for key in _BASIC:
                began = time.perf_counter()
                if await do(key) is not _MISSED:
                    times.append(time.perf_counter() - began)
            found.append(_timing(operation, times))
        return found

    async def concurrent(self) -> list[Level]:
        levels = []
        for users in _USERS:
            self._progress(f"{users} users")
            levels.append(await self._level(users))
        return levels

    async def stress(self) -> list[Level]:
        levels: list[Level] = []
        users = _FIRST
        while users <= _MOST and not (levels and is_broken(levels[-1])):
            self._progress(f"{users:,} users")
            levels.append(await self._level(users))
            users *= 2
        return levels

    async def _level(self, users: int) -> Level:
        """Reads by so many users, each of whom goes on when he has his answer."""
        await self._fill()
        end = time.perf_counter() + _LEVEL
        times: list[float] = []
        failed = 0

        async def user() -> None:
            nonlocal failed
            while (began := time.perf_counter()) < end:
                try:
                    await self._some_read()
                except Exception:  # noqa: BLE001  whatever it is, this read failed
                    failed += 1
                times.append(time.perf_counter() - began)
                await asyncio.sleep(0)  # a hit never waits: let the others have their turn

        began = time.perf_counter()
        await asyncio.gather(*(user() for _ in range(users)))
        seconds = time.perf_counter() - began
        timing = _timing("read", times)
        return Level(users, len(times), failed, round(len(times) / seconds, 1), timing.median, timing.p95, timing.p99)

    async def _fill(self) -> None:
        """Have all keys kept, so that it is reads that are measured, and not the first loads."""
        if not self._is_filled:
            for key in _SOME:
                await self._space.set(key, {"text": "x" * 200})
            self._is_filled = True

    async def _some_read(self) -> None:
        kind, key = self._draw.random(), self._draw.choice(_SOME)
        if kind < _MEMORY:
            await self._space.get_or_load(key, self._load)
        elif kind < _MEMORY + _REDIS and self._has_redis:
            await self._read(key, skip_l1=True)
        else:
            await self._read(key, skip_l1=True, skip_l2=True)

    async def _kept_in_redis(self, key: str) -> Any:
        return await self._cache.get(self._space.key(key), _MISSED, options=self._from_redis)

    async def _read(self, key: str, **given: Any) -> Any:
        options = self._space.options.but(**given)
        return await self._cache.get_or_load(self._space.key(key), self._load, options=options)


def _timing(operation: str, times: list[float]) -> Timing:
    times = sorted(times)
    if not times:
        return Timing(operation, 0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def at(share: float) -> float:
        return _ms(times[min(len(times) - 1, int(share * len(times)))])

    total = sum(times)
    return Timing(operation, len(times), at(0.5), at(0.95), at(0.99), _ms(times[-1]), round(len(times) / total, 1))


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)
