"""How long after a commit a follower in another process has its changes."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.harness import Report, quantile
from benchmarks.journal_databases import opened
from benchmarks.journal_models import ENTRIES, FactualEntry, rows_of, table_of
from holdfast import Holdfast
from holdfast.journal import Position
from holdfast.model import uuid7

WRITERS = 4
PAUSE = 0.04  # seconds on average between two commits of one writer
LONG = 5.0  # seconds that the long writer keeps its transaction open

Writers = Callable[[Holdfast, str, "Commits", float], Awaitable[None]]


@dataclass
class Commits:
    """Keys, with the nanoseconds just before COMMIT was sent and after it was acknowledged."""

    began: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)


@dataclass
class Latencies:
    """Milliseconds of every change of one case, by round."""

    from_sending: list[list[float]] = field(default_factory=list)
    from_acknowledgement: list[list[float]] = field(default_factory=list)

    def of(self, share: float) -> float:
        """The quantile over all rounds, from before COMMIT was sent."""
        return quantile([figure for one in self.from_sending for figure in one], share)


async def latency_case(
    report: Report, case: str, url: str, writers: Writers, *, seconds: float, rounds: int
) -> Latencies:
    """Let `writers` write for `seconds` in each round, a follower in another process noting when it has what."""
    latencies = Latencies()
    async with opened(url) as hold:
        for _ in range(rounds):
            commits = Commits()
            async with _follower(url) as seen:
                await writers(hold, url, commits, seconds)
                await _settle(hold)
            missing = commits.began.keys() - seen.keys()
            if missing:
                raise AssertionError(f"{len(missing)} of {len(commits.began)} changes were not delivered in time")
            latencies.from_sending.append([(seen[key] - at) / 1e6 for key, at in commits.began.items()])
            latencies.from_acknowledgement.append([(seen[key] - at) / 1e6 for key, at in commits.ended.items()])
    for name, share in (("median", 0.5), ("p99", 0.99), ("slowest", 1.0)):
        report.record(
            case, f"{name}, from sending COMMIT", "ms", [quantile(one, share) for one in latencies.from_sending]
        )
    for name, share in (("median", 0.5), ("p99", 0.99)):
        figures = [quantile(one, share) for one in latencies.from_acknowledgement]
        report.record(case, f"{name}, from its acknowledgement", "ms", figures)
    return latencies


@asynccontextmanager
async def _follower(url: str) -> AsyncIterator[dict[str, int]]:
    """Another process that follows; what it saw is there after the block."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.journal_follower",
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    seen: dict[str, int] = {}
    try:
        async with asyncio.timeout(60):
            said = await process.stdout.readline()
        if said != b"ready\n":
            raise AssertionError(f"the follower's process said {said!r} instead of that it follows")
        yield seen
        async with asyncio.timeout(60):
            out, _ = await process.communicate(b"")  # nothing, and its end
        seen.update(msgspec.json.decode(out, type=dict[str, int]))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _settle(hold: Holdfast) -> None:
    """Wait until the follower has everything, or should have had it long ago."""
    upto = await hold.journal.make_tick()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = await hold.journal.status()
        if any(one.name == "latency" and Position.parse(one.position) >= upto for one in status.followers):
            return
        await asyncio.sleep(0.05)


def _entry() -> FactualEntry:
    [row] = rows_of(ENTRIES, 1)
    return FactualEntry(**dict(zip(ENTRIES.columns, row, strict=True)))


async def units(hold: Holdfast, url: str, commits: Commits, seconds: float) -> None:
    """Units of one row each, at random moments."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(_unit_writer(hold, commits, until, number) for number in range(WRITERS)))


async def units_beside_a_long_one(hold: Holdfast, url: str, commits: Commits, seconds: float) -> None:
    """The same, while one transaction after the other has written and stays open for `LONG` seconds."""
    until = time.monotonic() + seconds
    short = (_unit_writer(hold, commits, until, number) for number in range(WRITERS))
    await asyncio.gather(_long_writer(hold, commits, until, min(LONG, seconds / 2)), *short)


async def _unit_writer(hold: Holdfast, commits: Commits, until: float, number: int) -> None:
    draw = random.Random(number)
    while time.monotonic() < until:
        await asyncio.sleep(draw.expovariate(1 / PAUSE))
        await _commit(hold, commits, f"writer {number}")


async def _long_writer(hold: Holdfast, commits: Commits, until: float, stay: float) -> None:
    while time.monotonic() < until:
        await _commit(hold, commits, "long writer", stay)


async def _commit(hold: Holdfast, commits: Commits, actor: str, stay: float = 0.0) -> None:
    row = _entry()
    async with hold.unit(actor=actor) as unit:
        unit.add(row)
        await unit.flush()
        if stay:
            await asyncio.sleep(stay)
        began = time.monotonic_ns()
    commits.ended[str(row.id)] = time.monotonic_ns()
    commits.began[str(row.id)] = began


async def raw_postgres(hold: Holdfast, url: str, commits: Commits, seconds: float) -> None:
    """Rows written by another program, which tells nobody."""
    until, draw = time.monotonic() + seconds, random.Random(1)
    table = table_of(ENTRIES.factual).name
    connection = await asyncpg.connect(url)
    try:
        insert = await connection.prepare(
            f"INSERT INTO {table} (id, account_id, kind, amount, quantity, settled, note, created_at)"  # noqa: S608
            " VALUES ($1, 1, 'paid', 1, 1, true, 'raw', now())"
        )
        while time.monotonic() < until:
            await asyncio.sleep(draw.expovariate(1 / (2 * PAUSE)))
            key: UUID = uuid7()
            began = time.monotonic_ns()
            await insert.fetch(key)
            commits.ended[str(key)] = time.monotonic_ns()
            commits.began[str(key)] = began
    finally:
        await connection.close()
