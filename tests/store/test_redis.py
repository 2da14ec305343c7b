"""Redis as a server that fails, is slow, full, or refuses: bounded patience, and used again by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devservers import RedisServer, start_redis
from devservers.relay import relay
from holdfast.errors import ConfigurationError
from holdfast.store.redis import Away, Redis
from holdfast.store.redis_url import Address, parsed
from tests.backends import settings_for
from tests.logs import capture_logs
from tests.store.certificates import authority


@asynccontextmanager
async def redis_at(url: str, *, timeout: float = 5.0) -> AsyncIterator[Redis]:
    redis = Redis.of(settings_for("sqlite:///unused.db", redis_url=url, redis_timeout=timeout))
    assert redis is not None
    try:
        yield redis
    finally:
        await redis.close()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with start_redis() as server:
        yield server


async def get(redis: Redis, name: str) -> bytes | str | None:
    return await redis.ask(lambda client: client.get(name), name)


async def put(redis: Redis, name: str, value: str) -> bool | bytes | str | None:
    return await redis.ask(lambda client: client.set(name, value), name)


async def until_back(redis: Redis, *, at_most: float) -> None:
    async with asyncio.timeout(at_most):
        while redis.is_away:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ends(redis: Redis, count: int) -> tuple[int, int, float]:
    """Ask `count` questions at once; returns how many were answered, the longest line, and how long it took."""
    longest, answered = 0, 0
    began = time.perf_counter()

    async def one() -> None:
        nonlocal answered
        try:
            await get(redis, "k")
            answered += 1
        except Away:
            pass

    [server] = await redis.known()
    every = asyncio.gather(*(one() for _ in range(count)))
    while not every.done():
        await asyncio.sleep(0.01)
        longest = max(longest, server.waiting)
    return answered, longest, time.perf_counter() - began


async def test_a_server_that_is_killed_and_comes_back_at_its_place_is_used_again() -> None:
    with start_redis() as server:
        async with redis_at(server.url) as redis:
            await put(redis, "k", "before")
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            for _ in range(3):
                with pytest.raises(Away):
                    await get(redis, "k")
            assert redis.is_away
            with start_redis(port=server.port):
                await until_back(redis, at_most=2)
                assert await get(redis, "k") is None
                await put(redis, "k", "after")
                assert await get(redis, "k") == b"after"


async def test_a_server_that_stands_still_lets_nobody_pile_up_and_is_used_again_within_two_seconds(
    server: RedisServer,
) -> None:
    async with redis_at(server.url, timeout=0.5) as redis:
        await put(redis, "k", "v")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            answered, longest, took = await ends(redis, 5_000)
            assert answered == 0
            assert 900 < longest <= 1_000
            assert took < 4  # two patiences, on a slow machine
            before = len(asyncio.all_tasks())
            for _ in range(20):
                assert (await ends(redis, 500))[:2] == (0, 0)  # left alone, and nobody waits
            assert len(asyncio.all_tasks()) == before
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until_back(redis, at_most=2)
        assert await get(redis, "k") == b"v"


async def test_a_slow_server_is_asked_on_and_nobody_waits_longer_in_line_than_for_an_answer(
    server: RedisServer,
) -> None:
    async with relay(server.host, server.port) as line, redis_at(f"redis://127.0.0.1:{line.port}/0") as redis:
        await put(redis, "k", "v")
        await asyncio.gather(*(get(redis, "k") for _ in range(48)))  # has all connections made
        line.delay = 0.4
        [one] = await redis.known()
        one._timeout = 1.0
        answered, longest, took = await ends(redis, 3_000)  # two fifths of a second each for 48: half a minute
        assert 48 <= answered < 1_000
        assert 900 < longest <= 1_000
        assert took < 10
        assert not redis.is_away


async def test_a_server_that_is_full_refuses_to_keep_and_still_gives_what_it_has(server: RedisServer) -> None:
    with capture_logs() as logs:
        async with redis_at(server.url) as redis:
            await full(redis, server)
    assert [log["event"] for log in logs] == ["redis_refuses"]  # once, and not ten times


async def full(redis: Redis, server: RedisServer) -> None:
    await put(redis, "k", "v")
    server.command("CONFIG SET maxmemory 1")
    for _ in range(5):
        with pytest.raises(Away):
            await put(redis, "more", "x")
    assert not redis.is_away
    for _ in range(5):
        assert await redis.ask_each(["a", "b"], _set_both) == {}
    assert not redis.is_away
    assert await get(redis, "k") == b"v"


async def _set_both(client: Any, names: Any) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.set(name, 1)
    return list(await pipeline.execute(raise_on_error=False))


async def test_tls_with_an_authority_of_ones_own(server: RedisServer, tmp_path: Path) -> None:
    file, context = authority(tmp_path, "ours")
    other, _ = authority(tmp_path, "theirs")
    async with relay(server.host, server.port, tls=context) as line:
        async with redis_at(f"rediss://127.0.0.1:{line.port}/0?ssl_ca_certs={file}") as redis:
            await put(redis, "k", "v")
            assert await get(redis, "k") == b"v"
        for query in ("", f"?ssl_ca_certs={other}", "?ssl_ca_certs=/nowhere.pem"):
            async with redis_at(f"rediss://127.0.0.1:{line.port}/0{query}") as redis:
                with pytest.raises(Away):
                    await get(redis, "k")


async def test_a_user_of_its_own(server: RedisServer) -> None:
    assert server.command("ACL SETUSER cache on >s:c/r@t ~holdfast:* &holdfast:* +@all -@dangerous") == "+OK"
    async with redis_at(f"redis://cache:s%3Ac%2Fr%40t@{server.host}:{server.port}/0") as redis:
        await put(redis, "holdfast:k", "v")
        assert await get(redis, "holdfast:k") == b"v"
        with pytest.raises(Away):
            await get(redis, "elsewhere")
        assert not redis.is_away
    for login in ("cache:wrong", "nobody:s%3Ac%2Fr%40t"):
        async with redis_at(f"redis://{login}@{server.host}:{server.port}/0") as redis:
            with pytest.raises(Away):
                await get(redis, "holdfast:k")


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:s/e@cret@host/0",
        "redis://cache:12?secret=1@host/0",
        "redis://host/0?nonsense=secret",
        "redis://host/0?socket_timeout=secret",
        "redis://host/0?ssl_ca_certs=/x",
        "rediss://host/0?ssl_cert_reqs=secret",
        "redis+cluster://:secret@host:x/0",
        "redis+cluster://:secret@host/3",
        "redis+cluster://:secret@host,,other/0",
        "redis+cluster://:secret@/0",
        "redis+cluster://host/0?nonsense=secret",
    ],
)
def test_a_malformed_url_is_a_clear_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HOLDFAST_REDIS_URL=") as caught:
        Redis.of(settings_for("sqlite:///unused.db", redis_url=url.replace("nonsense=secret", "nonsense=1")))
    shown = str(caught.value).replace("socket_timeout=secret", "").replace("ssl_cert_reqs=secret", "")
    assert "secret" not in shown
    assert "cret" not in shown
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "seeds", "first"),
    [
        ("redis+cluster://a", [("a", 6379)], "redis://a:6379/0"),
        ("redis+cluster://a:1,b:2,[::1]:3/", [("a", 1), ("b", 2), ("::1", 3)], "redis://a:1/0"),
        (
            "rediss+cluster://u:p%40w@a:1,b/0?ssl_ca_certs=/x",
            [("a", 1), ("b", 6379)],
            "rediss://u:p%40w@a:1/0?ssl_ca_certs=/x",
        ),
        ("redis+cluster://:p@[::1]:3?socket_keepalive=yes", [("::1", 3)], "redis://:p@[::1]:3/0?socket_keepalive=yes"),
    ],
)
def test_the_url_of_a_cluster_names_some_of_its_servers(url: str, seeds: list[tuple[str, int]], first: str) -> None:
    found, url_of = parsed(url)
    assert found == [Address(*seed) for seed in seeds]
    assert url_of(found[0]) == first
