"""`python -m torture.cache_node ORDER`: one node, whose readers note what the cache gives them.

It reads from the first line of standard input until its end. Lines in between are faults: `renew-pause 3` keeps it from
renewing for so many seconds, `clock-jump -3600` sets its wall clock.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from holdfast import Holdfast, Load, Query, cached, logs
from holdfast.cache.clock import boottime
from holdfast.settings import Settings
from torture.cache_models import DOCUMENTS, GROUPS, MAX_STALENESS, READ, Base, Document, Order
from torture.cache_plants import plant_in_node

PAUSE = 0.001  # seconds on average between two reads of one reader
LATE = 0.01  # the share of loads whose value is kept late: what they read is old by then
LONGEST = 2.0  # seconds by which


class Node:
    """One node of the run: its cache, its readers, and its notes."""

    def __init__(self, order: Order, hold: Holdfast) -> None:
        self.order = order
        self.hold = hold
        self.notes: list[bytes] = []
        self.loads = 0
        self.failures = 0
        self.decorates = True
        self.arriving: asyncio.Task[None] | None = None
        self._draw = random.Random(f"{order.seed}/node/{order.number}")
        # Some documents are read much more often than others: Zipf's law.
        weights = itertools.accumulate(1 / (place + 1) for place in range(DOCUMENTS))
        self._weights = list(weights)

    async def read(self, stop: asyncio.Event) -> None:
        """Read until it is time to stop."""
        while not stop.is_set():
            try:
                if self._draw.random() < 0.8:
                    await self.read_one()
                else:
                    await self._read_group()
            except Exception as error:  # noqa: BLE001  counted: no fault may reach who reads
                self.failures += 1
                print(f"[failed] {error!r}", file=sys.stderr)
            await asyncio.sleep(self._draw.expovariate(1 / PAUSE))

    async def read_one(self) -> None:
        """Read one document, and note what the cache gave."""
        number = bisect.bisect(self._weights, self._draw.random() * self._weights[-1])
        number = min(number, DOCUMENTS - 1)
        began = boottime()
        if not self.decorates or self._draw.random() < 0.5:
            found = await self.hold.cache.lookup(
                f"document:{number}", self._load_one, tags=(f"documents:{number}",), **OPTIONS
            )
            version, stale = found.value, found.stale
        else:
            version, stale = await decorated(number), False
        self.notes.append(READ.pack(began, number, version, stale))

    async def _read_group(self) -> None:
        group = self._draw.randrange(GROUPS)
        began = boottime()
        found = await self.hold.cache.lookup(f"group:{group}", self._load_group, tags=(f"group:{group}",), **OPTIONS)
        for number, version in found.value:
            self.notes.append(READ.pack(began, number, version, found.stale))

    async def _load_one(self, load: Load) -> int:
        return await self.load(int(load.key.partition(":")[2]))

    async def load(self, number: int) -> int:
        """The version of a document, from the database."""
        self.loads += 1
        async with self.hold.read() as unit:
            version = (await unit[Document].get(number)).version
        await self._dawdle()
        return version

    async def _load_group(self, load: Load) -> list[list[int]]:
        self.loads += 1
        query = Query(Document).where(part_of=int(load.key.partition(":")[2]))
        async with self.hold.read() as unit:
            rows = [[row.number, row.version] for row in await unit[Document].list(query)]
        await self._dawdle()
        return rows

    async def _dawdle(self) -> None:
        """Let others change what was read before it is kept."""
        if self._draw.random() < LATE:
            await asyncio.sleep(self._draw.uniform(0, LONGEST))
        elif self._draw.random() < 0.2:
            await asyncio.sleep(self._draw.uniform(0, 0.02))

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Do what standard input says, until it ends."""
        while line := await reader.readline():
            fault, _, given = line.decode().partition(" ")
            if fault == "renew-pause":
                asyncio.get_running_loop().create_task(self._pause(float(given)))
            elif fault == "clock-jump":
                _set_wall_clock(float(given))

    async def _pause(self, seconds: float) -> None:
        renewal: Any = self.hold.cache._renewal
        real = type(renewal)._renew

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await real(renewal)

        renewal._now._load = wait
        await asyncio.sleep(seconds)
        renewal._now._load = renewal._renew


OPTIONS: dict[str, Any] = {
    "ttl": 5.0,
    "fail_safe": 30.0,
    "soft_timeout": 0.5,
    "max_staleness": MAX_STALENESS,
    "refresh_ahead": 1.0,
}
node: Node


@cached(key="decorated:{number}", tags=("documents:{number}",), ttl="5s", jitter=0.2, max_staleness=MAX_STALENESS)
async def decorated(number: int) -> int:
    """The version of a document."""
    return await node.load(number)


def _set_wall_clock(jump: float) -> None:
    real = time.clock_gettime
    time.time = lambda: real(time.CLOCK_REALTIME) + jump


async def main(order: Order) -> None:
    """Read from the first line of standard input until its end."""
    global node
    settings = Settings(database_url=order.url, redis_url=order.redis, start_timeout=30)
    hold = await Holdfast.open(settings=settings, metadata=Base.metadata, migrate=False)
    node = Node(order, hold)
    plant_in_node(order.plant, node)
    await hold.cache.renew()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.readline()
    stop = asyncio.Event()
    readers = [asyncio.create_task(node.read(stop)) for _ in range(order.readers)]
    await node.listen(reader)
    stop.set()
    if node.arriving is not None:
        node.arriving.cancel()
    await asyncio.gather(*readers)
    await asyncio.to_thread(Path(order.file).write_bytes, b"".join(node.notes))
    await hold.close()
    figures = {"loads": node.loads, "failures": node.failures, "reads": len(node.notes)}
    print(msgspec.json.encode(figures).decode(), flush=True)


if __name__ == "__main__":
    logs.show(sys.stderr, logging.WARNING)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
