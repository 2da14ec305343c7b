"""How fast a backfill may go: the bound on its locks, and whom it waits for."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devservers import PostgresServer
from holdfast import journal
from holdfast.errors import Unavailable
from holdfast.journal import Batch, Journal
from holdfast.migrate import backfill
from holdfast.migrate.backfills import runner
from holdfast.migrate.backfills.neighbours import Trail
from holdfast.migrate.backfills.pace import LEAST, Pace
from holdfast.store import Query, Store
from tests.migrate.articles import METADATA, Article
from tests.replicas import lagging
from tests.store.opening import opened

ROWS = 60
QUIET = 1.5  # seconds in which a backfill that may go on would be done


@given(st.lists(st.floats(min_value=1e-6, max_value=10), max_size=60), st.integers(1, 5_000))
def test_batches_stay_within_their_limits_whatever_they_take(seconds: list[float], most: int) -> None:
    pace = Pace(most, bound=0.05)
    for one in seconds:
        pace.took(pace.size, one)
        assert 1 <= pace.size <= most


@given(st.floats(min_value=1e-6, max_value=4e-3), st.floats(min_value=0, max_value=0.002))
def test_batches_come_to_keep_the_bound(row: float, fixed: float) -> None:
    pace = Pace(100_000, bound=0.05)
    for _ in range(40):
        pace.took(pace.size, fixed + row * pace.size)
    took = fixed + row * pace.size
    assert took <= 0.05 or pace.size == LEAST


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60))
def test_a_replica_is_behind_since_the_primary_went_beyond_it(steps: list[tuple[int, int]]) -> None:
    """One look a second; the primary writes, the replica replays some of what is written."""
    trail, written, replayed = Trail(), 0, 0
    history: list[tuple[int, int]] = []
    for now, (more, done) in enumerate(steps):
        written += more
        replayed = min(written, replayed + done)
        history.append((now, written))
        expected = next((now - then for then, place in history if place > replayed), 0)
        assert trail.behind(now, written, replayed) == expected


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, METADATA) as store:
        await filled(store)
        yield store


async def filled(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Article].add_many([{"name": f"n{n:04d}"} for n in range(ROWS)])


async def titles(store: Store) -> int:
    async with store.read() as unit:
        return await unit[Article].count(Query(Article).where(Article.title.is_not(None)))


@asynccontextmanager
async def filling(store: Store, **options: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A backfill under way, in batches of ten, of which each takes a fifth of a second."""

    def titled(row: Any) -> dict[str, str]:
        time.sleep(0.02)
        return {"title": row.name.upper()}

    work = backfill(store, name="titles", source=Article, transform=titled, columns=["name"], batch=10, **options)
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_no_garbage_is_collected_while_rows_are_locked(store: Store) -> None:
    seen: list[bool] = []

    async with store.unit() as unit:
        connection = await unit.connection()
        real = type(connection.sync_connection)

    def look(self: Any, *args: Any, **options: Any) -> Any:
        result = execute(self, *args, **options)
        if "UPDATE articles" in str(args[0]):
            seen.append(gc.isenabled())
        return result

    execute = real.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "execute", look)
        async with filling(store) as task:
            assert (await task).written == ROWS
    assert seen
    assert not any(seen)
    assert gc.isenabled()


async def test_it_waits_for_a_follower_that_is_behind_and_stays_the_runner(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK", 0.0)
    async with store.connect(write=True) as connection:
        await journal.install(connection, [Article])
    kept = Journal(store)
    had: list[int] = []
    may_go_on = asyncio.Event()

    async def handle(batch: Batch) -> None:
        await may_go_on.wait()
        had.append(len(batch.changes))

    await kept.subscribe("slow", handle, start="now")
    lease = 2.0  # longer than the backfill rests at a time
    async with filling(store, max_follower_lag=0.1, lease=lease) as task:
        await asyncio.sleep(QUIET + lease)
        assert not task.done()
        assert 0 < await titles(store) < ROWS
        with pytest.raises(Unavailable, match="is being run by"):
            async with filling(store, wait=0.0) as another:
                await another
        may_go_on.set()
        async with asyncio.timeout(60):
            report = await task
    assert report.written == ROWS
    await kept.close()


async def test_it_waits_for_a_replica_that_stands_still(
    postgres_url: str, replica_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK", 0.0)
    async with opened(postgres_url, METADATA) as store:
        await filled(store)
        async with lagging(replica_server), filling(store, max_replica_lag=0.2) as task:
            await asyncio.sleep(QUIET)
            written = await titles(store)
            await asyncio.sleep(QUIET)
            assert not task.done()
            assert await titles(store) == written < ROWS
        async with filling(store, max_replica_lag=0.2) as task, asyncio.timeout(60):
            report = await task
        assert report.resumed
        assert report.written == ROWS
