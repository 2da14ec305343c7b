"""No read that is not told stale is superseded for longer than its bound, whatever goes wrong: invariant C1.

Nodes in processes of their own read documents through the cache, which writers in others change by raw SQL and by
units. What was committed is known from the writers' notes, what was read from the nodes'; all clocks are the machine's
boot clock.

Violations: `stale` (superseded for more than `max_staleness` when the read began), `invented` (a version that nobody
committed), `failed` (a read that raised: invariant C3), `late` (without faults, when 99 of 100 reads are not within
50 ms).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import msgspec

from devservers import start_postgres, start_redis
from devservers.relay import Relay, relay
from holdfast import Holdfast
from holdfast.settings import Settings
from torture import cache_faults
from torture.cache_check import Verdict, check
from torture.cache_models import COMMIT, DOCUMENTS, GROUPS, MAX_STALENESS, READ, Base, Document, Order
from torture.cache_plants import PLANTS
from torture.harness import Options, Result
from torture.processes import ProcessFailed, start

__all__ = ["PLANTS", "VIOLATIONS", "add_arguments", "run"]

VIOLATIONS = ("stale", "invented", "failed", "late")
READERS = 6  # of a node
CALM = 0.05  # seconds: what 99 of 100 reads keep to without faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this run takes beside what every run does."""
    parser.add_argument("--nodes", type=int, default=4, help="processes that read (4)")
    parser.add_argument("--writers", type=int, default=8, help="tasks that write, in two processes (8)")
    parser.add_argument(
        "--faults",
        default=",".join(cache_faults.KINDS),
        help=f"what goes wrong, between commas ({', '.join(cache_faults.KINDS)}); none for nothing",
    )


async def run(options: Options) -> Result:
    """Read, write, break, and hold the reads against the commits."""
    result = Result("cache", options, VIOLATIONS)
    kinds = [kind for kind in options.given.get("faults", "").split(",") if kind and kind != "none"]
    for kind in kinds:
        if kind not in cache_faults.KINDS:
            raise SystemExit(f"fault {kind!r} is not one of: {', '.join(cache_faults.KINDS)}")
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-torture-") as folder,
        start_postgres() as postgres,
        postgres.database() as url,
    ):
        await _make(url)
        server = start_redis()
        faults: cache_faults.Faults | None = None
        try:
            async with relay("127.0.0.1", server.port) as line:
                parts = _Parts(Path(folder), url, line, options)
                try:
                    await parts.start()
                    draw = options.random("faults")
                    faults = cache_faults.Faults(server, line, parts.nodes, draw)
                    await parts.work(faults, kinds)
                    verdict = await parts.end(result)
                finally:
                    await parts.abandon()
        finally:
            (faults.server if faults is not None else server).stop()
    _judge(result, verdict, faults.counts, kinds)
    return result


async def _make(url: str) -> None:
    rows = [{"number": number, "part_of": number % GROUPS, "version": 0} for number in range(DOCUMENTS)]
    settings = Settings(database_url=url)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold, hold.unit() as unit:
        await unit[Document].add_many(rows)


class _Parts:
    """The processes of a run."""

    def __init__(self, folder: Path, url: str, line: Relay, options: Options) -> None:
        self.folder, self.options = folder, options
        self.nodes: list[Process] = []
        self.writers: list[Process] = []
        self._common: dict[str, Any] = {
            "url": url,
            "redis": f"redis://127.0.0.1:{line.port}/0",
            "seed": options.seed,
            "plant": options.plant,
        }

    async def start(self) -> None:
        """Start them all, and have them begin together."""
        count = int(self.options.given.get("nodes", 4))
        for number in range(count):
            self.nodes.append(await self._start("node", number, READERS))
        writers = int(self.options.given.get("writers", 8))
        for number in range(2):
            self.writers.append(await self._start("writer", number, (writers + number) // 2))
        for process in (*self.nodes, *self.writers):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            await process.stdin.drain()
        self.options.say(f"{count} nodes, {writers} writers")

    async def _start(self, what: str, number: int, readers: int) -> Process:
        log = self.folder / f"{what}-{number}.log"
        file = str(self.folder / f"{what}-{number}.notes")
        order = Order(number=number, file=file, readers=readers, **self._common)
        process = await start(f"cache_{what}", order, log)
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise ProcessFailed(f"{what} {number}", await process.wait(), log)
        return process

    async def work(self, faults: cache_faults.Faults, kinds: list[str]) -> None:
        """Let them work, and things go wrong."""
        tasks = [asyncio.create_task(faults.make(kind)) for kind in kinds]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self.options.seconds) if tasks else (set(), None)
            for task in done:
                task.result()
            if not tasks:
                await asyncio.sleep(self.options.seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def end(self, result: Result) -> Verdict:
        """End them, writers first, and judge what they noted.

        Raises:
            ProcessFailed: one ended by itself, or with an error.
        """
        for what, processes in (("writer", self.writers), ("node", self.nodes)):
            for number, process in enumerate(processes):
                output, _ = await process.communicate(b"")  # which ends its standard input
                if process.returncode != 0:
                    raise ProcessFailed(f"{what} {number}", process.returncode, self.folder / f"{what}-{number}.log")
                for name, figure in msgspec.json.decode(output).items():
                    result.figures[name] = int(result.figures.get(name, 0)) + figure
        for number in range(len(self.nodes)):
            log = self.folder / f"node-{number}.log"
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("[failed] "):
                    result.violate("failed", line.removeprefix("[failed] "))
        commits = [note for file in self._files("writer") for note in COMMIT.iter_unpack(file.read_bytes())]
        reads = (note for file in self._files("node") for note in READ.iter_unpack(file.read_bytes()))
        return check(reads, commits, MAX_STALENESS)

    def _files(self, what: str) -> list[Path]:
        return sorted(self.folder.glob(f"{what}-*.notes"))

    async def abandon(self) -> None:
        """End them whatever their state."""
        for process in (*self.nodes, *self.writers):
            if process.returncode is None:
                process.kill()
                await process.wait()


def _judge(result: Result, verdict: Verdict, faults: dict[str, int], kinds: list[str]) -> None:
    for document, version, seconds in verdict.violations:
        result.violate("stale", f"document {document}: version {version} was superseded {seconds:.3f} s before")
    for document, version in verdict.invented:
        result.violate("invented", f"document {document}: version {version}")
    result.figures |= {
        "reads told stale": verdict.told_stale,
        "staleness p99 s": round(verdict.percentile(0.99), 4),
        "staleness p99.9 s": round(verdict.percentile(0.999), 4),
        "longest staleness s": round(verdict.longest, 4),
    }
    for bound, count in verdict.histogram.items():
        result.figures[f"superseded up to {bound:g} s" if bound else "not superseded"] = count
    result.figures |= {f"faults {kind}": count for kind, count in sorted(faults.items())}
    if not kinds and (late := verdict.percentile(0.99)) > CALM:
        result.violate("late", f"99 of 100 reads are superseded for {late:.3f} s at most, and {CALM:g} are allowed")
