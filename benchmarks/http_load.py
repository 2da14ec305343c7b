"""Load for the benchmark of HTTP: what to ask comes as JSON on the input, what was found goes to the output.

Connections ask again as soon as they are answered. It is written on asyncio's protocols: a client library would need
more of the machine than the servers that it is to measure.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

import msgspec

from benchmarks.harness import quantile


class Asked(msgspec.Struct):
    """Whom to ask for what, and for how long."""

    port: int
    key: str
    paths: list[str]
    connections: int
    seconds: float


class Connection(asyncio.Protocol):
    """One connection, which asks for one after the other until it is told to stop."""

    def __init__(self, requests: Iterator[bytes], taken: list[float]) -> None:
        self._requests, self._taken = requests, taken
        self._answer = b""
        self._transport: asyncio.Transport | None = None
        self._began = 0.0
        self.wrong = 0
        self.stops = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """When the answer is whole, note it and ask for the next."""
        self._answer += data
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return
        place = self._answer.find(b"content-length: ") + 16
        length = int(self._answer[place : self._answer.index(b"\r", place)])
        if len(self._answer) < head + 4 + length:
            return
        self._taken.append(time.perf_counter() - self._began)
        self.wrong += not self._answer.startswith(b"HTTP/1.1 200")
        self._answer = b""
        if not self.stops:
            self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._began = time.perf_counter()
        self._transport.write(next(self._requests))

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()


async def load(asked: Asked) -> dict[str, float]:
    """Ask for as long as is asked for."""
    made = [
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{asked.port}\r\nX-API-Key: {asked.key}\r\n\r\n".encode()
        for path in asked.paths
    ]
    requests, taken = itertools.cycle(made), list[float]()
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(requests, taken), "127.0.0.1", asked.port))[1]
        for _ in range(asked.connections)
    ]
    await asyncio.sleep(min(0.5, asked.seconds / 4))  # until all are warm
    warm = len(taken)
    taken.clear()
    began = time.perf_counter()
    await asyncio.sleep(asked.seconds)
    number, passed = len(taken), time.perf_counter() - began
    for connection in connections:
        connection.stops = True
        connection.close()
    wrong = sum(connection.wrong for connection in connections)
    return {"rate": number / passed, "number": warm + len(taken), "p95": quantile(taken, 0.95) * 1e3, "wrong": wrong}


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(load(given))))
