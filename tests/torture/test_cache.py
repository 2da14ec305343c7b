"""The torture of the cache: its checker's rules, a short run that holds, and planted faults that are caught."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest

from devservers import RedisServer, start_redis
from devservers.relay import relay
from torture import cache
from torture.cache_check import check
from torture.harness import Options


def options(**given: Any) -> Options:
    return Options(seconds=5, seed=7, plant=given.pop("plant", None), given={"nodes": 2, "writers": 6, **given})


def test_a_read_is_held_against_the_commit_that_superseded_it() -> None:
    commits = [(10.0, 1, 1), (20.0, 1, 2), (15.0, 2, 1)]
    reads = [
        (9.0, 1, 0, 0),  # nothing was committed yet
        (10.5, 1, 0, 0),  # half a second late
        (11.5, 1, 0, 0),  # too late
        (11.5, 1, 0, 1),  # too late, and said so
        (19.0, 1, 1, 0),
        (30.0, 1, 2, 0),  # the newest there is
        (15.0, 2, 0, 0),  # just then
        (16.0, 2, 2, 0),  # nobody committed it
    ]
    verdict = check(reads, commits, 1.0)
    assert (verdict.reads, verdict.told_stale, verdict.invented) == (8, 1, [(2, 2)])
    assert verdict.violations == [(1, 0, 1.5)]
    assert verdict.staleness == [0.5, 1.5]
    assert verdict.longest == 1.5
    assert (verdict.histogram[0.0], verdict.histogram[0.5], verdict.histogram[2.0]) == (4, 1, 1)
    assert verdict.percentile(0.5) == 0.0
    assert verdict.percentile(0.99) == 1.5


def test_notes_that_lack_a_commit_are_no_ground_to_judge_by() -> None:
    with pytest.raises(ValueError, match="lack version 2 of document 1"):
        check([], [(1.0, 1, 1), (2.0, 1, 3)], 1.0)


async def test_whatever_goes_wrong_no_read_is_older_than_its_bound() -> None:
    result = await cache.run(options(faults=",".join(cache.cache_faults.KINDS)))
    assert not result.broken, result.details
    assert result.figures["reads"] > 500  # type: ignore[operator]
    assert result.figures["commits"] > 20  # type: ignore[operator]
    assert sum(count for name, count in result.figures.items() if name.startswith("faults ")) > 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("plant", "faults"), [("no-marks", "none"), ("late-lease", "renew-pause"), ("cashews", "redis-rollback")]
)
async def test_a_planted_fault_is_caught(plant: str, faults: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.cache_faults, "PAUSE", (1.5, 2.5))
    monkeypatch.setattr(cache.cache_faults, "BETWEEN", (0.1, 0.3))
    result = await cache.run(options(plant=plant, faults=faults))
    assert result.violations["stale"] > 0, result.figures


async def test_a_redis_that_is_being_started_when_the_run_ends_is_known_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = threading.Event()

    def start() -> RedisServer:
        starting.set()
        return start_redis()

    monkeypatch.setattr(cache.cache_faults, "start_redis", start)
    killed = start_redis()
    async with relay("127.0.0.1", killed.port) as line:
        faults = cache.cache_faults.Faults(killed, line, [], random.Random(1))
        killing = asyncio.create_task(faults.kill_redis())
        await asyncio.to_thread(starting.wait)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        assert line.target == faults.server.port
    assert faults.server is not killed
    assert faults.server.alive()
    faults.server.stop()
