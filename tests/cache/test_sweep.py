"""Sweeping removes for good what may never be served again, wherever it lies, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.cache import Load, Options
from holdfast.cache.wire import codec_of, head_of
from holdfast.errors import Unavailable
from tests.backends import settings_for
from tests.cache.conftest import ALSO_ON_A_CLUSTER
from tests.cache.loans import Base

LONG = Options.of(ttl="2h", max_staleness="30s")
MANY_TAGS = tuple(f"tag {number}" for number in range(400))


@pytest.fixture(params=ALSO_ON_A_CLUSTER)
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    redis_url = request.getfixturevalue(f"{redis}_url") if redis else None
    settings = settings_for(request.getfixturevalue(f"{database}_url"), redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        await hold.cache.renew()
        yield hold


async def keep(hold: Holdfast, key: str, value: Any, tags: tuple[str, ...]) -> Any:
    async def load(load: Load) -> Any:
        return value

    found = await hold.cache.get_or_load(key, load, tags=tags, options=LONG)
    await asyncio.gather(*hold.cache._loads._shares)
    return found


async def lying(hold: Holdfast) -> set[str]:
    """The keys that lie in Redis and in the table of results, fit to be served or not."""
    found = set()
    if hold.cache._redis is not None:
        for server in await hold.cache._redis.primaries():
            found |= {name.decode().rpartition(":")[2] async for name in server.client.scan_iter("*:cache:*")}
    async with hold.read() as unit:
        rows = await unit.execute("SELECT key FROM holdfast_results")
        return found | {row[0].partition(":")[2] for row in rows}


async def test_what_ended_goes_from_everywhere_and_what_did_not_stays(hold: Holdfast) -> None:
    for name in ("ada", "bob"):
        await keep(hold, name, f"about {name}", (name,))
    await keep(hold, "large", "x" * 100_000, ("ada", *MANY_TAGS))
    await keep(hold, "large, of another", "x" * 100_000, ("bob", *MANY_TAGS))
    everything = {"ada", "bob", "large", "large, of another"}
    assert await lying(hold) == everything
    levels = 1 if hold.cache._redis is None else 2
    assert await hold.cache.sweep() == 0
    await hold.cache.invalidate("ada")
    assert await lying(hold) == everything  # nobody is served it, and yet it is there
    assert await hold.cache.sweep() == 2 * levels
    assert await lying(hold) == {"bob", "large, of another"}
    assert await keep(hold, "bob", "loaded anew", ("bob",)) == "about bob"
    assert await keep(hold, "ada", "loaded anew", ("ada",)) == "loaded anew"


async def test_every_node_forgets_what_is_in_its_memory(hold: Holdfast) -> None:
    async with await Holdfast.open(settings=hold.settings, metadata=Base.metadata, migrate=False) as other:
        await keep(other, "ada", "about ada", ("ada",))
        assert other.cache.size().entries == 1
        await hold.cache.invalidate("ada")
        await hold.cache.sweep()
        await other.cache.renew()
        assert other.cache.size().entries == 0


async def test_a_node_that_has_just_begun_knows_what_the_journal_knows(hold: Holdfast) -> None:
    for name in ("ada", "bob"):
        await keep(hold, name, f"about {name}", (name,))
    await hold.cache.invalidate("ada")
    async with await Holdfast.open(settings=hold.settings, metadata=Base.metadata, migrate=False) as new:
        await new.cache.sweep()
    assert await lying(hold) == {"bob"}


async def test_what_is_none_of_ours_stays(redis_url: str, sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        await keep(hold, "ada", "about ada", ("ada",))
        client: Any = hold.cache._redis._server.client  # type: ignore[union-attr]
        prefix = settings.redis_prefix
        await client.set(f"{prefix}:cache:junk", b"\xff\xff\xff")
        await client.set(f"{prefix}:cache:empty", b"")
        await client.rpush(f"{prefix}:cache:list", "a")
        await client.set("another's", b"\x00\x01a")
        await hold.cache.invalidate("ada")
        assert await hold.cache.sweep() >= 1
        left = {name.decode() for name in await client.keys("*")}
        assert {f"{prefix}:cache:{name}" for name in ("junk", "empty", "list")} | {"another's"} <= left
        assert not any(name.endswith(":ada") for name in left)
    with pytest.raises(Unavailable, match="closed"):
        await hold.cache.sweep()


def test_the_head_of_an_entry_is_found_in_its_beginning_alone() -> None:
    for data in (b"", b"\x00", b"\x00\x05ab", b"\xff\xff" + b"\x90" * 100):
        assert head_of(data) is None
    from holdfast.cache.wire import Head

    head = Head(1, 2, tuple(range(9_000)), 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1, None, 0)
    written = codec_of(Any).encode(lambda form: head, "value")
    assert head_of(written) == head_of(written[: int.from_bytes(written[:2], "big") + 2]) == head
    assert head_of(written[:1_024]) is None
