"""What goes on while migrations run: 200 writes a second, and a reader that stays."""

from __future__ import annotations

import asyncio
import random
import time
import uuid

import asyncpg

WRITES = 200  # a second, of all writers together
WRITERS = 8
READS = 0.9  # seconds for which the reader stays, and holds off whoever wants the table for itself
BETWEEN = 0.1  # for few migrations is that long enough: the others meet the next reader

# Each write's time is taken inside the server, around it and its wait for locks: what the client waits besides is
# the machine's doing. A function, for the time of a statement begins only after the locks of its plan are had.
FUNCTION = """
    CREATE OR REPLACE FUNCTION torture_{name}(given uuid) RETURNS float8 LANGUAGE plpgsql AS $$
    DECLARE
        began timestamptz := clock_timestamp();
    BEGIN
        {statement};
        RETURN extract(epoch FROM clock_timestamp() - began);
    END
    $$
"""
STATEMENTS = {
    "insert": "INSERT INTO accounts (id, name, n) VALUES (given, 'x', 0)",
    "update": "UPDATE accounts SET n = n + 1 WHERE id = given",
    "delete": "DELETE FROM accounts WHERE id = given",
}


class Load:
    """Writers and a reader of one PostgreSQL database.

    Attributes:
        slowest: seconds of the slowest write, as the server measured it.
        blocked: the writes that took longer than they may: (seconds, what).
        written: how many rows were inserted, updated and deleted.
    """

    def __init__(self, url: str, draw: random.Random, limit: float) -> None:
        self._url, self._draw, self._limit = url, draw, limit
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.slowest = 0.0
        self.blocked: list[tuple[float, str]] = []
        self.written = {"insert": 0, "update": 0, "delete": 0}

    async def __aenter__(self) -> Load:
        """Begin to write and read."""
        self._stop.clear()
        connection = await asyncpg.connect(self._url)
        for name, statement in STATEMENTS.items():
            await connection.execute(FUNCTION.format(name=name, statement=statement))
        await connection.close()
        self._tasks = [asyncio.create_task(self._write()) for _ in range(WRITERS)]
        self._tasks.append(asyncio.create_task(self._read()))
        await asyncio.sleep(0.2)
        return self

    async def __aexit__(self, *error: object) -> None:
        """End all of it; an error of any is raised."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _write(self) -> None:
        draw = random.Random(self._draw.random())
        connection = await asyncpg.connect(self._url)
        mine: list[uuid.UUID] = []
        try:
            while not self._stop.is_set():
                due = time.monotonic() + WRITERS / WRITES
                what, key = draw.choice(("insert", "update", "update", "delete")), uuid.UUID(int=draw.getrandbits(128))
                if what != "insert" and mine:
                    key = mine.pop() if what == "delete" else draw.choice(mine)
                else:
                    what = "insert"
                    mine.append(key)
                took = await connection.fetchval(f"SELECT torture_{what}($1)", key)
                self.written[what] += 1
                self.slowest = max(self.slowest, took)
                if took > self._limit:
                    self.blocked.append((took, what))
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await connection.close()

    async def _read(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            while not self._stop.is_set():
                async with connection.transaction():
                    await connection.execute("SELECT count(*) FROM accounts")
                    await asyncio.sleep(READS)
                await asyncio.sleep(BETWEEN)
        finally:
            await connection.close()
