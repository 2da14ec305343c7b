"""Migrations against invariant M: under load, killed at any moment, up and down and up again.

On PostgreSQL each operation meets a table that takes 200 writes a second and has a reader that stays; on SQLite
only the kills. After each round the schema is what the models say, and every write is in the journal.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from devservers import start_postgres
from holdfast.journal import Journal, Position
from holdfast.migrate import Limits, inspection
from holdfast.settings import Settings
from holdfast.store import Query, Store
from torture import migrate_models
from torture.harness import Options, Result
from torture.migrate_load import Load
from torture.migrate_runner import PLANTS, REFUSED, Order, migrations
from torture.processes import start

VIOLATIONS = ("blocked", "not_recovered", "differs", "uncaptured", "not_found", "accepted_edit")
LOCK_TIMEOUT = 0.3  # seconds
GRACE = 0.1  # beyond it, for a write that waited
ROWS = 50_000
KILLS = (2, 4)  # of the runner on its way up, at least and at most
__all__ = ["PLANTS", "VIOLATIONS", "run", "run_postgres", "run_sqlite"]


async def run(options: Options) -> Result:
    """SQLite for a quarter of the time, then PostgreSQL; a planted lock fault is PostgreSQL's alone."""
    result = Result("migrate", options, VIOLATIONS)
    if options.plant == "no-lock-timeout":
        await run_postgres(options, result, options.seconds)
        return result
    await run_sqlite(options, result, options.seconds / 4)
    await run_postgres(options, result, options.seconds * 3 / 4)
    return result


async def run_postgres(options: Options, result: Result, seconds: float) -> None:
    """Rounds on PostgreSQL for `seconds`, at least one."""
    deadline = time.monotonic() + seconds
    rounds = 0
    slowest, writes, kills = 0.0, 0, 0
    with start_postgres() as server:
        while not rounds or time.monotonic() < deadline:
            with server.database() as url, tempfile.TemporaryDirectory() as folder:
                at = Round(options, result, url, Path(folder), f"postgresql {rounds}")
                await at.begin()
                await at.fill()
                load = Load(url, options.random("load", rounds), LOCK_TIMEOUT + GRACE)
                position = await at.position()
                async with load:
                    await at.up_with_kills(within=1.5)
                await at.check_capture(position, load.written)
                await at.check_search()
                async with load:
                    await at.down_and_up()
                await at.check_search()
                for took, what in load.blocked:
                    result.violate("blocked", f"a write ({what}) waited {took:.3f} s")
                slowest, writes = max(slowest, load.slowest), writes + sum(load.written.values())
                kills += at.kills
                await at.check_edit()
                await at.close()
            rounds += 1
    result.figures |= {
        "postgresql rounds": rounds,
        "postgresql kills while it migrated": kills,
        "postgresql writes": writes,
        "postgresql slowest write (s)": round(slowest, 3),
        "lock timeout (s)": LOCK_TIMEOUT,
    }


async def run_sqlite(options: Options, result: Result, seconds: float) -> None:
    """Rounds on SQLite for `seconds`, at least one."""
    deadline = time.monotonic() + seconds
    rounds = kills = 0
    while not rounds or time.monotonic() < deadline:
        with tempfile.TemporaryDirectory() as folder:
            at = Round(options, result, f"sqlite:///{folder}/torture.db", Path(folder), f"sqlite {rounds}")
            await at.begin()
            await at.fill()
            position = await at.position()
            await at.up_with_kills(within=0.5)
            await at.check_capture(position, {"insert": 0, "delete": 0})
            await at.check_search()
            await at.down_and_up()
            await at.check_search()
            await at.check_edit()
            await at.close()
        rounds += 1
        kills += at.kills
    result.figures |= {"sqlite rounds": rounds, "sqlite kills while it migrated": kills}


class Round:
    """One database from the first migration to the last, and back, and there again.

    Attributes:
        kills: how many of them met a runner at work.
    """

    def __init__(self, options: Options, result: Result, url: str, folder: Path, name: str) -> None:
        self._options, self._result, self._url, self._name = options, result, url, name
        self._draw = options.random(name)
        self._folder = folder / "migrations"
        self._log = folder / "runner.log"
        self.kills = 0
        self.store = Store(Settings(database_url=url))
        self._migrations = migrations(self.store, self._folder, Limits(lock_timeout=LOCK_TIMEOUT, give_up=60))
        self.journal = Journal(self.store)

    async def begin(self) -> None:
        """Apply the first migration."""
        migrate_models.write(self._folder)
        await self._migrations.up(to=migrate_models.FIRST)

    async def fill(self) -> None:
        """Give the table its rows."""
        rows = [(uuid.UUID(int=self._draw.getrandbits(128)), "x", 0) for _ in range(ROWS)]
        if self.store.dialect == "sqlite":
            await asyncio.to_thread(_fill_sqlite, str(self.store.file), rows)
            return
        connection = await asyncpg.connect(self._url)
        try:
            await connection.copy_records_to_table("accounts", records=rows, columns=["id", "name", "n"])
        finally:
            await connection.close()

    async def position(self) -> Position:
        """Where the journal is."""
        return await self.journal.make_tick()

    async def up_with_kills(self, *, within: float) -> None:
        """Migrate, killed with -9 at random moments, until it is done."""
        kills = self._draw.randint(*KILLS)
        for _ in range(kills):
            process = await start("migrate_runner", self._order("up"), self._log)
            assert process.stdout is not None
            await process.stdout.readline()  # it begins
            try:
                async with asyncio.timeout(self._draw.uniform(0, within)):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                self.kills += 1
        await self._must_succeed(self._order("up"), f"up after {kills} kills")
        await self._compare("after kills")

    async def down_and_up(self) -> None:
        """Take everything back to the first migration, and migrate again."""
        await self._must_succeed(self._order("down", to=migrate_models.FIRST), "down")
        await self._compare("after down", undeclared=False)
        up = self._order("up")
        await asyncio.gather(*(self._must_succeed(up, f"up again, runner {n} of two") for n in (1, 2)))
        await self._compare("after up, down, up")

    async def check_capture(self, position: Position, written: Mapping[str, int]) -> None:
        """Every write to accounts is in the journal; updates are the migrations' too."""
        found: Counter[str] = Counter()
        async for page in self.journal.read(position, await self.journal.make_tick(), tables=["accounts"]):
            found.update(change.op for change in page.changes)
        for op, count in written.items():
            if found[op] < count or (op != "update" and found[op] > count):
                detail = f"{self._name}: {count:,} times {op}, of which {found[op]:,} are in the journal"
                self._result.violate("uncaptured", detail)

    async def check_search(self) -> None:
        """Every account is found by its name: those that were there before, and those written meanwhile."""
        accounts = Query(migrate_models.Account)
        async with self.store.read() as unit:
            rows = await unit[migrate_models.Account].count(accounts)
            found = await unit[migrate_models.Account].count(accounts.search("x"))
        if found != rows:
            self._result.violate("not_found", f"{self._name}: of {rows:,} accounts {found:,} are found by their name")

    async def check_edit(self) -> None:
        """A file that was edited after it was applied is refused."""
        path = self._folder / f"{self._draw.choice(migrate_models.MIGRATIONS)[0]}.py"
        path.write_text(path.read_text() + "\n# edited\n")
        process = await start("migrate_runner", self._order("up"), self._log)
        if await process.wait() != REFUSED:
            self._result.violate("accepted_edit", f"{self._name}: {path.name} was edited, and up ran")

    async def close(self) -> None:
        """Let go of the database."""
        await self.journal.close()
        await self.store.close()

    async def _must_succeed(self, order: Order, what: str) -> None:
        process = await start("migrate_runner", order, self._log)
        if await process.wait() != 0:
            said = self._log.read_text(errors="replace")[-600:]
            self._result.violate("not_recovered", f"{self._name}: {what} failed: {said}")

    async def _compare(self, when: str, *, undeclared: bool = True) -> None:
        lines = await inspection.drift(self._migrations)
        if undeclared:
            lines += await inspection.undeclared(self._migrations)
        for line in lines:
            self._result.violate("differs", f"{self._name} {when}: {line}")

    def _order(self, direction: str, to: str | None = None) -> Order:
        return Order(
            url=self._url,
            folder=str(self._folder),
            direction=direction,
            lock_timeout=LOCK_TIMEOUT,
            to=to,
            plant=self._options.plant,
        )


def _fill_sqlite(file: str, rows: list[tuple[uuid.UUID, str, int]]) -> None:
    connection = sqlite3.connect(file, timeout=60)
    try:
        with connection:
            connection.executemany(
                "INSERT INTO accounts (id, name, n) VALUES (?, ?, ?)", [(key.hex, name, n) for key, name, n in rows]
            )
    finally:
        connection.close()
