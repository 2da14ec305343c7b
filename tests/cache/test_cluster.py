"""The cache on a Redis Cluster whose servers die, stand still and change places."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from devservers import RedisCluster, RedisServer, start_redis_cluster
from holdfast import Holdfast, Load
from holdfast.cache import turns as turns_module
from holdfast.cache.wire import codec_of
from holdfast.store.redis_cluster import Cluster
from holdfast.store.redis_url import Address
from tests.backends import settings_for
from tests.cache.loans import Base

KEYS = [f"key:{number}" for number in range(60)]


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """A cluster of the test's own, whose servers may be killed."""
    with start_redis_cluster(patience=1.5) as cluster:
        yield cluster


@pytest.fixture
async def node(sqlite_url: str, cluster: RedisCluster) -> AsyncIterator[Holdfast]:
    """A node that keeps nothing in memory, so that every read asks Redis."""
    settings = settings_for(sqlite_url, redis_url=cluster.url, redis_timeout=1.0, cache_capacity=0)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        await hold.cache.renew()
        yield hold


class Counted:
    """Loads a key, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, load: Load) -> str:
        self.count += 1
        return f"of {load.key}"


def redis_of(node: Holdfast) -> Cluster:
    redis = node.cache._redis
    assert isinstance(redis, Cluster)
    return redis


def server_of(node: Holdfast, cluster: RedisCluster, key: str) -> RedisServer:
    """The server that the node takes for the one that has the entry of `key`."""
    redis, remote = redis_of(node), node.cache._remote
    assert remote is not None
    name = remote.key(key, codec_of(Any))
    server = redis._slots[redis._slot_of(name.encode())]
    [port] = [address.port for address, one in redis._servers.items() if one is server]
    return next(one for one in cluster.servers if one.port == port)


async def read(node: Holdfast, loads: Counted, keys: Sequence[str] = KEYS) -> float:
    """Read keys at once; returns the seconds of the slowest."""

    async def timed(key: str) -> float:
        began = time.perf_counter()
        assert await node.cache.get_or_load(key, loads, skip_l1=True) == f"of {key}"
        return time.perf_counter() - began

    return max(await asyncio.gather(*map(timed, keys)))


async def until_all_are_kept(node: Holdfast, loads: Counted, *, at_most: float) -> float:
    """Read until nothing is loaded any more; returns how many seconds that took."""
    began = time.perf_counter()
    while True:
        before = loads.count
        await read(node, loads)
        if loads.count == before:
            return time.perf_counter() - began
        assert time.perf_counter() - began < at_most
        await asyncio.sleep(0.1)


async def test_what_a_server_had_that_dies_is_loaded_until_its_replica_takes_over(
    node: Holdfast, cluster: RedisCluster
) -> None:
    loads = Counted()
    await until_all_are_kept(node, loads, at_most=10)
    victim = server_of(node, cluster, KEYS[0])
    os.kill(victim.pid, signal.SIGKILL)
    before = loads.count
    await read(node, loads)  # and never an error
    assert loads.count > before
    await until_all_are_kept(node, loads, at_most=30)
    assert server_of(node, cluster, KEYS[0]) is not victim
    batch = await node.cache.get_many(KEYS)
    assert batch == {key: f"of {key}" for key in KEYS}


async def test_a_server_that_stands_still_costs_its_own_keys_a_moment_and_the_others_nothing(
    node: Holdfast, cluster: RedisCluster
) -> None:
    loads = Counted()
    await until_all_are_kept(node, loads, at_most=10)
    redis = redis_of(node)
    victim = server_of(node, cluster, KEYS[0])
    others = [key for key in KEYS if server_of(node, cluster, key) is not victim]
    for server in cluster.servers:
        assert server.command("CONFIG SET cluster-require-full-coverage no") == "+OK"
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        slowest = await read(node, loads)
        assert slowest < 3.5  # one answer waited for, and one turn, of a second each
        [away] = [server for server in await redis.primaries() if server.is_away]
        assert str(victim.port) in away.place
        assert not redis.is_away
        before = loads.count
        await read(node, loads, others)
        assert loads.count == before
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    await until_all_are_kept(node, loads, at_most=30)


async def test_a_slot_that_moves_to_another_server_is_followed(node: Holdfast, cluster: RedisCluster) -> None:
    redis: Any = redis_of(node)
    here, there = cluster.servers[0], cluster.servers[1]
    await redis.ask(lambda client: client.set("begin", 1), "begin")
    moved = next(f"key:{number}" for number in range(999) if redis._slot_of(f"key:{number}".encode()) < 5000)
    slot = redis._slot_of(moved.encode())
    assert redis._slots[slot] is redis._servers[Address("127.0.0.1", here.port)]
    for server in (there, here):
        assert server.command(f"CLUSTER SETSLOT {slot} NODE {there.text('CLUSTER MYID')}") == "+OK"
    await redis.ask(lambda client: client.set(moved, "there"), moved)
    assert there.text(f"GET {moved}") == "there"
    await until_at(redis, moved, there)
    assert there.command(f"DEL {moved}") == ":1"
    for server in (here, there):
        assert server.command(f"CLUSTER SETSLOT {slot} NODE {here.text('CLUSTER MYID')}") == "+OK"
    assert await redis.get_many([moved, "begin"]) == [None, b"1"]
    await until_at(redis, moved, here)


async def until_at(redis: Any, name: str, server: RedisServer) -> None:
    """Wait until all servers of the cluster have told each other who has `name`, and we have learnt it."""
    async with asyncio.timeout(20):
        while redis._slots[redis._slot_of(name.encode())] is not redis._servers[Address("127.0.0.1", server.port)]:
            await redis.get_many([name])
            await asyncio.sleep(0.05)


async def test_a_waiter_is_woken_whichever_server_has_the_lease(
    node: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "_LOOKS_AGAIN", 60.0)  # woken, not by looking again
    turns: Any = node.cache._turns
    # What is published goes over the servers' own lines, which break now and then where they starve: not every time.
    for attempt in range(3):
        names = [f"turn:{attempt}:{number}" for number in range(9)]
        tokens = await turns.take_many(names, 20.0)
        waits = [asyncio.create_task(turns.wait(name, 20.0)) for name in names]
        while sum(ear.is_open.is_set() for ear in turns._ears.values()) < len(names):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        for name in names:
            await turns.give_back(name, tokens[name], 20.0)
        await asyncio.gather(*waits)
        if time.perf_counter() - began < 5:  # far from the lease
            break
    else:
        raise AssertionError("three times not all were woken")
    assert await turns.take_many(names, 1.0) != dict.fromkeys(names)
