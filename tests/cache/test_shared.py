"""What nodes share by Redis: values, turns, and that none of it is trusted or needed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from devservers import RedisServer, start_redis
from devservers.relay import relay
from holdfast import Holdfast, Load
from holdfast.cache import LoadMany, Options
from holdfast.cache.wire import Head, codec_of
from holdfast.errors import InvalidValue
from holdfast.store.redis import Away
from tests.backends import settings_for
from tests.cache.loans import Base, Loans, lend


@asynccontextmanager
async def nodes(url: str, redis_url: str, count: int = 2, **settings: Any) -> AsyncIterator[list[Holdfast]]:
    """Nodes on one database and one Redis."""
    opened: list[Holdfast] = []
    try:
        for number in range(count):
            given = settings_for(url, redis_url=redis_url, **{"redis_timeout": 5.0, **settings})
            hold = await Holdfast.open(settings=given, metadata=Base.metadata, migrate=number == 0)
            opened.append(hold)
            if not number:
                await hold.cache.renew()
        yield opened
    finally:
        for hold in opened:
            await hold.close()


async def value(load: Load) -> dict[str, Any]:
    return {"of": load.key}


async def never(load: Load) -> Any:
    raise AssertionError(f"{load.key} was loaded")


async def shared(hold: Holdfast, key: str) -> bytes:
    """The bytes in Redis, once they are there."""
    assert hold.cache._redis is not None
    async with asyncio.timeout(5):
        while True:
            for name, client in await named(hold, key):
                data = await client.get(name)
                if data is not None:
                    return bytes(data)
            await asyncio.sleep(0.005)


async def named(hold: Holdfast, key: str) -> list[tuple[bytes, Any]]:
    """The names of what is kept for `key`, and the client of the server that has it."""
    redis = hold.cache._redis
    assert redis is not None
    clients: list[Any] = [server.client for server in await redis.primaries()]
    return [(name, client) for client in clients for name in await client.keys(f"*:{key}")]


async def put(hold: Holdfast, key: str, data: bytes) -> None:
    """Have Redis keep `data` for `key`, in place of what it does."""
    [(name, client)] = await named(hold, key)
    await client.set(name, data)


async def test_what_one_node_has_loaded_the_others_need_not(postgres_url: str, any_redis_url: str) -> None:
    async with nodes(postgres_url, any_redis_url) as (a, b):
        assert await a.cache.get_or_load("k", value, tags=("t",)) == {"of": "k"}
        await shared(a, "k")
        assert await b.cache.get_or_load("k", never, tags=("t",)) == {"of": "k"}
        assert b.cache.peek("k") == {"of": "k"}
        await b.cache.invalidate("t")
        await a.cache.renew()
        assert await a.cache.get("k") is None


@pytest.mark.parametrize("many", [False, True])
async def test_while_loading_fails_the_older_value_is_the_one_that_has_seen_more(
    postgres_url: str, any_redis_url: str, many: bool
) -> None:
    given: dict[str, Any] = {"ttl": 0.2, "fail_safe": 60}

    async def read(hold: Holdfast, value: int | None) -> Any:
        async def load(load: Any) -> Any:
            if value is None:
                raise ZeroDivisionError
            return {"k": value} if many else value

        if many:
            return (await hold.cache.get_or_load_many(["k"], load, **given))["k"]
        return await hold.cache.get_or_load("k", load, **given)

    async with nodes(postgres_url, any_redis_url) as (a, b):
        assert await read(a, 1) == 1
        await lend(a, "ada", "Dune")
        await asyncio.sleep(0.2)
        await b.cache.renew()
        assert await read(b, 2) == 2
        await asyncio.sleep(0.3)
        await a.cache.renew()
        assert await read(a, None) == 2


async def test_values_that_are_kept_together_are_one_question_to_redis(postgres_url: str, any_redis_url: str) -> None:
    async with nodes(postgres_url, any_redis_url) as (a, b):
        await a.cache.set_many({str(n): n for n in range(50)}, tags=(tag for tag in ("t",)))
        assert await b.cache.get_many([str(n) for n in range(50)]) == {str(n): n for n in range(50)}
        assert await a.cache.get_many(["1", "2"], options=Options.of(skip_l1=True)) == {"1": 1, "2": 2}
        await b.cache.invalidate("t")
        await a.cache.renew()
        assert await a.cache.get_many([str(n) for n in range(50)]) == {}


async def test_values_that_were_loaded_together_the_others_need_not_load(postgres_url: str, any_redis_url: str) -> None:
    keys = [str(n) for n in range(50)]

    async def numbers(load: LoadMany) -> dict[str, int]:
        return {key: int(key) for key in load.keys}

    async with nodes(postgres_url, any_redis_url) as (a, b):
        await asyncio.gather(a.cache.renew(), b.cache.renew())
        await a.cache.get_or_load_many(keys, numbers)
        async with asyncio.timeout(2):
            while len(await b.cache.get_many(keys)) < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_node_that_starts_serves_what_others_loaded_before_and_nothing_that_changed_since(
    postgres_url: str, any_redis_url: str
) -> None:
    async with nodes(postgres_url, any_redis_url, 1) as (hold,):
        await lend(hold, "ada", "Dune")
        await lend(hold, "bob", "Emma")
        loans = Loans(hold)
        for reader in ("ada", "bob"):
            await hold.cache.get_or_load(f"loans:{reader}", loans)
        await lend(hold, "bob", "Persuasion")
        await lend(hold, "eve", "Ulysses")
        async with await Holdfast.open(settings=hold.settings, metadata=Base.metadata, migrate=False) as late:
            mine = Loans(late)
            async with asyncio.timeout(3):
                while await late.cache.get("loans:ada") is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await late.cache.get_or_load("loans:ada", mine) == ["Dune"]
            assert mine.count == 0
            assert await late.cache.get("loans:bob") is None
            assert await late.cache.get_or_load("loans:bob", mine) == ["Emma", "Persuasion"]
            freshness = late.cache._freshness
            assert freshness.floor < freshness.tick


async def test_many_callers_on_many_nodes_make_one_load(postgres_url: str, any_redis_url: str) -> None:
    loads = 0

    async def slow(load: Load) -> int:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.3)
        return loads

    async with nodes(postgres_url, any_redis_url, 4) as every:
        began = time.perf_counter()
        # A node that could not learn of changes in a second, as on a busy machine, would rightly load by itself.
        calls = (hold.cache.get_or_load("k", slow, max_staleness="30s") for hold in every for _ in range(50))
        values = await asyncio.gather(*calls)
        took = time.perf_counter() - began
    assert (loads, set(values)) == (1, {1})
    assert took < 4.0  # far from the lease of five seconds: who waited was woken


async def test_a_holder_that_is_gone_costs_its_lease_and_no_more(postgres_url: str, any_redis_url: str) -> None:
    async with nodes(postgres_url, any_redis_url) as (a, b):
        assert a.cache._turns is not None
        asked = f"{a.cache._loads.remote.key('k', codec_of(Any))}:turn"  # type: ignore[union-attr]
        assert await a.cache._turns.take(asked, 0.5) is not None  # and a says no more
        began = time.perf_counter()
        assert await b.cache.get_or_load("k", value) == {"of": "k"}
        assert 0.3 < time.perf_counter() - began < 1.5


async def test_a_load_that_fails_lets_the_next_one_begin_at_once(postgres_url: str, any_redis_url: str) -> None:
    async def fails(load: Load) -> None:
        await asyncio.sleep(0.2)
        raise ZeroDivisionError

    async with nodes(postgres_url, any_redis_url) as (a, b):
        first = asyncio.create_task(a.cache.get_or_load("k", fails))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        assert await b.cache.get_or_load("k", value) == {"of": "k"}
        assert time.perf_counter() - began < 4.0  # as above
        with pytest.raises(ZeroDivisionError):
            await first


async def test_an_old_value_that_comes_back_to_redis_is_not_served(postgres_url: str, any_redis_url: str) -> None:
    async with nodes(postgres_url, any_redis_url) as (a, b):
        loans = Loans(a)
        assert await a.cache.get_or_load("loans:ada", loans) == []
        old = await shared(a, "loans:ada")
        await lend(a, "ada", "Dune")
        await b.cache.renew()
        await put(a, "loans:ada", old)
        assert await b.cache.get_or_load("loans:ada", Loans(b)) == ["Dune"]
        await put(a, "loans:ada", old)
        assert await a.cache.get_or_load("loans:ada", loans) == ["Dune"]


async def test_what_is_no_entry_is_missed(postgres_url: str, any_redis_url: str) -> None:
    async with nodes(postgres_url, any_redis_url) as (a, b):
        assert await a.cache.get_or_load("k", value) == {"of": "k"}
        good = await shared(a, "k")
        for bad in (b"", b"\0", b"nonsense", good[:-1], good[1:], b"\xff" * 100, b"\0\x01\x90", good[:40]):
            await put(a, "k", bad)
            assert await b.cache.get("k") is None


@dataclass
class Before:
    name: str


@dataclass
class After:
    name: str
    age: int = 0


async def test_a_deploy_with_another_type_of_value_misses(postgres_url: str, any_redis_url: str) -> None:
    async def before(load: Load) -> Before:
        return Before("ada")

    async def after(load: Load) -> After:
        return After("ada", 36)

    async with nodes(postgres_url, any_redis_url) as (a, b):
        assert await a.cache.get_or_load("k", before, kind=Before) == Before("ada")
        await shared(a, "k")
        assert await b.cache.get_or_load("k", after, kind=After) == After("ada", 36)
        assert await b.cache.get("k", kind=Before, default=0) == After("ada", 36)  # in its memory, where types are lent
        assert await a.cache.get("k", kind=Before) == Before("ada")


async def test_a_value_that_others_could_not_have_is_refused(postgres_url: str, any_redis_url: str) -> None:
    async def unknown(load: Load) -> Any:
        return {"id": uuid.uuid4()}

    async def strange(load: Load) -> Any:
        return object()

    async with nodes(postgres_url, any_redis_url, 1) as (a,):
        for loader in (unknown, strange):
            with pytest.raises(InvalidValue, match=r"cannot be kept for other nodes.*skip_l2=True"):
                await a.cache.get_or_load("k", loader)
            assert await a.cache.get_or_load(loader.__name__, loader, skip_l2=True)


HEAD = Head(
    epoch=1_763_712_345_678,
    as_of=42,
    hashes=(204_094_391, 1),
    at=1_763_712_768.0,
    ttl=300.0,
    fail_safe=0.0,
    ahead=0.0,
    max_staleness=1.0,
    cost=0.25,
    weight=1,
    note=None,
    form=0,
)
# As the first version wrote it. Another form needs another `wire.VERSION`, and a test of its own beside this one.
WRITTEN = bytes.fromhex(
    "004b9ccf0000019aa572a64e2a92ce0c2a3bb701cb41da4807c0000000cb4072c00000000000cb0000000000000000cb0000"
    "000000000000cb3ff0000000000000cb3fd000000000000001c00081a1619401a162c0cb4004000000000000"
)


def test_what_the_first_version_wrote_is_read_and_written_the_same() -> None:
    value = {"a": [1, "b", None, 2.5]}
    assert codec_of(Any).encode(lambda form: msgspec.structs.replace(HEAD, form=form), value) == WRITTEN
    assert codec_of(Any).decode(WRITTEN) == (HEAD, value)


async def test_reads_go_on_while_redis_swallows_everything_and_it_is_used_again_when_it_is_back(
    postgres_url: str, redis_server: RedisServer
) -> None:
    async with relay(redis_server.host, redis_server.port) as line:
        url = f"redis://127.0.0.1:{line.port}/0"
        async with nodes(postgres_url, url, 1, redis_timeout=0.1) as (a,):
            assert await a.cache.get_or_load("warm", value) == {"of": "warm"}
            assert a.cache._redis is not None
            line.drops = True
            took = []
            deadline = time.perf_counter() + 10
            while len(took) < 40 or not a.cache._redis.is_away:
                began = time.perf_counter()
                assert began < deadline
                assert await a.cache.get_or_load(f"k{len(took)}", value) == {"of": f"k{len(took)}"}
                took.append(time.perf_counter() - began)
            assert sum(one >= 0.1 for one in took) <= 5  # three waited, each once; and a slow machine
            assert max(took) < 1.0
            line.drops = False
            async with asyncio.timeout(2):
                while a.cache._redis.is_away:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await a.cache.get_or_load("again", value)
            await shared(a, "again")


async def test_a_line_that_is_cut_is_mended(postgres_url: str, redis_server: RedisServer) -> None:
    async with (
        relay(redis_server.host, redis_server.port) as line,
        nodes(postgres_url, f"redis://127.0.0.1:{line.port}/0") as (a, b),
    ):
        for number in range(5):
            await a.cache.get_or_load(f"k{number}", value)
            line.cut()
            assert await b.cache.get_or_load(f"k{number}", value) == {"of": f"k{number}"}


async def test_a_redis_that_restarts_empty_is_only_a_miss(postgres_url: str) -> None:
    with start_redis() as server:
        async with nodes(postgres_url, server.url) as (a, b):
            await a.cache.get_or_load("k", value)
            await shared(a, "k")
            server.clear()
            assert await b.cache.get("k") is None
            assert await a.cache.get("k") == {"of": "k"}
        async with nodes(postgres_url, server.url, 1) as (a,):
            server.stop()
            assert await a.cache.get_or_load("gone", value) == {"of": "gone"}


async def test_lines_that_are_cut_while_many_wait_for_their_turn_are_told_to_nobody(
    postgres_url: str, redis_server: RedisServer
) -> None:
    async with (
        relay(redis_server.host, redis_server.port) as line,
        nodes(postgres_url, f"redis://127.0.0.1:{line.port}/0") as (a, b),
    ):
        turns: Any = a.cache._turns

        async def wait(number: int) -> None:
            with contextlib.suppress(Away):
                await b.cache._turns.take(f"turn:{number}", 0.2)  # type: ignore[union-attr]
                await turns.wait(f"turn:{number}", 0.2)

        for _ in range(15):
            waits = asyncio.gather(*(wait(number) for number in range(30)))
            while not waits.done():
                await asyncio.sleep(0.01)
                line.cut()
            await waits
        a.cache._redis._server.is_away = b.cache._redis._server.is_away = False  # type: ignore[union-attr]
        await wait(0)
        assert turns._ears == {}


async def test_a_note_that_cannot_be_written_keeps_nobody_waiting(postgres_url: str, redis_url: str) -> None:
    async with nodes(postgres_url, redis_url) as (one, two):
        for number, note in enumerate((object(), "x" * 70_000)):

            async def load(load: Load, note: Any = note) -> int:
                load.remember(note)
                return 1

            began = time.monotonic()
            assert await one.cache.get_or_load(f"k{number}", load, lease=20) == 1
            assert await two.cache.get_or_load(f"k{number}", load, lease=20) == 1
            assert time.monotonic() - began < 15


async def test_a_redis_to_which_nobody_can_connect_costs_a_moment(postgres_url: str) -> None:
    with contextlib.ExitStack() as held:
        deaf = held.enter_context(socket.socket())  # takes no connection, and refuses none
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        for _ in range(20):
            filler = held.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        else:
            raise AssertionError("the line of connections was never full")
        async with nodes(postgres_url, f"redis://127.0.0.1:{address[1]}", 1, redis_timeout=0.25) as [hold]:
            took: list[float] = []
            async with asyncio.timeout(30):
                while hold.cache.redis_state() != "away" or len(took) < 40:
                    began, key = time.perf_counter(), f"k:{len(took)}"
                    assert await hold.cache.get_or_load(key, value) == {"of": key}
                    took.append(time.perf_counter() - began)
                    await asyncio.sleep(0.01)
            assert max(took) < 2.0  # it is 0.25 s and the load, on a machine that does nothing else
            assert sorted(took)[len(took) // 2] < 0.25  # most do not wait at all
