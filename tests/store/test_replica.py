"""An embedded replica of a libSQL database: reads that ask for it, and what it may be behind."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from devservers import SqldServer, ensure_sqld, start_sqld
from holdfast.errors import ConfigurationError, StoreError, Unavailable
from holdfast.store import Store
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture
def primary() -> Iterator[SqldServer]:
    ensure_sqld()
    with start_sqld(namespaces=False) as server:
        yield server


@pytest.fixture
def url(primary: SqldServer) -> str:
    return f"libsql+http://127.0.0.1:{primary.port}"


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(url, Base.metadata, database_replica_file=str(tmp_path / "copy.db")) as store:
        yield store


async def names(store: Store, **options: Any) -> list[str]:
    async with store.read(**options) as unit:
        return [maker.name for maker in await unit[Maker].list(unit[Maker].query().order_by("name"))]


async def add(store: Store, name: str) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name=name))


async def test_a_process_reads_from_the_replica_what_it_has_written(store: Store) -> None:
    for n in range(20):
        await add(store, f"{n:02}")
        assert await names(store, replica=True) == [f"{m:02}" for m in range(n + 1)]


async def test_the_replica_answers_from_its_file_and_only_who_asks_for_it(store: Store, url: str) -> None:
    await add(store, "a")
    assert await names(store, replica=True) == ["a"]
    async with opened(url) as other:
        await add(other, "b")
    assert await names(store) == ["a", "b"]
    async with asyncio.timeout(10):
        while await names(store, replica=True) != ["a", "b"]:  # noqa: ASYNC110  another process' write, found by polling
            await asyncio.sleep(0.02)


async def test_nothing_is_written_to_the_replica(store: Store) -> None:
    await add(store, "a")
    with pytest.raises(StoreError, match="read-only unit"):
        async with store.read(replica=True) as unit:
            await unit.execute("DELETE FROM makers")
    assert await names(store) == ["a"]


async def test_without_its_primary_the_replica_serves_those_who_have_not_written(
    primary: SqldServer, url: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "copy.db")
    async with opened(url, Base.metadata, database_replica_file=file) as store:
        await add(store, "a")
        assert await names(store, replica=True) == ["a"]
    async with opened(url, database_replica_file=file) as store:
        assert await names(store, replica=True) == ["a"]
        os.kill(primary.pid, signal.SIGKILL)
        began = time.monotonic()
        assert await names(store, replica=True) == ["a"]
        assert time.monotonic() - began < 1
        with pytest.raises(Unavailable):
            await names(store)
    async with opened(url, database_replica_file=file) as store:
        assert await names(store, replica=True) == ["a"]
        assert store.replica is not None
        store.replica.wrote()
        with pytest.raises(Unavailable, match="cannot be caught up"):
            await names(store, replica=True)


async def test_the_process_that_copies_may_be_killed(store: Store) -> None:
    await add(store, "a")
    assert await names(store, replica=True) == ["a"]
    assert store.replica is not None
    for n in range(3):
        process = store.replica._process
        assert process is not None
        process.kill()
        await process.wait()
        await add(store, f"b{n}")
        async with asyncio.timeout(20):
            while True:
                try:
                    assert (await names(store, replica=True))[-1] == f"b{n}"
                    break
                except Unavailable:
                    continue


async def test_a_reader_sees_whole_transactions_and_never_goes_back(store: Store) -> None:
    """Each unit writes a maker and its part, while readers count both in two statements."""
    last, reads = [0, 0], 0
    stop = asyncio.Event()

    async def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            async with store.unit() as unit:
                maker = await unit[Maker].add(Maker(name=f"{n:05}"))
                await unit[Part].add_many([{"title": f"{n}", "maker_id": maker.id}])

    async def read(number: int) -> None:
        nonlocal reads
        while not stop.is_set():
            async with store.read(replica=True) as unit:
                makers = await unit[Maker].count()
                await asyncio.sleep(0)
                assert await unit[Part].count() == makers
            assert makers >= last[number]
            last[number] = makers
            reads += 1

    tasks = [asyncio.create_task(work) for work in (write(), read(0), read(1))]
    until = time.monotonic() + 60
    await asyncio.wait(tasks, timeout=2, return_when=asyncio.FIRST_EXCEPTION)
    while (min(last) <= 10 or reads <= 20) and time.monotonic() < until and not any(task.done() for task in tasks):  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # a machine that does other things too
    stop.set()
    await asyncio.gather(*tasks)
    assert min(last) > 10
    assert reads > 20
    async with store.read(replica=True) as unit:
        assert (await unit.execute("PRAGMA integrity_check")).scalar_one() == "ok"


async def test_two_processes_do_not_share_a_file(store: Store, url: str) -> None:
    await add(store, "a")
    assert await names(store, replica=True) == ["a"]
    assert store.settings.database_replica_file is not None
    async with opened(url, database_replica_file=store.settings.database_replica_file) as other:
        await add(other, "b")
        with pytest.raises(Unavailable, match="give each process a file of its own"):
            await names(other, replica=True)


@pytest.mark.parametrize(
    ("url", "told"),
    [("sqlite:///a.db", "no libSQL database over HTTP"), ("libsql+http://127.0.0.1:1?namespace=a", "first label")],
)
def test_a_replica_of_what_cannot_have_one_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Store(settings_for(url, database_replica_file="copy.db"))


async def test_who_asks_where_there_is_no_replica_reads_the_database(sqlite_url: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        await add(store, "a")
        assert await names(store, replica=True) == ["a"]
