"""The two places a run works on, and how an older copy is put in place of each."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from devservers import PostgresServer


class Place(Protocol):
    """A database that can be copied and exchanged; statements run in transactions of their own, by a driver."""

    dialect: str
    url: str
    sibling: str | None

    async def query(self, sql: str) -> list[Any]:
        """Run a statement and commit it."""
        ...

    async def copy(self) -> None:
        """Keep a copy of the database as it is now. No process may be writing."""
        ...

    async def restore(self, *, in_place: bool = False) -> None:
        """Put the copy in the database's place, under whatever processes run."""
        ...


class SqlitePlace:
    """A file in `folder`."""

    dialect = "sqlite"
    sibling: str | None = None

    def __init__(self, folder: Path) -> None:
        self.file = folder / "torture.db"
        self._copy = folder / "older.db"
        self.url = f"sqlite:///{self.file}"

    async def query(self, sql: str) -> list[Any]:
        return await asyncio.to_thread(self._query, sql)

    async def copy(self) -> None:
        await asyncio.to_thread(_back_up, self.file, self._copy)

    async def restore(self, *, in_place: bool = False) -> None:
        """Replaces the file, or with `in_place` writes the copy over its pages, as SQLite's own `.restore` does."""
        if in_place:
            await asyncio.to_thread(_back_up, self._copy, self.file)
        else:
            await asyncio.to_thread(self._replace)

    def _replace(self) -> None:
        temporary = self.file.with_name("restored.db")
        shutil.copyfile(self._copy, temporary)
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        os.replace(temporary, self.file)

    def _query(self, sql: str) -> list[Any]:
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=60)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def _back_up(source: Path, target: Path) -> None:
    read, write = sqlite3.connect(source, timeout=60), sqlite3.connect(target, timeout=60)
    try:
        read.backup(write)
    finally:
        read.close()
        write.close()


class PostgresPlace:
    """A database of `server`."""

    dialect = "postgresql"

    def __init__(self, server: PostgresServer, name: str = "torture") -> None:
        self._server, self._name = server, name
        server.create_database(name)
        self.url = server.database_url(name)
        self.sibling: str | None = server.database_url(server.create_database(f"{name}_sibling"))

    async def query(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def copy(self) -> None:
        """Clones it by CREATE DATABASE … TEMPLATE, for which its connections are ended."""
        await self._alone([f'CREATE DATABASE "{self._name}_older" TEMPLATE "{self._name}" STRATEGY file_copy'])

    async def restore(self, *, in_place: bool = False) -> None:
        """The copy takes the name of the database, which is dropped."""
        older = f"{self._name}_older"
        await self._alone(
            [f'DROP DATABASE "{self._name}" WITH (FORCE)'], [f'ALTER DATABASE "{older}" RENAME TO "{self._name}"']
        )

    async def point_to_copy(self) -> None:
        """From now on the place is the copy; the database it was cloned from stays as it is."""
        self._name += "_older"
        self.url = self._server.database_url(self._name)

    async def _alone(self, statements: Sequence[str], after: Sequence[str] = ()) -> None:
        """Run `statements` as superuser while nobody may connect to the database, then `after`."""
        connection = await asyncpg.connect(self._server.url)
        try:
            await connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", self._name
            )
            for statement in statements:
                await connection.execute(statement)
            for statement in after:
                await connection.execute(statement)
            await connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')
        finally:
            await connection.close()
