"""What goes wrong while the nodes read: Redis is killed, paused, rolled back; nodes are stopped, paused, set back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import Any

from redis import asyncio as redis

from devservers import RedisServer, start_redis
from devservers.relay import Relay

BETWEEN = (0.3, 2.0)  # seconds between two faults of one kind
PAUSE = (0.2, 3.0)  # seconds for which something stands still: less and more than the bound
JUMP = 86_400.0  # seconds by which a clock is set, forward or back


class Faults:
    """Makes faults until it is cancelled.

    Args:
        relay: in front of Redis: nodes and writers connect to it.
        nodes: their processes, which take commands.
    """

    def __init__(self, server: RedisServer, line: Relay, nodes: list[Process], draw: random.Random) -> None:
        self.server = server
        self.counts: dict[str, int] = {}
        self._line = line
        self._nodes = nodes
        self._draw = draw
        self._redis = asyncio.Lock()  # one fault of Redis at a time
        self._stopped: set[int] = set()

    async def make(self, kind: str) -> None:
        """Make faults of one kind, now and then, for ever."""
        make = KINDS[kind]
        self.counts[kind] = 0
        while True:
            await asyncio.sleep(self._draw.uniform(*BETWEEN))
            await make(self)
            self.counts[kind] += 1

    async def kill_redis(self) -> None:
        async with self._redis:
            os.kill(self.server.pid, signal.SIGKILL)
            self.server.stop()
            await asyncio.sleep(self._draw.uniform(0, 1.0))
            starting = asyncio.create_task(asyncio.to_thread(start_redis))
            try:
                await asyncio.shield(starting)
            finally:  # where this is cancelled meanwhile, too: a server that nobody knows would never be ended
                self.server = await starting
                self._line.target = self.server.port
                self._line.cut()

    async def pause_redis(self) -> None:
        async with self._redis:
            os.kill(self.server.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(self._draw.uniform(*PAUSE))
            finally:
                os.kill(self.server.pid, signal.SIGCONT)

    async def roll_redis_back(self) -> None:
        """Put back what was in Redis a while ago: a failover to a replica that was behind does so."""
        async with self._redis:
            client: Any = redis.Redis(host="127.0.0.1", port=self.server.port)
            try:
                names = await client.keys("*")
                before = [(name, await client.dump(name)) for name in names]
                await asyncio.sleep(self._draw.uniform(0.2, 2.5))
                await client.flushall()
                for name, data in before:
                    if data is not None:
                        await client.restore(name, 10_000, data, replace=True)
            finally:
                await client.aclose()

    async def pause_renewal(self) -> None:
        await self._tell(f"renew-pause {self._draw.uniform(*PAUSE):.3f}")

    async def jump(self) -> None:
        await self._tell(f"clock-jump {self._draw.choice((-JUMP, 0.0, JUMP))}")

    async def stop_node(self) -> None:
        node = self._draw.choice(self._nodes)
        node.send_signal(signal.SIGSTOP)
        self._stopped.add(node.pid)
        try:
            await asyncio.sleep(self._draw.uniform(*PAUSE))
        finally:
            node.send_signal(signal.SIGCONT)
            self._stopped.discard(node.pid)

    async def _tell(self, line: str) -> None:
        node = self._draw.choice(self._nodes)
        assert node.stdin is not None
        node.stdin.write(f"{line}\n".encode())
        if node.pid not in self._stopped:
            await node.stdin.drain()


KINDS: dict[str, Callable[[Faults], Awaitable[None]]] = {
    "redis-kill": Faults.kill_redis,
    "redis-pause": Faults.pause_redis,
    "redis-rollback": Faults.roll_redis_back,
    "renew-pause": Faults.pause_renewal,
    "node-stop": Faults.stop_node,
    "clock-jump": Faults.jump,
}
