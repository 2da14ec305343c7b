"""A relay in front of a server, through which its line can be cut, held up or made to swallow everything."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

_PIECE = 65_536  # bytes


class Relay:
    """Passes on what comes between clients and the server at `host:port`. Made by `relay`.

    Attributes:
        port: where clients connect, on 127.0.0.1.
        target: the server's port, for connections that come.
        drops: whether everything is swallowed, as by a firewall that drops packets.
        delay: seconds by which everything is held up.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self.target = port
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.drops = False
        self.delay = 0.0

    def cut(self) -> None:
        """Break every connection that is open."""
        for line in self._lines:
            line.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until either side ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._lines.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            answers, far = await asyncio.open_connection(self._host, self.target)
            self._lines.add(far)
            both = {asyncio.create_task(self._pump(reader, far)), asyncio.create_task(self._pump(answers, writer))}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except OSError:
            pass
        finally:
            for line in (writer, far):
                if line is not None:
                    self._lines.discard(line)
                    line.transport.abort()
                    with contextlib.suppress(OSError):
                        await line.wait_closed()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            if self.delay:
                await asyncio.sleep(self.delay)
            if not self.drops:
                target.write(data)
                await target.drain()

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def relay(host: str, port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """A relay to the server at `host:port`, until the block ends.

    Args:
        tls: what clients speak TLS with; what is passed on is plain.
    """
    made = Relay(host, port)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()
