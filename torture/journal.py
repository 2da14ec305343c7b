"""Every committed change is delivered, once per durable effect, in per-row order: invariant J.

16 writers and 3 followers in processes of their own work on one database, SQLite for one half of the time and
PostgreSQL for the other (with a planted fault: the backend where the fault makes sense). Followers are killed with
kill -9, and one is frozen past its lease while another instance runs it; then an older copy of the database is put in
its place, under running followers and under stopped ones.
What was committed is known from what the writers noted when their commits had returned, never from the journal.

Violations: `lost` (committed, never given to a follower), `effect_twice`, `regression` (a row's version ran
backwards), `wrong_actor`, `missed_reset` (a TRUNCATE or a rebuild not told), `epoch_not_noticed` (an older copy or a
clone not noticed by a follower), `invented` (given, but never committed).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from devservers import start_postgres
from holdfast.journal import Journal
from holdfast.settings import Settings
from holdfast.store import Store
from torture import journal_writer
from torture.harness import Options, Result
from torture.journal_check import Ledger, check, latencies
from torture.journal_databases import Place, PostgresPlace, SqlitePlace
from torture.journal_manners import WRITERS
from torture.journal_models import HOT, make_tables
from torture.journal_plants import PLANTS
from torture.journal_processes import FollowerProcess, WriterProcess
from torture.journal_transactions import Committed, Write

__all__ = ["PLANTS", "VIOLATIONS", "run", "run_postgres", "run_sqlite"]

VIOLATIONS = (
    "lost",
    "effect_twice",
    "regression",
    "wrong_actor",
    "missed_reset",
    "epoch_not_noticed",
    "invented",
)
SQLITE_PLANTS = ("context-kept",)
PROCESSES = 4
FROZEN = 3.0  # seconds: twice the lease
HOLD = (3.0, 5.0)  # seconds; less when the whole run is shorter
NOTICED = 45.0  # seconds within which an exchanged database is to be noticed
DRAINED = 60.0  # seconds within which the last commit is to be delivered
DRAINED_PLANTED = 6.0


async def run(options: Options) -> Result:
    """Both halves."""
    result = Result("journal", options, VIOLATIONS)
    if options.plant is None:
        await run_sqlite(options, result, options.seconds / 2)
        await run_postgres(options, result, options.seconds / 2)
    elif options.plant in SQLITE_PLANTS:
        await run_sqlite(options, result, options.seconds)
    else:
        await run_postgres(options, result, options.seconds)
    return result


async def run_sqlite(options: Options, result: Result, seconds: float) -> None:
    """The half on SQLite."""
    with tempfile.TemporaryDirectory(prefix="holdfast-torture-") as folder:
        await Half(SqlitePlace(Path(folder)), Path(folder), options, result, seconds).run()


async def run_postgres(options: Options, result: Result, seconds: float) -> None:
    """The half on PostgreSQL, on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="holdfast-torture-") as folder, start_postgres() as server:
        await Half(PostgresPlace(server), Path(folder), options, result, seconds).run()


class Half:
    """One backend's part of a run."""

    def __init__(self, place: Place, folder: Path, options: Options, result: Result, seconds: float) -> None:
        self.place, self.folder, self.options, self.result, self.seconds = place, folder, options, result, seconds
        self.draw = options.random(place.dialect)
        self.notes: list[Committed] = []
        self.followers = [
            self._follower("ledger", 1, transactional=True),
            self._follower("file", 2, transactional=False),
            self._follower("some", 3, transactional=False, tables=("parts", "wiped")),
        ]
        hold = (min(HOLD[0], seconds / 3), min(HOLD[1], seconds / 2))
        self.writers = [
            WriterProcess(
                journal_writer.Order(
                    url=place.url,
                    sibling=place.sibling,
                    numbers=tuple(range(first, WRITERS, PROCESSES)),
                    folder=str(folder),
                    hold=hold,
                    seed=options.seed,
                    plant=options.plant,
                )
            )
            for first in range(PROCESSES)
        ]
        self.restores = 0
        self._freezes = 0

    async def run(self) -> None:
        """Work, kill, check; then exchange the database."""
        await self._make()
        try:
            await asyncio.gather(
                self._each(lambda follower: follower.start()), *(writer.start() for writer in self.writers)
            )
            await self._until(self._all_reset(1), NOTICED, "missed_reset", "was not told to build at its start")
            await self._work()
            await self._drain(DRAINED if self.options.plant is None else DRAINED_PLANTED)
            await self._check()
            if self.options.plant is None:
                await self._rebuild()
                await self._exchange()
            await self._each(lambda follower: follower.stop())
        finally:
            await asyncio.gather(*(writer.abandon() for writer in self.writers))
            await self._each(lambda follower: follower.abandon())

    def _follower(
        self, name: str, number: int, *, transactional: bool, tables: tuple[str, ...] | None = None
    ) -> FollowerProcess:
        return FollowerProcess(
            name,
            self.place,
            self.folder,
            transactional=transactional,
            tables=tables,
            seed=self.options.seed * 10 + number,
            plant=self.options.plant,
        )

    async def _make(self) -> None:
        async with self._store() as store:
            await make_tables(store)

    async def _work(self) -> None:
        """The hard work: writers write, followers are killed."""
        hot = ", ".join(f"({id}, 1)" for id in range(1, HOT + 1))
        rows = [Write("things", str(id), "insert", 1) for id in range(1, HOT + 1)]
        await self._write(rows, f"INSERT INTO things (id, version) VALUES {hot}")  # noqa: S608  numbers
        for writer in self.writers:
            await writer.go()
        end = time.monotonic() + self.seconds
        self.options.say(f"{self.place.dialect}: {WRITERS} writers, {len(self.followers)} followers")
        killers = [asyncio.create_task(self._kill(follower, end)) for follower in self.followers]
        try:
            await asyncio.sleep(end - time.monotonic())
            await asyncio.gather(*killers)
        finally:
            for killer in killers:
                killer.cancel()
        done = await asyncio.gather(*(writer.stop() for writer in self.writers))
        self._figure("transactions tried", sum(made for made, _ in done))
        self._figure("ended by the database", sum(lost for _, lost in done))

    async def _kill(self, follower: FollowerProcess, end: float) -> None:
        """Kill or freeze a follower now and then: at least once, the last time so that it comes back under load."""
        draw = self.options.random(self.place.dialect, "kills", follower.name)
        longest = min(10.0, self.seconds / 2)
        while True:
            pause = draw.uniform(longest / 4, longest)
            if time.monotonic() + pause > end:
                return
            await asyncio.sleep(pause)
            # Only what is in the database is fenced: an outside effect of a frozen process may come late and again.
            may_freeze = follower.transactional and time.monotonic() + 2 * FROZEN < end
            if may_freeze and (not self._freezes or draw.random() < 0.4):
                await follower.freeze_and_replace(FROZEN)
                self._freezes += 1
            else:
                await follower.kill_and_restart(draw.uniform(0, min(1.0, self.seconds / 10)))

    async def _drain(self, seconds: float) -> None:
        """Write a last row, and wait until every follower had it."""
        await self._mark(-1, seconds, violation=None)

    async def _mark(self, id: int, seconds: float, *, violation: str | None = "lost") -> None:
        writes = [Write("parts", f"[{id},1]", "insert", 1)]
        await self._write(writes, f"INSERT INTO parts (id, bucket, version) VALUES ({id}, 1, 1)")  # noqa: S608
        key = f"[{id},1]"

        async def had(follower: FollowerProcess) -> bool:
            return await follower.has("parts", key)

        await self._until(had, seconds, violation, f"was not given row {id}")

    async def _write(self, writes: list[Write], statement: str) -> None:
        """Write rows by the driver."""
        await self.place.query(statement)
        self.notes.append(Committed("", None, time.monotonic_ns(), True, writes))

    async def _check(self) -> None:
        """Compare what was committed with what the followers did."""
        outcomes = {outcome for (outcome,) in await self.place.query("SELECT id FROM outcomes")} | {""}
        ledger = Ledger()
        ledger.add(self.notes, outcomes)
        for file in sorted(self.folder.glob("writer-*.jsonl")):
            lines = file.read_bytes().splitlines()
            ledger.add((msgspec.json.decode(line, type=Committed) for line in lines), outcomes)
        self._figure("transactions", ledger.transactions)
        self._figure("changes", len(ledger.actors))
        self._figure("truncates", ledger.truncated)
        for follower in self.followers:
            effects = await follower.effects()
            delivered = check(ledger, follower.name, effects, follower.tables, follower.transactional, self._violate)
            self._figure(f"{follower.name} delivered", delivered)
            if not follower.transactional:
                self._figure(f"{follower.name} repeated", sum(1 for e in effects if e.taken.key) - delivered)
            for name, figure in latencies(ledger, effects, follower.kills).items():
                self._figure(f"{follower.name} commit to effect {name}", figure)
        self._figure("freezes", self._freezes)
        self._figure("kills", sum(len(follower.kills) for follower in self.followers))

    async def _rebuild(self) -> None:
        """Ask for a rebuild: each follower must be told."""
        before = {follower: await follower.resets() for follower in self.followers}
        async with self._store() as store:
            journal = Journal(store)
            for follower in self.followers:
                await journal.rebuild(follower.name)
            await journal.close()

        async def told(follower: FollowerProcess) -> bool:
            return await follower.resets() > before[follower]

        await self._until(told, NOTICED, "missed_reset", "was not told to rebuild, though that was asked for")

    async def _exchange(self) -> None:
        """Put older copies in place of the database."""
        self.options.say(f"{self.place.dialect}: older copies")
        place = self.place
        await self._older(-100, lambda: place.restore(), running=True)
        await self._older(-200, lambda: place.restore(), running=False)
        if isinstance(place, SqlitePlace):
            await self._older(-300, lambda: place.restore(in_place=True), running=True)
        if isinstance(place, PostgresPlace):
            await self._older(-300, place.point_to_copy, running=False)
        self._figure("restores", self.restores)

    async def _older(self, id: int, restore: Callable[[], Awaitable[None]], *, running: bool) -> None:
        """Copy, write on, restore the copy; each follower must notice, and be given what is written afterwards.

        With `running` the followers run all the while, else they are killed before and started afterwards.
        """
        await self.place.copy()
        resets = {follower: await follower.resets() for follower in self.followers}
        for later in range(3):
            await self._mark(id - later, NOTICED)
        if not running:
            await self._each(lambda follower: follower.kill())
        await restore()
        self.restores += 1
        if not running:
            await self._each(lambda follower: follower.start())
        how = "under running followers" if running else "before followers were started"

        async def noticed(follower: FollowerProcess) -> bool:
            return await follower.resets() > resets[follower]

        await self._until(noticed, NOTICED, "epoch_not_noticed", f"did not notice restore {self.restores}, {how}")
        await self._mark(id - 50, NOTICED)

    def _all_reset(self, times: int) -> Callable[[FollowerProcess], Awaitable[bool]]:
        async def told(follower: FollowerProcess) -> bool:
            return await follower.resets() >= times

        return told

    async def _until(
        self,
        holds: Callable[[FollowerProcess], Awaitable[bool]],
        seconds: float,
        violation: str | None,
        detail: str,
    ) -> None:
        """Wait until it holds for each follower; after `seconds` it is a violation for those for which it does not."""
        deadline = time.monotonic() + seconds
        waiting = list(self.followers)
        while waiting:
            waiting = [follower for follower in waiting if not await holds(follower)]
            if waiting and time.monotonic() > deadline:
                for follower in waiting:
                    if violation is not None:
                        self._violate(violation, f"{follower.name} {detail}")
                return
            await asyncio.sleep(0.1)

    async def _each(self, do: Callable[[FollowerProcess], Awaitable[object]]) -> None:
        await asyncio.gather(*(do(follower) for follower in self.followers))

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Store]:
        store = Store(Settings(database_url=self.place.url))
        try:
            yield store
        finally:
            await store.close()

    def _violate(self, violation: str, detail: str) -> None:
        self.result.violate(violation, f"{self.place.dialect}: {detail}")

    def _figure(self, name: str, figure: float) -> None:
        self.result.figures[f"{self.place.dialect} {name}"] = figure
