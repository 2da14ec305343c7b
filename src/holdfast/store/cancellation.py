"""Work whose outcome must be known before a cancellation takes effect."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

PATIENCE = 10.0  # seconds that a cancellation waits


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; a cancellation meanwhile is raised when it is done, or after `PATIENCE` seconds.

    A COMMIT that is cut off may have happened or not; so it is waited for, and then the cancellation goes on.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await _settled(task)
        if not task.cancelled():
            task.exception()  # noted: the cancellation is what the caller is told
        raise


async def _settled(task: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not task.done():
        if loop.time() >= deadline:
            task.cancel()
        try:
            await asyncio.wait({task}, timeout=max(0.1, deadline - loop.time()))
        except asyncio.CancelledError:
            continue  # a second one: the first is under way already
