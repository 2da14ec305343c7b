"""Followers hear of a commit soon, in this process and in others, and of what nobody tells by looking."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import StoreError, Unavailable
from holdfast.journal import Journal
from holdfast.journal.epoch import Epochs
from holdfast.journal.link import Link
from holdfast.store import Store
from tests.backends import BACKENDS, settings_for
from tests.journal.conftest import Note, Taken, make_tables, until

LONG = 600.0  # a poll that no test waits for


@contextlib.asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[tuple[Store, Journal]]:
    store = Store(settings_for(url, **settings))
    log = Journal(store)
    try:
        yield store, log
    finally:
        await log.close()
        await store.close()


async def add(store: Store) -> None:
    async with store.unit() as unit:
        unit.add(Note())


async def test_a_commit_in_this_process_is_heard_at_once(database_url: str) -> None:
    async with opened(database_url, poll_interval=LONG) as (store, log):
        await make_tables(store)
        taken = Taken()
        await log.subscribe("f", taken, durable=False)
        await until(lambda: taken.changes)
        for n in range(1, 4):
            await add(store)
            await until(lambda n=n: len(taken.rows) == n, 5)


# Neither HTTP nor a pooler tells of commits: there, the poll finds them.
@pytest.mark.parametrize("database_url", BACKENDS, indirect=True)
async def test_a_commit_in_another_process_is_heard_without_a_poll(database_url: str) -> None:
    async with opened(database_url, poll_interval=LONG) as (store, log), opened(database_url) as (other, _):
        await make_tables(store)
        taken = Taken()
        await log.subscribe("f", taken, durable=False)
        await until(lambda: taken.changes)
        await asyncio.sleep(0.5)  # until it listens
        for n in range(1, 4):
            await add(other)
            await until(lambda n=n: len(taken.rows) == n, 5)


async def test_behind_a_pooler_it_is_found_by_polling(postgres_url: str) -> None:
    settings = {"pooler": "transaction", "poll_interval": 0.1}
    async with opened(postgres_url, **settings) as (store, log), opened(postgres_url, **settings) as (other, _):
        await make_tables(store)
        taken = Taken()
        await log.subscribe("f", taken, transactional=True, start="now")
        await add(other)
        await until(lambda: taken.rows, 5)
        async with store.read() as unit:
            listening = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            assert (await unit.execute(listening)).scalar() == 0


async def test_a_listener_that_was_cut_off_listens_again(postgres_url: str) -> None:
    async with opened(postgres_url, poll_interval=LONG) as (store, log), opened(postgres_url) as (other, _):
        await make_tables(store)
        taken = Taken()
        await log.subscribe("f", taken, durable=False)
        await until(lambda: taken.changes)
        await asyncio.sleep(0.5)
        async with store.raw() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        await asyncio.sleep(1.0)
        await add(other)
        await until(lambda: taken.rows, 10)


async def test_a_quiet_journal_is_hardly_looked_at(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database_url, poll_interval=0.25) as (store, log):
        await make_tables(store)
        taken, looks = Taken(), [0]
        make_tick = log._feed.make_tick

        async def counted() -> Any:
            looks[0] += 1
            return await make_tick()

        monkeypatch.setattr(log._feed, "make_tick", counted)
        await log.subscribe("f", taken)
        await until(lambda: taken.changes)
        await asyncio.sleep(0.3)
        looks[0] = 0
        await asyncio.sleep(1.0)
        assert looks[0] <= 7


async def test_a_link_comes_back_after_a_failure(database_url: str) -> None:
    async with opened(database_url) as (store, _):
        link = Link(store)
        with pytest.raises(StoreError):
            async with link.use() as connection:
                await connection.execute("SELECT nothing FROM nowhere")
        async with link.use() as connection:
            await connection.execute("SELECT 1")
        assert link.connections == 2
        await link.close()


async def test_a_link_to_nowhere_says_so() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/none", connect_timeout=1.0) as (store, _):
        link = Link(store)
        with pytest.raises(Unavailable):
            async with link.use():
                raise AssertionError("there is no connection")


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(f"sqlite:///{tmp_path / 'x.db'}") as (store, log):
        await make_tables(store)

        def refuse(self: Path, data: bytes) -> int:
            raise OSError(30, "Read-only file system")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", refuse)
            with pytest.raises(Unavailable, match=r"x\.db-witness cannot be written"):
                await log.make_tick()
        await log.make_tick()


async def test_the_identity_is_not_looked_at_for_every_tick(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database_url) as (store, log):
        await make_tables(store)
        looks = [0]
        name = "_check_sqlite" if store.dialect == "sqlite" else "_check_postgres"
        check = getattr(Epochs, name)

        async def counted(self: Epochs, connection: Any) -> None:
            looks[0] += 1
            await check(self, connection)

        monkeypatch.setattr(Epochs, name, counted)
        for _ in range(20):
            await log.make_tick()
        assert looks[0] < 5
