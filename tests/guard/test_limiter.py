"""`hold.limits`: tiers, identities, outages; on SQLite with no Redis, one server, and a cluster."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData

from devservers import start_redis
from holdfast import Holdfast
from holdfast.errors import ConfigurationError, InvalidValue, Unavailable
from holdfast.guard.limits import Limit, Limiter, headers_of, problem_of
from holdfast.guard.limits.meter import Meter
from tests.backends import settings_for
from tests.guard.conftest import Connect

NOTHING = MetaData()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
async def hold(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Holdfast]:
    redis_url = None if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    settings = settings_for(sqlite_url, redis_url=redis_url, redis_timeout=5.0, limits="team=5/min + burst: 3/10s")
    async with await Holdfast.open(settings=settings, metadata=NOTHING) as hold:
        yield hold


async def allowed(hold: Holdfast, count: int, identity: str = "user:1", **given: Any) -> int:
    decisions = [await hold.limits.hit(identity, **given) for _ in range(count)]
    return sum(decision.allowed for decision in decisions)


async def test_tiers_have_the_limits_that_they_are_said_to_have(hold: Holdfast) -> None:
    assert await allowed(hold, 70) == 60
    assert await allowed(hold, 70, "user:2", tier="free") == 60
    assert await allowed(hold, 1_010, "user:3", tier="pro") == 1_000
    assert await allowed(hold, 70, "user:4", tier="enterprise") == 70
    assert await allowed(hold, 10, "user:5", tier="team") == 3


async def test_one_key_may_have_limits_of_its_own(hold: Holdfast) -> None:
    assert await allowed(hold, 10, limits="2/min") == 2
    assert await allowed(hold, 10, "user:2", limits=Limit(0)) == 0
    assert await allowed(hold, 10, "user:3", limits=Limit(None)) == 10
    assert await allowed(hold, 10, "user:4", limits=["4/min", Limit(9, 3_600)]) == 4


async def test_a_part_of_an_identity_has_limits_beside_those_of_all_of_it(hold: Holdfast) -> None:
    def part(name: str, most: int, whole: str = "org:7") -> Meter:
        own = (name, [Limit(most, name="key-per-minute")])
        return hold.limits.meter(whole, limits="5/min", own=own)

    async def passed(meter: Meter, count: int) -> int:
        return sum([(await hold.limits.hit_meter(meter)).allowed for _ in range(count)])

    assert await passed(part("one", 2), 4) == 2
    assert await passed(part("two", 9), 9) == 3  # what is left of all of it
    assert await allowed(hold, 1, "org:7", limits="5/min") == 0
    assert await passed(part("two", 9, "org:8"), 9) == 5
    decision = await hold.limits.hit_meter(part("one", 2))
    assert [standing.limit.name for standing in decision.denied] == ["per-minute", "key-per-minute"]
    unlimited = hold.limits.meter("org:9", tier="enterprise", own=("one", [Limit(1, name="key-per-minute")]))
    assert await passed(unlimited, 3) == 1


async def test_an_account_that_changes_its_tier_takes_along_what_it_has_used(hold: Holdfast) -> None:
    assert await allowed(hold, 60, tier="free") == 60
    decision = await hold.limits.hit("user:1", tier="pro")
    assert decision.allowed
    assert decision.remaining == 1_000 - 61


async def test_where_one_limit_denies_the_others_are_not_charged(hold: Holdfast) -> None:
    assert await allowed(hold, 20, tier="team") == 3
    decision = await hold.limits.peek("user:1", tier="team")
    assert [standing.remaining for standing in decision.standings] == [2, 0]
    [denied] = decision.denied
    assert denied.limit.name == "burst"
    assert decision.binding == denied
    assert decision.retry_after is not None
    assert 9 < decision.retry_after <= 10


async def test_a_call_that_costs_more_than_is_left_costs_nothing(hold: Holdfast) -> None:
    limits = "10/min"
    assert (await hold.limits.hit("user:1", 7, limits=limits)).remaining == 3
    assert not await hold.limits.hit("user:1", 4, limits=limits)
    assert (await hold.limits.hit("user:1", 3, limits=limits)).remaining == 0
    assert (await hold.limits.hit("user:1", 11, limits=limits)).retry_after is None


async def test_high_limits_count_too(hold: Holdfast) -> None:
    limits = "1_000_000/min"
    assert (await hold.limits.hit("user:1", 999_999, limits=limits)).remaining == 1
    assert await hold.limits.hit("user:1", limits=limits)
    decision = await hold.limits.hit("user:1", limits=limits)
    assert not decision
    assert decision.retry_after is not None
    assert 58 < decision.retry_after < 60.7


async def test_looking_counts_nothing_and_a_reset_begins_anew(hold: Holdfast) -> None:
    limits = "2/min + 50_000/hour"
    for _ in range(5):
        assert await hold.limits.peek("user:1", 2, limits=limits)
    assert await allowed(hold, 5, limits=limits) == 2
    await hold.limits.reset("user:1", limits=limits)
    assert (await hold.limits.peek("user:1", limits=limits)).remaining == 2
    await hold.limits.reset("user:1", tier="enterprise")


@pytest.mark.parametrize("identity", ["", "x" * 1_025, None, 7])
async def test_what_is_no_identity_is_refused(hold: Holdfast, identity: Any) -> None:
    with pytest.raises(InvalidValue, match="an identity is a text"):
        await hold.limits.hit(identity)


@pytest.mark.parametrize("cost", [0, -1, 1.5, True, "1"])
async def test_what_is_no_cost_is_refused(hold: Holdfast, cost: Any) -> None:
    with pytest.raises(InvalidValue, match="a call costs 1 or more"):
        await hold.limits.hit("user:1", cost)


async def test_an_unknown_tier_is_an_error_and_not_a_pass(hold: Holdfast) -> None:
    with pytest.raises(ConfigurationError, match="no tier is called 'gold'; there are free, pro, enterprise, team"):
        await hold.limits.hit("user:1", tier="gold")


async def test_clocks_of_clients_have_no_part(
    any_redis_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = connect(any_redis_url)
    real, real_monotonic = time.time, time.monotonic_ns
    limiter = Limiter(redis)
    try:
        for skew in (0.0, -7_200.0, 7_200.0, 86_400.0):
            monkeypatch.setattr(time, "time", lambda skew=skew: real() + skew)
            monkeypatch.setattr(time, "monotonic_ns", lambda skew=skew: real_monotonic() + int(skew * 1e9))
            await limiter.hit("user:1", 15)
        decision = await limiter.hit("user:1")
        assert not decision
        assert abs(decision.at - real()) < 5
    finally:
        monkeypatch.undo()


async def test_no_name_in_redis_tells_who_it_is_of_and_all_of_one_call_are_in_one_slot(
    redis_url: str, connect: Connect
) -> None:
    redis = connect(redis_url)
    limiter = Limiter(redis, prefix="shop")
    await limiter.hit("ada@example.org", limits="5/min + burst: 2/s + 20_000/day")
    names = sorted(name.decode() for name in await redis.ask(lambda client: client.keys("*"), ""))
    assert len(names) == 3
    assert all(name.startswith("shop:limit:{") and "ada" not in name for name in names)
    assert len({name.partition("}")[0] for name in names}) == 1


async def test_without_redis_speed_is_limited_here_quotas_let_nobody_pass_and_its_return_is_noticed(
    connect: Connect,
) -> None:
    with start_redis() as server:
        redis = connect(server.url, timeout=1.0)
        limiter = Limiter(redis, instances=4)
        speed, both = "20/min", "20/min + month: 100/30d quota"
        assert (await limiter.hit("user:1", limits=both)).source == "redis"
        port = server.port
        server.stop()

        decisions = [await limiter.hit("user:1", limits=speed) for _ in range(20)]
        assert {decision.source for decision in decisions} == {"memory"}
        assert sum(decision.allowed for decision in decisions) == 5
        assert (await limiter.peek("user:1", limits=speed)).remaining == 0
        # A limit of less than one each still lets one through, and 0 nobody.
        assert await limiter.hit("user:1", limits="slow: 1/min")
        assert not await limiter.hit("user:1", limits="none: 0/min")
        # What costs more than this process' part may pass later, elsewhere.
        dear = await limiter.hit("user:2", 8, limits=speed)
        assert dear.retry_after == 1.0
        assert (await limiter.hit("user:2", 21, limits=speed)).retry_after is None

        decision = await limiter.hit("user:3", limits=both)
        assert decision.is_unavailable
        assert decision.retry_after == 1.0
        assert problem_of(decision)["status"] == 503
        assert headers_of(decision)["Retry-After"] == "1"
        assert await limiter.hit("user:3", limits="unlimited")
        with pytest.raises(Unavailable, match="is not reset"):
            await limiter.reset("user:3", limits=both)
        assert (await limiter.peek("user:3", limits=speed)).remaining == 5  # the denied one was not charged

        with start_redis(port=port):
            async with asyncio.timeout(10):
                while (await limiter.hit("user:4", limits=both)).source != "redis":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await limiter.hit("user:5", limits=both)).remaining == 19


async def test_a_user_of_redis_needs_what_the_guide_says(connect: Connect) -> None:
    told = (ROOT / "docs/guides/limits.md").read_text().replace("\n", " ")
    [commands] = re.findall(r"\(cache\.md#redis\) needs, `([^`]+)`", told)
    granted = "+get +mget +set +pttl +del +unlink +eval +scan +ping +publish +subscribe +unsubscribe +info"
    with start_redis() as server:
        assert server.command(f"ACL SETUSER shop on >secret ~holdfast:* &holdfast:* {granted} {commands}") == "+OK"
        url = server.url.replace("redis://", "redis://shop:secret@")
        redis = connect(url)
        limiter = Limiter(redis)
        limits = "burst: 3/250ms + 50/min + slow: 90_000/500ms"
        for _ in range(8):
            decision = await limiter.hit("user:1", 2, limits=limits)
            assert decision.source == "redis"
            await asyncio.sleep(0.1)
        await limiter.reset("user:1", limits=limits)


async def test_without_a_redis_processes_share_a_limit_by_their_number() -> None:
    limiter = Limiter(instances=3)
    assert sum([(await limiter.hit("user:1", limits="10/min")).allowed for _ in range(20)]) == 3


def test_the_blocking_face_has_the_same(sqlite_url: str, redis_url: str) -> None:
    settings = settings_for(sqlite_url, redis_url=redis_url, redis_timeout=5.0)
    with Holdfast.blocking(settings=settings, metadata=NOTHING) as hold:
        assert [hold.limits.hit("user:1", limits="2/min").allowed for _ in range(3)] == [True, True, False]
        assert hold.limits.peek("user:1", limits="2/min").remaining == 0
        hold.limits.reset("user:1", limits="2/min")
        assert hold.limits.peek("user:1", limits="2/min").remaining == 2
        assert "free" in hold.limits.tiers
