"""`python -m torture.keys_node ORDER`: one process that verifies the keys that it is told, and notes the answers.

It reads lines from standard input until its end: `key 17 hold_live_…` is a key to verify from now on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from holdfast import Holdfast, Load, logs
from holdfast.apps import accounts
from holdfast.cache.clock import boottime
from holdfast.errors import Unavailable
from holdfast.guard.keys import KeyFacts, KeyRefused
from holdfast.settings import Settings

PAUSE = 0.001  # seconds on average between two verifications of one task
KEPT = 3.0  # seconds: how long the planted fault takes a key for good

Answer = tuple[float, int, str]
"""When a verification began (seconds of the boot clock), of which key, and what came of it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the run is told.

    Attributes:
        url, redis: where the database is, and Redis.
        number: which node it is.
        file: where its notes go.
        tasks: that verify at a time.
        seed, plant: as in the run's options.
    """

    url: str
    redis: str
    number: int
    file: str
    tasks: int
    seed: int
    plant: str | None


class Node:
    """One node of the run, and its notes."""

    def __init__(self, order: Order, hold: Holdfast) -> None:
        self.hold = hold
        self.notes: list[Answer] = []
        self.known: list[tuple[int, str]] = []
        self.failures = 0
        self._draw = random.Random(f"{order.seed}/node/{order.number}")

    async def verify(self, stop: asyncio.Event) -> None:
        """Verify one key after the other until it is time to stop."""
        while not stop.is_set():
            await asyncio.sleep(self._draw.expovariate(1 / PAUSE))
            if not self.known:
                continue
            number, text = self._draw.choice(self.known[-200:])
            began = boottime()
            try:
                await self.hold.keys.verify(text)
                answer = "good"
            except KeyRefused as refused:
                answer = refused.reason
            except Unavailable:
                answer = "unavailable"
            except Exception as error:  # noqa: BLE001  counted: no fault may reach who asks
                self.failures += 1
                print(f"[failed] {error!r}", file=sys.stderr)
                continue
            self.notes.append((began, number, answer))


def plant(fault: str | None, hold: Holdfast) -> None:
    """Plant a fault in this node."""
    if fault == "no-tags":  # what is kept of a key depends on nothing
        Load.tags = lambda load, *names: None  # type: ignore[method-assign]
    elif fault == "kept":  # a good key is good for a while, whatever is committed
        keys: Any = hold.keys
        real = keys.verify
        good: dict[str, tuple[float, KeyFacts]] = {}

        async def verify(text: str, **asked: Any) -> KeyFacts:
            if text not in good or time.monotonic() >= good[text][0]:
                good[text] = (time.monotonic() + KEPT, await real(text, **asked))
            return good[text][1]

        keys.verify = verify


async def main(order: Order) -> None:
    """Verify until the end of standard input."""
    settings = Settings(database_url=order.url, redis_url=order.redis, start_timeout=30)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as hold:
        plant(order.plant, hold)
        node = Node(order, hold)
        print("ready", flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        stop = asyncio.Event()
        tasks = [asyncio.create_task(node.verify(stop)) for _ in range(order.tasks)]
        while line := await reader.readline():
            what, _, rest = line.decode().strip().partition(" ")
            if what == "key":
                number, _, text = rest.partition(" ")
                node.known.append((int(number), text))
        stop.set()
        await asyncio.gather(*tasks)
        await asyncio.to_thread(Path(order.file).write_bytes, msgspec.json.encode(node.notes))
        figures = {"verifications": len(node.notes), "failures": node.failures}
        print(msgspec.json.encode(figures).decode(), flush=True)


if __name__ == "__main__":
    logs.show(sys.stderr, logging.WARNING)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
