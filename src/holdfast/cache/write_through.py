"""Write-through: rows that a unit has written are in the cache before anybody asks for them.

They are read again after the commit, and not taken from the unit: another writer's commit may be in the same tick as
its own, and an entry of that tick says that it has seen both. So what is kept is loaded, by the rule of every load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from holdfast.cache.aspect import Tier
from holdfast.errors import HoldfastError
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.store import Store, Unit
from holdfast.store.scope import ALL, ScopedSession
from holdfast.store.written import Written

if TYPE_CHECKING:
    from holdfast.cache.cache import Cache

log = get_logger("holdfast.cache")

_MOST = 5_000  # rows that wait to be read; more than that were written faster than they can be


class WriteThrough:
    """Reads rows again that units of this process have written, in the background; one SELECT for all that wait.

    Args:
        models: of which those are meant whose tier says `write_through=True`.
    """

    def __init__(self, cache: Cache, store: Store, models: Iterable[type[Model]]) -> None:
        self._cache = cache
        self._models = frozenset(
            model for model in models if any(tier.write_through for tier in model.__policy__.all(Tier))
        )
        self._waiting: dict[tuple[type[Model], Any], set[Any]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        if self._models:
            store.hooks.after_begin.append(self._begins)
            store.hooks.after_commit.append(self._committed)

    async def close(self) -> None:
        """Leave what waits alone."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settled(self) -> None:
        """Return when all that is committed by now was read."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _begins(self, unit: Unit) -> None:
        cast(ScopedSession, unit.session.sync_session).written = Written(self._models)

    async def _committed(self, unit: Unit) -> None:
        written = cast(ScopedSession, unit.session.sync_session).written
        if written is None or not written.keys or self._closed:
            return
        for model, keys in written.keys.items():
            for key, whose in keys:
                tenant = ALL if model.__policy__.internal else None if whose is None else str(whose)
                self._waiting.setdefault((model, tenant), set()).add(key)
        if sum(map(len, self._waiting.values())) > _MOST:
            self._waiting.clear()  # they are read when they are asked for
        elif self._task is None or self._task.done():
            # In a context of its own: this task is still in its unit.
            self._task = asyncio.create_task(self._read(), name="cache write-through", context=Context())

    async def _read(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            try:
                await self._cache.renew()  # so that what is loaded is of a tick that has seen the commits
                for (model, tenant), keys in waiting.items():
                    await self._cache[model].get_many(keys, tenant=tenant)
            except (HoldfastError, TimeoutError) as error:  # then they are read when they are asked for
                log.info("cache_not_written_through", reason=str(error))
