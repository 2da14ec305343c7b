"""A PostgreSQL whose disk is full says so, keeps what was committed, and goes on when there is space."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from devservers import PostgresServer
from devservers.process import NOBODY, temporary_folder
from holdfast.errors import Unavailable
from holdfast.store.failures import translate
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part
from tests.store.test_sqlite_files import may_mount

BIG = [{"title": "x" * 1_000} for _ in range(2_000)]


def test_what_postgresql_says_of_a_full_disk_is_told() -> None:
    said = asyncpg.exceptions.DiskFullError("could not extend file: No space left on device")
    meaning = translate(said, "postgresql://h/db")
    assert isinstance(meaning, Unavailable)
    assert "postgresql://h/db has no space left (could not extend file" in str(meaning)


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """A folder of the server's user on a disk of its own, of so many MiB; called again it grows."""
    folder = temporary_folder("small-disk")
    mounted = False

    def sized(megabytes: int) -> Path:
        nonlocal mounted
        options = f"size={megabytes}m,uid={NOBODY},gid={NOBODY},mode=700" + (",remount" if mounted else "")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted = True
        return folder

    yield sized
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


if may_mount() and os.geteuid() == 0:

    async def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_space(
        postgres_server: PostgresServer, small_disk: Callable[[int], Path]
    ) -> None:
        postgres_server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk(8)}'")
        name = postgres_server.create_database()
        try:
            postgres_server.execute("SET default_tablespace = 'small'", database=name)
            async with opened(postgres_server.database_url(name)) as store:
                async with store.engine.begin() as connection:
                    await connection.exec_driver_sql("SET default_tablespace = 'small'")
                    await connection.run_sync(Base.metadata.create_all)
                committed = 0
                with pytest.raises(Unavailable, match="has no space left .*nothing of this unit was kept"):  # noqa: RUF043
                    for number in range(100):
                        async with store.unit() as unit:
                            await unit[Maker].add(Maker(name=f"{number}"))
                            await unit[Part].add_many(BIG)
                        committed += 1
                assert 0 < committed < 100
                async with store.unit() as unit:
                    assert await unit[Maker].count() == committed
                small_disk(128)
                async with store.unit() as unit:
                    await unit[Part].add_many(BIG)
                    assert await unit[Part].count() == (committed + 1) * len(BIG)
        finally:
            postgres_server.drop_database(name)
            postgres_server.execute("DROP TABLESPACE small")
