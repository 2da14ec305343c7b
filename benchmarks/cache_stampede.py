"""Four processes whose callers all miss one key at the same moment."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import Process
from typing import Any

import msgspec

from benchmarks.harness import started
from holdfast import Holdfast, Load
from holdfast.cache.clock import boottime
from holdfast.settings import Settings

PROCESSES = 4
CALLERS = 250
SECONDS = 0.5  # that a load takes
LEASE = 2.0


class Outcome(msgspec.Struct, frozen=True):
    """What a stampede was like.

    Attributes:
        loads: how often the value was loaded.
        late: seconds that the slowest caller waited, less what the load took, and less the lease of a killed holder.
    """

    loads: int
    late: float


async def stampede(url: str, redis_url: str, key: str, *, kill: bool = False) -> Outcome:
    """Miss `key` from four processes at once; with `kill`, the one that loads it is killed while it does."""
    processes = [await started("benchmarks.cache_stampede", url, redis_url, key) for _ in range(PROCESSES)]
    try:
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        at = boottime() + 0.3
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{at}\n".encode())
            await process.stdin.drain()
        loads, slowest = 0, 0.0
        if kill:
            holder = await _holder(processes)
            holder.kill()
            await holder.wait()
            processes.remove(holder)
        for process in processes:
            output, _ = await process.communicate()
            told = msgspec.json.decode(output.splitlines()[-1])
            loads += told["loads"]
            slowest = max(slowest, told["slowest"])
        return Outcome(loads, slowest - SECONDS - (LEASE if kill else 0.0))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _holder(processes: list[Process]) -> Process:
    """The process that says that it loads."""

    async def told(process: Process) -> Process:
        assert process.stdout is not None
        while (await process.stdout.readline()).strip() != b"loading":
            pass
        return process

    tasks = [asyncio.create_task(told(process)) for process in processes]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return done.pop().result()


async def main(url: str, redis_url: str, key: str) -> None:
    """One of the processes: its callers begin at the time that standard input says."""
    loads = 0

    async def load(load: Load) -> dict[str, Any]:
        nonlocal loads
        loads += 1
        print("loading", flush=True)
        await asyncio.sleep(SECONDS)
        return {"loaded": True}

    async with await Holdfast.open(settings=Settings(database_url=url, redis_url=redis_url)) as hold:
        await hold.cache.get("warm")
        await hold.cache.renew()
        print("ready", flush=True)
        at = float(await asyncio.to_thread(sys.stdin.readline))
        await asyncio.sleep(max(0.0, at - boottime()))

        async def call() -> float:
            began = time.perf_counter()
            await hold.cache.get_or_load(key, load, lease=LEASE)
            return time.perf_counter() - began

        slowest = max(await asyncio.gather(*(call() for _ in range(CALLERS))))
    print(msgspec.json.encode({"loads": loads, "slowest": slowest}).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
