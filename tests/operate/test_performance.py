"""The tests of the cache's performance: what they measure, what breaks it, what they advise, and what they leave."""

from __future__ import annotations

import pytest

from devservers import start_redis
from holdfast import Holdfast
from holdfast.errors import InvalidValue, Unavailable
from holdfast.operate import performance
from holdfast.operate.performance import (
    Check,
    Level,
    Performance,
    Timing,
    is_broken,
    measure_performance,
    recommendations,
)
from tests.backends import settings_for
from tests.cache.loans import Base


def level(users: int, p99: float, failed: int = 0) -> Level:
    return Level(users, 1_000, failed, 1_000.0, 0.01, p99 / 2, p99)


def test_a_level_is_broken_by_time_and_by_failures() -> None:
    assert not is_broken(level(50, 99.9))
    assert is_broken(level(50, 100.1))
    assert is_broken(level(50, 1.0, failed=1))


def test_what_is_slow_is_told_with_what_to_do() -> None:
    found = Performance(
        began=0.0,
        health=[Check("redis", False, 1.0, "it did not give back what it was given"), Check("memory", True, 0.1)],
        basic=[
            Timing("read from redis", 100, 6.0, 9.0, 9.0, 9.0, 100.0),
            Timing("delete", 100, 60.0, 80.0, 90.0, 99.0, 10.0),
            Timing("load", 100, 600.0, 800.0, 900.0, 990.0, 1.0),
        ],
        breaking_point=level(400, 250.0),
    )
    redis, slow, delete, broken = recommendations(found)
    assert redis == "redis: it did not give back what it was given"
    assert "a read from Redis takes 9 ms" in slow
    assert "to end a key takes 80 ms" in delete
    assert "400 users at once are too many for this process (p99 is 250 ms" in broken
    assert recommendations(Performance(began=0.0)) == []


async def test_users_are_doubled_until_it_breaks(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "_LEVEL", 0.05)
    monkeypatch.setattr(performance, "_FIRST", 4)
    monkeypatch.setattr(performance, "_MOST", 16)
    monkeypatch.setattr(performance, "LIMIT", 1e9)
    said: list[str] = []
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:
        await hold.cache.set("mine", 1)
        found = await measure_performance(hold.cache, hold.store, ["stress"], progress=said.append)
        assert [one.users for one in found.stress or ()] == [4, 8, 16]
        assert found.breaking_point is None
        monkeypatch.setattr(performance, "LIMIT", 0.0)
        broken = await measure_performance(hold.cache, hold.store, ["concurrent", "stress"])
        assert [one.users for one in broken.stress or ()] == [4]
        assert broken.breaking_point == (broken.stress or [])[0]
        assert [one.users for one in broken.concurrent or ()] == [10, 50, 100]
        assert await hold.cache.get("mine") == 1
    assert said == ["stress", "4 users", "8 users", "16 users"]
    assert all(one.reads > one.users and not one.failed for one in found.stress or ())


async def test_a_redis_that_is_away_is_told_and_nothing_is_left_in_memory(sqlite_url: str) -> None:
    with start_redis() as server:
        settings = settings_for(sqlite_url, redis_url=server.url)
        async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
            await hold.cache.set("mine", 1)
            found = await measure_performance(hold.cache, hold.store, ["health", "basic"])
            assert all(check.ok for check in found.health or ())
            assert {one.operation: one.count for one in found.basic or ()}["read from redis"] == 100
            assert hold.cache.size().entries == 1
            server.stop()
            found = await measure_performance(hold.cache, hold.store, ["health", "basic"])
            assert [check.level for check in found.health or () if not check.ok] == ["redis"]
            assert {one.operation: one.count for one in found.basic or ()} == {
                "set": 100,
                "read from memory": 100,
                "read from redis": 0,
                "load": 100,
                "delete": 100,
            }
            assert "redis: it did not give back what it was given" in found.recommendations


async def test_a_level_that_fails_is_told_and_the_others_are_still_measured(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:

        async def away() -> float:
            raise Unavailable("the database is away")

        monkeypatch.setattr(hold.store, "ping", away)
        found = await measure_performance(hold.cache, hold.store, ["health"])
    assert {check.level: check.ok for check in found.health or ()} == {
        "database": False,
        "journal": True,
        "memory": True,
    }
    assert found.recommendations == ["database: the database is away"]


async def test_a_test_that_is_none_is_refused(sqlite_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:
        with pytest.raises(InvalidValue, match="'speed' is no test"):
            await measure_performance(hold.cache, hold.store, ["speed"])
