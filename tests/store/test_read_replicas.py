"""Reads on a streaming replica: when asked, never behind what the caller has seen, and the primary when in doubt."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from devservers import PostgresServer
from devservers.process import free_port
from holdfast.errors import ConfigurationError, InvalidValue, StoreError
from holdfast.store import Store
from holdfast.store.read_replicas import Breaker, position_number
from tests.backends import settings_for
from tests.logs import capture_logs
from tests.replicas import lagging
from tests.store.opening import opened
from tests.store.shop import Base, Maker

READ_ONLY = select(func.pg_is_in_recovery())


@pytest.fixture
async def store(postgres_url: str, replica_server: PostgresServer) -> AsyncIterator[Store]:
    name = postgres_url.rpartition("/")[2]
    url = replica_server.database_url(name)
    async with opened(postgres_url, Base.metadata, database_replica_urls=url, replica_wait=5.0) as store:
        position = await store.position()
        # The database itself is new there too.
        connection = await asyncpg.connect(replica_server.url)
        while not await connection.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await connection.close()
        yield store


async def is_replica(store: Store, **options: Any) -> bool:
    async with store.read(**options) as unit:
        return bool((await unit.execute(READ_ONLY)).scalar_one())


async def test_reads_go_there_only_when_asked(store: Store) -> None:
    assert await is_replica(store, replica=True)
    assert not await is_replica(store)
    async with store.unit() as unit:
        assert not (await unit.execute(READ_ONLY)).scalar_one()


async def test_a_read_sees_what_the_caller_has_seen(store: Store) -> None:
    for number in range(20):
        async with store.unit() as unit:
            unit.add(Maker(name=f"m{number}"))
        position = await store.position()
        async with store.read(replica=True, at_least=position) as unit:
            assert await unit[Maker].count() == number + 1
            assert (await unit.execute(READ_ONLY)).scalar_one()


async def test_one_that_is_behind_is_passed_over_and_one_that_need_not_be_is_read(
    store: Store, replica_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.read_replicas is not None
    before = await store.position()
    assert await is_replica(store, replica=True, at_least=before)
    async with lagging(replica_server):
        async with store.unit() as unit:
            unit.add(Maker(name="new"))
        after = await store.position()
        monkeypatch.setattr(store.read_replicas, "_wait", 0.05)
        async with store.read(replica=True, at_least=after) as unit:
            assert await unit[Maker].count() == 1
            assert not (await unit.execute(READ_ONLY)).scalar_one()
        async with store.read(replica=True, at_least=before) as unit:
            assert await unit[Maker].count() == 0
        async with store.read(replica=True) as unit:
            assert (await unit.execute(READ_ONLY)).scalar_one()
        monkeypatch.setattr(store.read_replicas, "_wait", 10.0)

        async def wait() -> bool:
            return await is_replica(store, replica=True, at_least=after)

        waiting = asyncio.create_task(wait())
    assert await waiting  # it caught up while the read waited


async def test_nothing_is_written_there_and_no_raw_sql_goes_there(store: Store) -> None:
    async with store.read(replica=True) as unit:
        with pytest.raises(StoreError, match="raw SQL does not go to a replica"):
            await unit.execute("SELECT nextval('x')")
        with pytest.raises(StoreError, match="raw SQL does not go to a replica"):
            await unit.session.execute(select(Maker).where(text("pg_notify('a', 'b') IS NULL")))
        with pytest.raises(StoreError, match="raw SQL does not go to a replica"):
            await unit.connection()
        with pytest.raises(StoreError, match="read-only"):
            await unit[Maker].add_many([{"name": "x"}])
    # A URL that leads to the primary is no replica, and not read from as one.
    primary = store.settings.database_url
    async with opened(primary, database_replica_urls=primary) as same:
        with capture_logs() as logged:
            assert not await is_replica(same, replica=True)
        assert [(e["event"], e["reason"]) for e in logged if e["event"] == "replica_away"] == [
            ("replica_away", "it is no replica")
        ]
        assert same.read_replicas is not None
        async with same.read_replicas.engines[0].connect() as connection:
            with pytest.raises(Exception, match="read-only transaction"):
                await connection.execute(text("CREATE TABLE x (n int)"))


async def test_one_that_is_gone_or_frozen_costs_a_second_once_and_comes_back(
    store: Store, replica_server: PostgresServer
) -> None:
    nowhere = f"postgresql://app:hidden@127.0.0.1:{free_port()}/x"
    urls = f"{nowhere}, {store.settings.database_replica_urls}"
    async with opened(store.settings.database_url, database_replica_urls=urls) as both:
        with capture_logs() as logged:
            assert [await is_replica(both, replica=True) for _ in range(6)] == [True] * 6
        away = [event for event in logged if event["event"] == "replica_away"]
        assert [event["place"] for event in away] == [nowhere.replace("hidden", "***")]
    async with opened(store.settings.database_url, database_replica_urls=nowhere) as none:
        assert not await is_replica(none, replica=True)
        assert not await is_replica(none, replica=True, at_least=await none.position())
    assert await is_replica(store, replica=True)
    pids = await backends(replica_server)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert store.read_replicas is not None
        [member] = store.read_replicas._members
        member.seen = float("-inf")
        async with asyncio.timeout(10):
            assert not await is_replica(store, replica=True)
            assert not await is_replica(store, replica=True)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    member.breaker._until = 0.0
    with capture_logs() as logged:
        assert await is_replica(store, replica=True)
    assert "replica_back" in [event["event"] for event in logged]


async def backends(server: PostgresServer) -> list[int]:
    connection = await asyncpg.connect(server.url)
    try:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


async def test_what_is_no_position_or_no_place_for_replicas_is_refused(store: Store, sqlite_url: str) -> None:
    for wrong in ("x", "0/", "1-2-3", "0/16B3740 "):
        with pytest.raises(InvalidValue, match="is no position"):
            async with store.read(replica=True, at_least=wrong):
                pass
    for urls, told in (("sqlite:///x.db", "no PostgreSQL"), (" , ", "names no replica")):
        with pytest.raises(ConfigurationError, match=told):
            Store(settings_for(store.settings.database_url, database_replica_urls=urls))
    with pytest.raises(ConfigurationError, match="is no PostgreSQL"):
        Store(settings_for(sqlite_url, database_replica_urls=store.settings.database_url))


async def test_elsewhere_there_is_nothing_to_be_behind_of(sqlite_url: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        async with store.unit() as unit:
            unit.add(Maker(name="m"))
        position = await store.position()
        async with store.read(replica=True, at_least=position) as unit:
            assert await unit[Maker].count() == 1


@given(st.lists(st.sampled_from(["fail", "work", "wait"]), max_size=30))
def test_a_breaker_never_closes_for_longer_than_half_a_minute(events: list[str]) -> None:
    breaker, now = Breaker(), 100.0
    for event in events:
        if event == "fail":
            breaker.failed(now)
            assert not breaker.allows(now)
            assert breaker.allows(now + 30.0)
        elif event == "work":
            breaker.worked()
            assert breaker.allows(now)
        else:
            now += 31.0
            assert breaker.allows(now)


@given(st.integers(0, 2**64 - 1))
def test_positions_are_numbers_in_order(number: int) -> None:
    assert position_number(f"{number >> 32:X}/{number & 0xFFFFFFFF:X}") == number
