"""A database that took another's place is noticed, and everything is rebuilt."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from devservers import PostgresServer, find_postgres
from holdfast.journal import EVERYTHING, Journal, Position
from holdfast.journal.witness import Witness
from holdfast.store import Store
from tests.backends import settings_for
from tests.journal.conftest import Note, Taken, make_tables, until
from tests.logs import capture_logs


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Store, Journal]]:
    store = Store(settings_for(url, poll_interval=0.05))
    log = Journal(store, lease=1.0)
    try:
        yield store, log
    finally:
        await log.close()
        await store.close()


async def add(store: Store, count: int = 1) -> None:
    async with store.unit() as unit:
        unit.add(*(Note(n=n) for n in range(count)))


async def epoch(log: Journal) -> int:
    return (await log.make_tick()).epoch


async def follow(log: Journal) -> Taken:
    """Follow to the end, and stop."""
    taken = Taken()
    await log.subscribe("f", taken)
    await log.wait_until(await log.make_tick(), "f")
    await log.unsubscribe("f")
    return taken


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def copy(source: Path, target: Path) -> None:
    """A backup of the database alone, as people make them."""
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)
    one.close()
    other.close()


def replace(file: Path, by: Path, *, in_place: bool) -> None:
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    if in_place:
        shutil.copyfile(by, file)
    else:
        by.replace(file)


async def test_a_new_database_begins_the_first_epoch(database_url: str) -> None:
    with capture_logs() as logs:
        async with opened(database_url) as (store, log):
            await make_tables(store)
            first = await epoch(log)
        async with opened(database_url) as (_, log):
            assert await epoch(log) == first
    assert [entry for entry in logs if entry["event"] == "epoch_began"] == []


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("grown", [0, 9])
async def test_an_older_copy_begins_another_epoch(sqlite_url: str, tmp_path: Path, in_place: bool, grown: int) -> None:
    """Also when it has grown past where the lost one ended."""
    file, backup = file_of(sqlite_url), tmp_path / "backup.db"
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        await add(store, 2)
        await follow(log)
        copy(file, backup)
        await add(store, 3)
        seen = await follow(log)
        assert len(seen.rows) == 3
        before = await epoch(log)
    replace(file, backup, in_place=in_place)
    with sqlite3.connect(file) as connection:
        for n in range(grown):
            connection.execute("INSERT INTO notes (n) VALUES (?)", (n,))
    connection.close()
    with capture_logs() as logs:
        async with opened(sqlite_url) as (store, log):
            assert await epoch(log) > before
            rebuilt = await follow(log)
            assert [(c.op, c.table) for c in rebuilt.changes] == [("reset", EVERYTHING)]
            await add(store)
            assert [c.op for c in (await follow(log)).changes] == ["insert"]
    assert len([entry for entry in logs if entry["event"] == "epoch_began"]) == 1


@pytest.mark.parametrize("in_place", [True, False])
async def test_the_same_state_put_back_is_the_same_epoch_unless_it_is_another_file(
    sqlite_url: str, tmp_path: Path, in_place: bool
) -> None:
    file, backup = file_of(sqlite_url), tmp_path / "backup.db"
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        await add(store, 2)
        await follow(log)
        before = await epoch(log)
    copy(file, backup)
    replace(file, backup, in_place=in_place)
    async with opened(sqlite_url) as (_, log):
        assert (await epoch(log) == before) is in_place


async def test_a_copy_elsewhere_is_another_database(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        await add(store)
        await follow(log)
        before = await epoch(log)
    copy(file_of(sqlite_url), tmp_path / "elsewhere.db")
    async with opened(f"sqlite:///{tmp_path / 'elsewhere.db'}") as (_, log):
        assert await epoch(log) > before
    async with opened(sqlite_url) as (_, log):
        assert await epoch(log) == before


async def test_a_file_replaced_while_it_is_followed_is_noticed(sqlite_url: str, tmp_path: Path) -> None:
    file, backup = file_of(sqlite_url), tmp_path / "backup.db"
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        durable, local = Taken(), Taken()
        await log.subscribe("f", durable)
        await log.subscribe("l", local, durable=False)
        await until(lambda: durable.changes and local.changes)
        copy(file, backup)
        await add(store, 5)
        upto = await log.make_tick()
        await log.wait_until(upto, "f")
        await log.wait_until(upto, "l")
        durable.changes.clear()
        local.changes.clear()
        replace(file, backup, in_place=False)
        await until(lambda: durable.changes and local.changes)
        assert [c.table for c in (*durable.changes, *local.changes)] == [EVERYTHING] * 2
        await add(store)
        later = await log.make_tick()
        assert later.epoch > upto.epoch
        await log.wait_until(later, "f")
        await log.wait_until(later, "l")
        assert local.changes[-1].op == "insert"


async def test_a_lost_witness_costs_a_rebuild_and_nothing_else(sqlite_url: str) -> None:
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        await add(store)
        await follow(log)
        before = await epoch(log)
    file = file_of(sqlite_url)
    file.with_name(file.name + "-witness").write_text("{torn")
    async with opened(sqlite_url) as (_, log):
        assert await epoch(log) > before
        assert [c.table for c in (await follow(log)).changes] == [EVERYTHING]


async def test_two_that_notice_together_begin_one_epoch(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        await add(store)
        await follow(log)
    copied = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    copy(file_of(sqlite_url), tmp_path / "elsewhere.db")
    async with opened(copied) as (_, a), opened(copied) as (_, b), opened(copied) as (_, c):
        assert len({p.epoch for p in await asyncio.gather(*(log.make_tick() for log in (a, b, c)))}) == 1


def test_a_witness_remembers_the_furthest_that_anyone_saw(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.touch()
    one, other = Witness(file), Witness(file)
    one.begin("me")
    one.saw("me", 7, (7, "row"))
    other.saw("me", 5, (5, "row"))
    other.saw("somebody else", 9, (9, "row"))
    assert other.seq() == 7
    assert other.differs("me", 7, (7, "row")) is None
    assert "ends at change 6" in str(other.differs("me", 6, None))
    assert "not the one" in str(other.differs("me", 8, (7, "another")))
    assert "identity" in str(other.differs("you", 8, (7, "row")))


async def test_in_memory_there_is_nothing_to_mistake_it_for() -> None:
    async with opened("sqlite://") as (store, log):
        await make_tables(store)
        taken = Taken()
        await log.subscribe("f", taken, start="now")
        await add(store)
        await log.wait_until(await log.make_tick(), "f")
        assert [c.op for c in taken.changes] == ["insert"]


# --- PostgreSQL


@asynccontextmanager
async def clone(server: PostgresServer, url: str) -> AsyncIterator[str]:
    """A copy of the database at `url`, to which nobody may be connected."""
    place, _, name = url.rpartition("/")
    admin = await asyncpg.connect(f"{place}/postgres")
    try:
        await admin.execute(f'CREATE DATABASE "{name}_clone" TEMPLATE "{name}"')
        yield f"{place}/{name}_clone"
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}_clone" WITH (FORCE)')
        await admin.close()


async def test_a_clone_begins_another_epoch(postgres_server: PostgresServer, postgres_url: str) -> None:
    async with opened(postgres_url) as (store, log):
        await make_tables(store)
        await add(store, 2)
        await follow(log)
        await add(store, 3)
        before = await epoch(log)
    async with clone(postgres_server, postgres_url) as cloned, opened(cloned) as (store, log):
        rebuilt = await follow(log)
        assert [(c.op, c.table) for c in rebuilt.changes] == [("reset", EVERYTHING)]
        await add(store)
        assert [c.op for c in (await follow(log)).changes] == ["insert"]
        assert await epoch(log) > before
    async with opened(postgres_url) as (_, log):
        assert await epoch(log) == before
        assert len((await follow(log)).rows) == 3


async def test_a_dump_put_back_over_its_own_database_begins_another_epoch(postgres_url: str) -> None:
    """Same server, same database, same everything: only the tables were made anew."""
    binaries = find_postgres()
    assert binaries is not None
    async with opened(postgres_url) as (store, log):
        await make_tables(store)
        await add(store, 2)
        await follow(log)
        dumped = await output(binaries / "pg_dump", "-Fc", "-d", postgres_url)
        await add(store, 3)
        await follow(log)
        before = await epoch(log)
        await output(binaries / "pg_restore", "--clean", "--if-exists", "-d", postgres_url, given=dumped)

        async def has_begun() -> bool:
            return await epoch(log) > before

        await until(has_begun)
        assert [c.table for c in (await follow(log)).changes] == [EVERYTHING]


async def output(*command: str | Path, given: bytes | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate(given)
    assert process.returncode == 0, errors.decode()
    return out


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE holdfast_epoch SET identity = regexp_replace(identity, '^[0-9]+', '42')",  # another cluster
        "UPDATE holdfast_epoch SET identity = regexp_replace(identity, '[0-9A-F]+$', '00000009')",  # another timeline
    ],
)
async def test_every_part_of_the_identity_counts(postgres_url: str, damage: str) -> None:
    async with opened(postgres_url) as (store, log):
        await make_tables(store)
        await add(store)
        await follow(log)
        before = await epoch(log)
        async with store.raw() as connection:
            await connection.execute(damage)
    async with opened(postgres_url) as (_, log):
        assert await epoch(log) > before


async def test_what_is_being_written_while_an_epoch_begins_is_not_lost(postgres_url: str) -> None:
    async with opened(postgres_url) as (store, log):
        await make_tables(store)
        await add(store)
        await follow(log)
        async with store.raw() as writer:
            begun = writer.transaction()
            await begun.start()
            id = await writer.fetchval("INSERT INTO notes (n) VALUES (7) RETURNING id")
            async with store.raw() as other:
                await other.execute("UPDATE holdfast_epoch SET identity = 'another'")
            async with opened(postgres_url) as (_, second):
                assert [c.table for c in (await follow(second)).changes] == [EVERYTHING]
                await begun.commit()
                assert [c.key for c in (await follow(second)).changes] == [str(id)]


async def test_positions_of_another_epoch_are_lost(database_url: str) -> None:
    async with opened(database_url) as (store, log):
        await make_tables(store)
        upto = await log.make_tick()
        pages = [page async for page in log.read(Position(upto.epoch + 1, 0), upto)]
        assert [page.lost for page in pages] == [True]


async def test_an_epoch_that_was_lost_in_a_restore_is_not_given_out_again(sqlite_url: str, tmp_path: Path) -> None:
    file, backup = file_of(sqlite_url), tmp_path / "backup.db"
    epochs = []
    async with opened(sqlite_url) as (store, log):
        await make_tables(store)
        epochs.append(await epoch(log))
        await add(store)
        await follow(log)
        copy(file, backup)
    for _ in range(3):
        shutil.copyfile(backup, tmp_path / "copy.db")
        replace(file, tmp_path / "copy.db", in_place=False)
        async with opened(sqlite_url) as (_, log):
            epochs.append(await epoch(log))
    assert len(set(epochs)) == 4
