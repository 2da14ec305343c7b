"""The torture of keys: its checker's rules, a short run that holds, and planted faults that are caught."""

from __future__ import annotations

from typing import Any

import pytest

from torture import keys
from torture.harness import Options
from torture.keys_check import Life, check


def options(**given: Any) -> Options:
    return Options(seconds=4, seed=7, plant=given.pop("plant", None), given={"nodes": 2, **given})


def test_an_answer_is_held_against_what_was_committed() -> None:
    lives = {1: Life(made=10.0, revoked=20.0), 2: Life(made=30.0)}
    verdict = check(
        [
            (9.0, 1, "unknown"),
            (10.9, 1, "unknown"),  # nobody needs to know yet
            (11.1, 1, "unknown"),  # by now everybody must
            (12.0, 1, "good"),
            (19.9, 1, "revoked"),  # committed already, and the revoker does not know yet
            (20.9, 1, "good"),
            (21.5, 1, "good"),  # too late
            (21.5, 1, "unavailable"),
            (32.0, 2, "revoked"),  # nobody did
        ],
        lives,
        1.0,
    )
    assert verdict.alive == [(1, 1.5)]
    assert [(number, reason) for number, reason, _ in verdict.unknown] == [(1, "unknown"), (2, "revoked")]
    assert verdict.longest_alive == 1.5
    assert verdict.answers == {"unknown": 3, "good": 3, "revoked": 2, "unavailable": 1}


async def test_whatever_becomes_of_redis_a_revoked_key_is_dead_and_none_is_lost() -> None:
    result = await keys.run(options(faults="redis-kill,redis-pause,redis-rollback"))
    assert not result.broken, result.details
    assert result.figures["revoked"] > 5
    assert result.figures["answers good"] > 50


@pytest.mark.parametrize("fault", sorted(keys.PLANTS))
async def test_a_planted_fault_is_caught(fault: str) -> None:
    result = await keys.run(options(faults="none", plant=fault))
    assert result.violations["alive"] > 0
    assert result.violations["lost"] == 0


async def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(SystemExit, match="nonsense"):
        await keys.run(options(faults="nonsense"))
