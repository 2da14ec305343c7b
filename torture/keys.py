"""A revoked API key opens nothing a second later, on any node, whatever becomes of Redis; and no key is lost.

Nodes in processes of their own verify keys while these are made and revoked; Redis is killed, paused and rolled back.
At the end a process of the database is killed with -9, so that all of it starts again, and every key is what it was.

Violations: `alive` (good more than `max_staleness` after it was revoked), `unknown` (refused though it was good),
`failed` (a verification that raised something else than a refusal), `lost` (not what it was, after the crash).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from devservers import start_postgres, start_redis
from devservers.relay import relay
from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.cache.clock import boottime
from holdfast.guard.keys import KeyRefused, NewKey
from holdfast.settings import Settings
from torture import cache_faults
from torture.harness import Options, Result
from torture.keys_check import Life, Verdict, check
from torture.keys_node import Answer, Order
from torture.processes import ProcessFailed, start

PLANTS = {
    "no-tags": "what is kept of a key depends on nothing",
    "kept": "a node takes a good key for good for three seconds",
}
VIOLATIONS = ("alive", "unknown", "failed", "lost")
FAULTS = ("redis-kill", "redis-pause", "redis-rollback")
BOUND = 1.0  # seconds: `max_staleness`
TASKS = 4  # of a node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this run takes beside what every run does."""
    parser.add_argument("--nodes", type=int, default=3, help="processes that verify (3)")
    parser.add_argument(
        "--faults", default=",".join(FAULTS), help=f"what goes wrong, between commas ({', '.join(FAULTS)}); none"
    )


async def run(options: Options) -> Result:
    """Make, verify, revoke, break, and hold what was said against what was committed."""
    result = Result("keys", options, VIOLATIONS)
    kinds = [kind for kind in options.given.get("faults", "").split(",") if kind and kind != "none"]
    for kind in kinds:
        if kind not in FAULTS:
            raise SystemExit(f"fault {kind!r} is not one of: {', '.join(FAULTS)}")
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-torture-") as folder,
        start_postgres() as postgres,
        postgres.database() as url,
    ):
        server = start_redis()
        faults: cache_faults.Faults | None = None
        try:
            async with relay("127.0.0.1", server.port) as line:
                settings = Settings(database_url=url, redis_url=f"redis://127.0.0.1:{line.port}/0", start_timeout=30)
                async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
                    nodes = _Nodes(Path(folder), settings, options)
                    owner = _Owner(hold, nodes, options)
                    try:
                        await nodes.start(int(options.given.get("nodes", 3)))
                        faults = cache_faults.Faults(server, line, nodes.processes, options.random("faults"))
                        await _work(owner, faults, kinds, options.seconds)
                        verdict = check(await nodes.end(result), owner.lives, BOUND)
                    finally:
                        await nodes.abandon()
                    await hold.counters.flush()
                    await _crash(hold)
                    await _survived(result, hold, owner)
        finally:
            (faults.server if faults is not None else server).stop()
    _judge(result, verdict, owner, faults.counts)
    return result


async def _work(owner: _Owner, faults: cache_faults.Faults, kinds: list[str], seconds: float) -> None:
    tasks = [asyncio.create_task(faults.make(kind)) for kind in kinds]
    tasks.append(asyncio.create_task(owner.live()))
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await owner.settled()


class _Owner:
    """Makes keys and revokes them, and knows when each was committed."""

    def __init__(self, hold: Holdfast, nodes: _Nodes, options: Options) -> None:
        self.lives: dict[int, Life] = {}
        self.made: list[NewKey[accounts.ApiKey]] = []
        self._hold = hold
        self._nodes = nodes
        self._draw = options.random("owner")
        self._doing: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """Make a key, or revoke one, for ever."""
        async with self._hold.unit(tenant=ALL) as unit:
            user = await unit[User].add(User(external_id="torture"))
        good: list[int] = []
        while True:
            if len(good) < 10 or self._draw.random() < 0.5:
                number = len(self.made)
                await self._whole(self._make(number, user))
                good.append(number)
            else:
                await self._whole(self._revoke(good.pop(self._draw.randrange(len(good)))))
            await asyncio.sleep(self._draw.expovariate(1 / 0.03))

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody cancels in the middle: what was committed and is not noted would be judged wrongly."""
        self._doing = asyncio.create_task(work)
        await asyncio.shield(self._doing)

    async def settled(self) -> None:
        """Return when what was begun last is done."""
        if self._doing is not None:
            await self._doing

    async def _make(self, number: int, user: User) -> None:
        async with self._hold.unit(tenant=ALL) as unit:
            made = await self._hold.keys.create(unit, name=f"key {number}", user_id=user.id)
            # Known before it is there: what was found missing must not stay so.
            self.lives[number] = Life(made=float("inf"))
            self.made.append(made)
            await self._nodes.tell(f"key {number} {made.text}")
            await asyncio.sleep(self._draw.uniform(0, 0.05))
        self.lives[number].made = boottime()

    async def _revoke(self, number: int) -> None:
        life = self.lives[number]
        life.revoked = float("inf")  # from now on a node may know of it sooner than we do
        async with self._hold.unit(tenant=ALL) as unit:
            await self._hold.keys.revoke(unit, self.made[number].row.id)
        life.revoked = boottime()


class _Nodes:
    """The processes that verify."""

    def __init__(self, folder: Path, settings: Settings, options: Options) -> None:
        self.processes: list[Process] = []
        self._folder, self._settings, self._options = folder, settings, options

    async def start(self, count: int) -> None:
        """Start them all."""
        for number in range(count):
            order = Order(
                url=self._settings.database_url,
                redis=self._settings.redis_url or "",
                number=number,
                file=str(self._folder / f"node-{number}.notes"),
                tasks=TASKS,
                seed=self._options.seed,
                plant=self._options.plant,
            )
            process = await start("keys_node", order, self._log(number))
            self.processes.append(process)
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise ProcessFailed(f"node {number}", await process.wait(), self._log(number))
        self._options.say(f"{count} nodes")

    async def tell(self, line: str) -> None:
        """Tell a line to all."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n".encode())
            await process.stdin.drain()

    async def end(self, result: Result) -> list[Answer]:
        """End them; what they noted.

        Raises:
            ProcessFailed: one ended by itself, or with an error.
        """
        notes: list[Answer] = []
        for number, process in enumerate(self.processes):
            output, _ = await process.communicate(b"")
            if process.returncode != 0:
                raise ProcessFailed(f"node {number}", process.returncode, self._log(number))
            for name, figure in msgspec.json.decode(output).items():
                result.figures[name] = int(result.figures.get(name, 0)) + figure
            for line in self._log(number).read_text(errors="replace").splitlines():
                if line.startswith("[failed] "):
                    result.violate("failed", line.removeprefix("[failed] "))
            notes += msgspec.json.decode((self._folder / f"node-{number}.notes").read_bytes(), type=list[Answer])
        return notes

    async def abandon(self) -> None:
        """End them whatever their state."""
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _log(self, number: int) -> Path:
        return self._folder / f"node-{number}.log"


async def _crash(hold: Holdfast) -> None:
    """End a process of the server with -9: it ends all others, and recovers from its log."""
    async with hold.read(tenant=ALL) as unit:
        pid = (await unit.execute("SELECT pg_backend_pid()")).scalar_one()
    os.kill(pid, signal.SIGKILL)  # of a connection that waits in the pool
    await asyncio.sleep(0.5)


async def _survived(result: Result, hold: Holdfast, owner: _Owner) -> None:
    """Every key is what it was, to a process that has not seen it before."""
    settings = Settings(database_url=hold.settings.database_url, start_timeout=30)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as fresh:
        for number, made in enumerate(owner.made):
            wanted = "good" if owner.lives[number].revoked is None else "revoked"
            try:
                await fresh.keys.verify(made.text)
                found = "good"
            except KeyRefused as refused:
                found = refused.reason
            if found != wanted:
                result.violate("lost", f"key {number} was {wanted} before the crash, and is {found} after it")


def _judge(result: Result, verdict: Verdict, owner: _Owner, faults: dict[str, int]) -> None:
    for number, seconds in verdict.alive:
        result.violate("alive", f"key {number} was good {seconds:.3f} s after it was revoked")
    for number, reason, seconds in verdict.unknown:
        result.violate("unknown", f"key {number} was refused as {reason} {seconds:.3f} s after it was made")
    result.figures |= {
        "keys": len(owner.made),
        "revoked": sum(life.revoked is not None for life in owner.lives.values()),
        "longest alive s": round(verdict.longest_alive, 4),
    }
    result.figures |= {f"answers {name}": number for name, number in sorted(verdict.answers.items())}
    result.figures |= {f"faults {kind}": number for kind, number in sorted(faults.items())}
