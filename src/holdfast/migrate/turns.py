"""One runner at a time, whatever machine it is on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from holdfast.errors import Unavailable
from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.migrate")

_TRY = "SELECT pg_try_advisory_xact_lock(1751739492, hashtext(current_schema() || '/holdfast_migrations'))"


@asynccontextmanager
async def turn(store: Store, *, wait: float) -> AsyncIterator[None]:
    """Be the only one who migrates this database, until the block ends or the process does.

    SQLite needs nothing: each migration is one transaction of its only writer, which begins by reading the history.

    Raises:
        Unavailable: another runner is at work for longer than `wait` seconds.
    """
    if store.dialect == "sqlite":
        yield
        return
    # A transaction, so that a pooler keeps the connection; READ COMMITTED, so that it holds no snapshot for which
    # an index that is built concurrently would have to wait.
    async with store.raw() as connection, connection.transaction(isolation="read_committed"):
        began = time.monotonic()
        told = False
        while not await connection.fetchval(_TRY):
            if time.monotonic() - began >= wait:
                raise Unavailable(
                    f"another process migrates {store.place} for more than {wait:g} s; wait for it, or look at"
                    " pg_stat_activity for what it waits for"
                )
            if not told:
                log.info("another_runner", place=store.place)
                told = True
            await _forget_snapshot(connection)
            await asyncio.sleep(0.2)
        await _forget_snapshot(connection)
        yield


async def _forget_snapshot(connection: Any) -> None:
    """The portal of the last answer keeps its snapshot until a statement without one takes its place.

    For as long, whoever builds an index concurrently waits: the one whose turn it is would wait for those that wait.
    """
    await connection.execute("SELECT 1")
