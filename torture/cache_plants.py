"""Faults that the torture of the cache must catch, planted into its processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holdfast.cache.asked import Kept
from holdfast.cache.clock import boottime
from holdfast.cache.marks import Marks
from holdfast.shared import is_cancelled
from torture.cache_models import GROUPS, Order

if TYPE_CHECKING:
    from torture.cache_node import Node

PLANTS = {
    "no-marks": "nodes do not note when tags change",
    "late-lease": "nodes read their lease after looking, when it may have been renewed meanwhile",
    "cashews": "cashews with client_side in place of our cache, told of each commit by its writer",
}

Told = Callable[[int], Awaitable[None]]


def plant_in_node(plant: str | None, node: Node) -> None:
    """Change how a node caches."""
    if plant == "no-marks":
        Marks.mark = lambda marks, tag, tick: None  # type: ignore[assignment, method-assign]
    elif plant == "late-lease":
        _read_lease_late(node)
    elif plant == "cashews":
        _use_cashews(node)


def _read_lease_late(node: Node) -> None:
    cache: Any = node.hold.cache
    find = cache.answers.kept

    async def found(asked: Any) -> Any:
        cache._renewal.start(at_least=asked.options.max_staleness)
        entry = cache._memory.get(asked.key)
        looks_fresh = entry is not None and boottime() < entry.expires and cache._freshness.is_fresh(entry)
        if not cache._freshness.is_known(boottime(), asked.options.max_staleness):
            await cache._renewal.now()
        if looks_fresh and cache._freshness.is_known(boottime(), asked.options.max_staleness):
            return Kept(entry)
        return await find(asked)

    async def arrive() -> None:
        # Whoever reads here waits for the lease: only those who come meanwhile, one after the other, meet old values.
        reads: set[asyncio.Task[None]] = set()
        while True:
            read = asyncio.create_task(node.read_one())
            reads.add(read)
            read.add_done_callback(reads.discard)
            await asyncio.sleep(0.01)

    node.arriving = asyncio.get_running_loop().create_task(arrive())
    cache.answers.kept = found
    cache.peek = cache.answers._peek = lambda key, default=None, bound=0.0: default


def _use_cashews(node: Node) -> None:
    from cashews import Cache

    theirs = Cache()
    theirs.setup(node.order.redis, client_side=True)

    class Found:
        stale = False

        def __init__(self, value: Any) -> None:
            self.value = value

    async def lookup(key: str, loader: Any, **options: Any) -> Found:
        value = await theirs.get(key)
        if value is None:
            load: Any = type("Load", (), {"key": key})()
            value = await loader(load)
            await theirs.set(key, value, expire=5)
        return Found(value)

    node.decorates = False
    node.hold.cache.lookup = lookup  # type: ignore[assignment, method-assign]


@asynccontextmanager
async def told_by_writers(order: Order) -> AsyncIterator[Told]:
    """What a writer does after each commit: nothing, for the journal tells; for cashews it deletes the keys."""
    if order.plant != "cashews":
        yield _nothing
        return
    from cashews import Cache

    theirs = Cache()
    theirs.setup(order.redis, client_side=True)

    async def told(document: int) -> None:
        try:
            await theirs.delete(f"document:{document}")
            await theirs.delete(f"group:{document % GROUPS}")
        except Exception as error:  # noqa: BLE001  Redis is away: then nobody is told
            print(repr(error), file=sys.stderr)

    yield told
    try:
        await theirs.close()
    except (Exception, asyncio.CancelledError) as error:  # it cancels a task of its own and awaits it
        if is_cancelled():
            raise
        print(repr(error), file=sys.stderr)


async def _nothing(document: int) -> None:
    return
