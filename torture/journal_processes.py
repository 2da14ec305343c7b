"""The processes of a run: followers that are killed and come back, and writers that end when they are asked to."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path

import msgspec

from torture import journal_follower, journal_writer
from torture.journal_check import Effect
from torture.journal_databases import Place
from torture.journal_follower import Taken
from torture.processes import ProcessFailed, start

END_SECONDS = 60


class FollowerProcess:
    """One follower, and the effects that its processes left.

    Attributes:
        kills: (when it was killed or frozen, when it was started or thawed), in nanoseconds of the monotonic clock.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        folder: Path,
        *,
        transactional: bool,
        tables: tuple[str, ...] | None,
        seed: int,
        plant: str | None,
    ) -> None:
        self.name, self.transactional, self.tables = name, transactional, tables
        self.kills: list[tuple[int, int]] = []
        self._place, self._seed, self._plant, self._starts = place, seed, plant, 0
        self._effects, self._times = folder / f"{name}.effects", folder / f"{name}.times"
        self._log = folder / f"{name}.log"
        self._process: Process | None = None
        self._frozen: Process | None = None

    async def start(self) -> None:
        """Start a process that runs it."""
        self._starts += 1
        order = journal_follower.Order(
            url=self._place.url,
            name=self.name,
            transactional=self.transactional,
            effects=str(self._effects),
            times=str(self._times),
            seed=self._seed * 1000 + self._starts,
            tables=self.tables,
            plant=self._plant,
        )
        self._process = await start("journal_follower", order, self._log)

    async def kill(self) -> int:
        """Kill it with -9; returns when."""
        process = self._running()
        process.kill()
        killed = time.monotonic_ns()
        await process.wait()
        self._process = None
        return killed

    async def kill_and_restart(self, pause: float) -> None:
        """Kill it with -9 and start it again after `pause` seconds."""
        killed = await self.kill()
        await asyncio.sleep(pause)
        self.kills.append((killed, time.monotonic_ns()))
        await self.start()

    async def freeze_and_replace(self, seconds: float) -> None:
        """Freeze it for `seconds`, past its lease, while another instance takes over; then both are there for a while.

        Raises:
            ProcessFailed: it ended by itself, or with an error.
        """
        frozen = self._running()
        self._frozen = frozen
        frozen.send_signal(signal.SIGSTOP)
        began = time.monotonic_ns()
        await self.start()
        await asyncio.sleep(seconds)
        frozen.send_signal(signal.SIGCONT)
        self.kills.append((began, time.monotonic_ns()))
        await asyncio.sleep(1.0)
        self._frozen = None
        if await _end(frozen) != 0:
            raise ProcessFailed(f"the follower {self.name}, which was frozen,", frozen.returncode, self._log)

    async def stop(self) -> None:
        """Ask it to end.

        Raises:
            ProcessFailed: it ended by itself, or with an error.
        """
        process, self._process = self._running(), None
        if await _end(process) != 0:
            raise ProcessFailed(f"the follower {self.name}", process.returncode, self._log)

    async def abandon(self) -> None:
        """End it whatever its state."""
        if self._frozen is not None and self._frozen.returncode is None:
            self._frozen.kill()
            await self._frozen.wait()
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def effects(self) -> list[Effect]:
        """Its effects so far, in order."""
        if self.transactional:
            rows = await self._place.query("SELECT batch, change FROM effects ORDER BY id")
            pairs = [(batch, msgspec.json.decode(change, type=Taken)) for batch, change in rows]
        else:
            lines = self._effects.read_bytes().split(b"\n")[:-1] if self._effects.exists() else []
            pairs = [msgspec.json.decode(line, type=tuple[str, Taken]) for line in lines]
        times = self._noted()
        return [Effect(change, times.get(batch, 0)) for batch, change in pairs]

    async def resets(self) -> int:
        """How often it was told to rebuild everything."""
        if self.transactional:
            [(count,)] = await self._place.query("""SELECT count(*) FROM effects WHERE change LIKE '%,"*",%'""")
            return int(count)
        return self._effects.read_bytes().count(b',"*",') if self._effects.exists() else 0

    async def has(self, table: str, key: int | str) -> bool:
        """Whether a change of the row had its effect."""
        part = f'"{table}","{key}",'
        if self.transactional:
            [(count,)] = await self._place.query(f"SELECT count(*) FROM effects WHERE change LIKE '%{part}%'")  # noqa: S608
            return bool(count)
        return self._effects.exists() and part.encode() in self._effects.read_bytes()

    def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            code = self._process.returncode if self._process is not None else None
            raise ProcessFailed(f"the follower {self.name}", code, self._log)
        return self._process

    def _noted(self) -> dict[str, int]:
        times = {}
        for line in self._times.read_text().split("\n")[:-1] if self._times.exists() else []:
            batch, _, at = line.partition(" ")
            if at.isdigit():
                times[batch] = int(at)
        return times


class WriterProcess:
    """A process with some of the writers."""

    def __init__(self, order: journal_writer.Order) -> None:
        self._order = order
        self._log = Path(order.folder) / f"writers-{order.numbers[0]}.log"
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it; returns when it is ready to write."""
        self._process = await start("journal_writer", self._order, self._log)
        assert self._process.stdout is not None
        if await self._process.stdout.readline() != b"ready\n":
            await self._process.wait()
            raise ProcessFailed("a process of writers", self._process.returncode, self._log)

    async def go(self) -> None:
        """Let it write."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()

    async def stop(self) -> tuple[int, int]:
        """Ask it to end; returns how many transactions it made, and how many were ended by the database.

        Raises:
            ProcessFailed: it ended by itself, or with an error.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        code = await _end(process)
        if code != 0:
            raise ProcessFailed("a process of writers", code, self._log)
        made, lost = msgspec.json.decode(await process.stdout.read(), type=tuple[int, int])
        return made, lost

    async def abandon(self) -> None:
        """End it whatever its state."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def _end(process: Process) -> int | None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            return await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
