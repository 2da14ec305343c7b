"""Databases for the journal benchmark: made once, and copied for every case, so that each begins alike."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.journal_models import metadata
from devservers import PostgresServer, start_postgres
from holdfast import Holdfast
from holdfast.settings import Settings

_numbers = itertools.count(1)

# As in production but for fsync, which each measurement chooses: the test servers' own settings write more to the
# log than an application needs, for both sides alike, which would flatter whoever adds to it.
_SETTINGS = {
    "wal_level": "replica",
    "track_commit_timestamp": "off",
    "max_prepared_transactions": "0",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
}


@contextmanager
def postgres(*, fsync: bool) -> Iterator[PostgresServer]:
    """A server; without fsync no disk hides what the processor does, with it every commit waits for the disk."""
    with start_postgres({**_SETTINGS, "fsync": "on" if fsync else "off"}) as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Holdfast]:
    """The benchmark's models in the database at `url`, migrated."""
    async with await Holdfast.open(metadata=metadata, migrate=True, settings=Settings(database_url=url)) as hold:
        yield hold


class PostgresTemplate:
    """An empty, migrated database of `server`, to be copied."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._name = f"template_{next(_numbers)}"

    async def make(self) -> None:
        """Make it."""
        self.server.create_database(self._name)
        async with opened(self.server.database_url(self._name)):
            pass

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The URL of a copy, dropped after the block."""
        name = f"copy_{next(_numbers)}"
        self.server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._name}" STRATEGY file_copy')
        try:
            yield self.server.database_url(name)
        finally:
            self.server.drop_database(name)


class SqliteTemplate:
    """An empty, migrated file in `folder`, to be copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "template.db"

    async def make(self) -> None:
        """Make it; closing the last connection folds its write-ahead log into the file."""
        async with opened(f"sqlite:///{self._file}"):
            pass

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy, removed after the block."""
        file = self._folder / f"copy_{next(_numbers)}.db"
        shutil.copyfile(self._file, file)
        try:
            yield file
        finally:
            for left in self._folder.glob(f"{file.name}*"):
                left.unlink()
