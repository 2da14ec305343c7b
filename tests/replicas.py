"""What befalls a PostgreSQL replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from devservers import PostgresServer


@asynccontextmanager
async def lagging(server: PostgresServer) -> AsyncIterator[None]:
    """A replica that gets the log and does nothing with it."""
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("SELECT pg_wal_replay_pause()")
        while await connection.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield
    finally:
        await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close()
