"""One SQLite file: a log ahead of it, one writer and many readers, in any number of processes, on any disk."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devservers.process import temporary_folder
from holdfast.errors import Unavailable
from holdfast.store import Store
from holdfast.store.sqlite import _Connection
from tests.store import child
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture
async def store(sqlite_url: str) -> Any:
    async with opened(sqlite_url, Base.metadata) as store:
        yield store


async def pragma(store: Store, name: str) -> tuple[Any, Any]:
    """Its value on the writing and on a reading connection."""
    async with store.unit() as unit:
        writing = (await unit.execute(f"PRAGMA {name}")).scalar_one()
    async with store.read() as unit:
        return writing, (await unit.execute(f"PRAGMA {name}")).scalar_one()


def log_of(store: Store) -> Path:
    return Path(f"{store.file}-wal")


async def test_connections_are_set_up_for_many_readers_and_one_writer(store: Store) -> None:
    assert await pragma(store, "journal_mode") == ("wal", "wal")
    assert await pragma(store, "synchronous") == (1, 1)
    assert await pragma(store, "foreign_keys") == (1, 1)
    assert await pragma(store, "busy_timeout") == (30_000, 30_000)
    assert await pragma(store, "query_only") == (0, 1)
    assert await pragma(store, "mmap_size") == (0, 0)


async def test_readers_neither_wait_for_the_writer_nor_hold_it_up(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="first"))
    async with store.read() as early:
        assert await early[Maker].count() == 1
        async with store.unit() as writing:
            await writing[Maker].add(Maker(name="second"))
            began = time.monotonic()
            async with store.read() as reading:
                assert await reading[Maker].count() == 1
            assert time.monotonic() - began < 5
        assert await early[Maker].count() == 1  # its own moment
    async with store.read() as late:
        assert await late[Maker].count() == 2


async def test_many_readers_read_at_once(store: Store) -> None:
    together = asyncio.Barrier(store.settings.pool_size)

    async def read() -> None:
        async with store.read() as unit:
            await unit[Maker].count()
            await together.wait()

    await asyncio.wait_for(asyncio.gather(*(read() for _ in range(store.settings.pool_size))), 10)


async def test_the_log_does_not_outgrow_its_checkpoints_and_is_gone_at_the_end(store: Store) -> None:
    for _ in range(30):
        async with store.unit() as unit:
            await unit[Part].add_many([{"title": "x" * 500} for _ in range(1_000)])
    written = store.file.stat().st_size if store.file else 0
    assert written > 15 * 2**20
    assert log_of(store).stat().st_size < 10 * 2**20
    await store.close()
    assert not log_of(store).exists()
    assert sqlite3.connect(store.file or "").execute("SELECT count(*) FROM parts").fetchone() == (30_000,)


async def test_what_a_long_reader_made_the_log_grow_to_is_given_back(store: Store) -> None:
    async with store.read() as long:
        await long[Part].count()
        for _ in range(8):
            async with store.unit() as unit:
                await unit[Part].add_many([{"title": "x" * 10_000} for _ in range(1_000)])
        assert log_of(store).stat().st_size > 70 * 2**20
    for _ in range(2):
        async with store.unit() as unit:
            await unit[Part].add_many([{"title": "x" * 5_000} for _ in range(1_000)])
    assert log_of(store).stat().st_size <= 64 * 2**20


async def test_four_processes_write_one_new_file_and_nothing_is_lost_or_locked(sqlite_url: str) -> None:
    processes, units = 4, 200
    writers = [child.spawn("write", sqlite_url, f"writer {number}", str(units)) for number in range(processes)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n", writer.stderr and writer.stderr.read()
        for writer in writers:  # all at once
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        told = [json.loads(writer.communicate(timeout=120)[0].splitlines()[-1]) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert told == [{"errors": []}] * processes
    async with opened(sqlite_url) as store, store.read() as unit:
        names = {maker.name for maker in await unit[Maker].list()}
        assert (await unit.execute("PRAGMA integrity_check")).scalar_one() == "ok"
    assert names == {f"writer {w} {n} {row}" for w in range(processes) for n in range(units) for row in "ab"}


def lock_the_file(file: Path) -> None:
    for part in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        if part.exists():
            part.chmod(0o444)


def unlock(file: Path) -> None:
    file.parent.chmod(0o777)
    for part in file.parent.iterdir():  # SQLite gives its log the mode of the file
        part.chmod(0o666)


def lock_the_folder(file: Path) -> None:
    file.parent.chmod(0o555)


def lock_both(file: Path) -> None:
    lock_the_file(file)
    lock_the_folder(file)


def close_the_folder(file: Path) -> None:
    file.parent.chmod(0o000)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own are closed to others."""
    folder = temporary_folder("shared")
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("lock", "told"),
    [
        (lock_the_file, "is read-only|cannot be opened"),
        (lock_the_folder, "is read-only|cannot be opened"),
        (lock_both, "is read-only|cannot be opened"),
        (close_the_folder, "cannot be opened"),
    ],
)
def test_a_file_or_folder_that_may_not_be_written_is_a_clear_error(
    shared_folder: Path, lock: Callable[[Path], None], told: str
) -> None:
    file = shared_folder / "holdfast.db"
    url = f"sqlite:///{file}"
    assert child.run("open", url, "root")["write"] is None
    unlock(file)
    lock(file)
    errors = child.run("open", url)
    unlock(file)
    kind, message = errors["write"]
    assert kind == "Unavailable"
    assert re.search(told, message)
    assert str(file) in message
    for error in (errors["start"], errors["read"]):
        assert error is None or (error[0] == "Unavailable" and re.search(told, error[1]))
    assert child.run("open", url)["write"] is None  # and with the modes set right it writes


async def test_a_file_that_may_grow_no_more_keeps_what_was_committed_and_goes_on_when_it_may(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="before"))
        pages = (await unit.execute("PRAGMA page_count")).scalar_one()
        await unit.execute(f"PRAGMA max_page_count = {pages + 20}")
    big = [{"title": "x" * 5_000} for _ in range(200)]
    for write in ("add_many", "upsert_many"):
        with pytest.raises(Unavailable, match=r"has no space left .*nothing of this unit was kept; free some space"):
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name="refused"))
                await getattr(unit[Part], write)(big)
    async with store.unit() as unit:
        await unit.execute("PRAGMA max_page_count = 1073741823")
    async with store.unit() as unit:
        await unit[Part].add_many(big)
        assert [maker.name for maker in await unit[Maker].list()] == ["before"]
        assert await unit[Part].count() == 200


def may_mount() -> bool:
    """Whether this user may make small disks."""
    if os.geteuid() != 0:
        return False
    folder = Path("/proc/self/ns/mnt")
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True) if folder.exists() else None
    return probe is not None and probe.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A folder on a disk of its own, of so many MiB; called again it grows."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def sized(megabytes: int) -> Path:
        nonlocal mounted
        options = f"size={megabytes}m" + (",remount" if mounted else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted = True
        return folder

    yield sized
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


if may_mount():

    async def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_space(
        small_disk: Callable[[int], Path],
    ) -> None:
        file = small_disk(2) / "holdfast.db"
        async with opened(f"sqlite:///{file}", Base.metadata) as store:
            committed = 0
            with pytest.raises(Unavailable, match="has no space left"):
                for number in range(10_000):
                    async with store.unit() as unit:
                        await unit[Maker].add(Maker(name=f"{number}"))
                        await unit[Part].add_many([{"title": "x" * 1_000} for _ in range(20)])
                    committed += 1
            assert committed > 3
            async with store.read() as unit:
                assert (await unit[Maker].count(), await unit[Part].count()) == (committed, 20 * committed)
            with pytest.raises(Unavailable, match="has no space left"):
                async with store.unit() as unit:
                    await unit[Part].add_many([{"title": "x" * 1_000} for _ in range(2_000)])
            small_disk(64)
            async with store.unit() as unit:
                await unit[Part].add_many([{"title": "x" * 1_000} for _ in range(2_000)])
                assert (await unit.execute("PRAGMA integrity_check")).scalar_one() == "ok"
                assert await unit[Part].count() == 20 * committed + 2_000


def test_a_connection_that_is_closed_amid_an_interrupted_statement_lets_go_of_the_file(tmp_path: Path) -> None:
    file = str(tmp_path / "holdfast.db")
    mine = sqlite3.connect(file, isolation_level=None, factory=_Connection)
    mine.execute("CREATE TABLE t (x)")
    mine.execute("INSERT INTO t VALUES (1), (2)")
    mine.execute("BEGIN IMMEDIATE")
    mine.execute("INSERT INTO t VALUES (3)")
    rows = mine.execute("SELECT x FROM t")
    assert rows.fetchone() == (1,)
    mine.interrupt()
    mine.close()
    other = sqlite3.connect(file, isolation_level=None, timeout=0)
    other.execute("BEGIN IMMEDIATE")
    assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)
    other.close()
    with pytest.raises(sqlite3.ProgrammingError):
        rows.fetchone()
