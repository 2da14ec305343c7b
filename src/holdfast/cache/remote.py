"""What nodes share: entries in Redis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.cache import carried
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.marks import Marks
from holdfast.cache.wire import LONGEST_BEGINNING, Codec, Head, head_of
from holdfast.store.redis import Away, Redis, escaped

_MOSTLY_ENOUGH = 1_024  # bytes of an entry that are read to find its head


class Remote:
    """Entries in Redis, by key and by the version of their codec."""

    def __init__(self, redis: Redis, marks: Marks) -> None:
        self._redis: Any = redis  # whose answers the client types as text too
        self._marks = marks
        self._prefix = f"{redis.prefix}:cache:"

    def key(self, key: str, codec: Codec) -> str:
        """Where in Redis the entry of `key` lies."""
        return f"{self._prefix}{codec.version}:{key}"

    async def get(self, key: str, codec: Codec) -> Entry | None:
        """The entry of `key`; None where there is none, or Redis does not answer."""
        name = self.key(key, codec)
        try:
            data = await self._redis.ask(lambda client: client.get(name), name)
        except Away:
            return None
        return None if data is None else carried.read(data, codec, self._marks, boottime(), time.time())

    async def get_many(self, keys: Sequence[str], codec: Codec) -> list[Entry | None]:
        """The entries of `keys`, in their order."""
        start = self.key("", codec)
        names = [start + key for key in keys]
        found = await self._redis.get_many(names)
        now, clock = boottime(), time.time()
        return [None if data is None else carried.read(data, codec, self._marks, now, clock) for data in found]

    async def put(self, entries: Mapping[str, Entry], codec: Codec) -> None:
        """Keep entries by key.

        Raises:
            InvalidValue: a value cannot be written.
        """
        now = boottime()
        written = {
            self.key(key, codec): (carried.written(entry, codec, now), _lives(entry, now))
            for key, entry in entries.items()
        }
        if len(written) == 1:
            [(name, (data, lives))] = written.items()
            with contextlib.suppress(Away):
                await self._redis.ask(lambda client: client.set(name, data, px=lives), name)
            return

        async def store(client: Any, names: Sequence[str]) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                data, lives = written[name]
                pipeline.set(name, data, px=lives)
            return list(await pipeline.execute(raise_on_error=False))

        await self._redis.ask_each(list(written), store)

    async def remove_matching(self, pattern: str) -> int:
        """Drop the entries whose keys are like `pattern`; returns how many. Unavailable: Redis did not answer."""
        anything = "?" * len(Codec().version)
        return int(await self._redis.remove_matching(f"{escaped(self._prefix)}{anything}:{pattern}"))

    async def sweep(self, freshness: Freshness) -> int:
        """Drop the entries that may never be served again; returns how many. Unavailable: Redis did not answer."""

        async def beginnings(client: Any, names: Sequence[bytes], size: int) -> dict[bytes, bytes]:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.getrange(name, 0, size - 1)
            # What is no text (another's, under our prefix) is answered by an error, and stays.
            answers = zip(names, await pipeline.execute(raise_on_error=False), strict=True)
            return {name: data for name, data in answers if isinstance(data, bytes)}

        async def outdated(client: Any, names: Sequence[bytes]) -> list[bytes]:
            found = await beginnings(client, names, _MOSTLY_ENOUGH)
            if longer := [
                name for name, data in found.items() if head_of(data) is None and len(data) == _MOSTLY_ENOUGH
            ]:
                found |= await beginnings(client, longer, LONGEST_BEGINNING)
            heads = {name: head_of(data) for name, data in found.items()}
            return [name for name, head in heads.items() if head and _is_outdated(head, freshness)]

        return int(await self._redis.remove_matching(f"{escaped(self._prefix)}*", outdated))


def _is_outdated(head: Head, freshness: Freshness) -> bool:
    return freshness.is_outdated(head.epoch, head.as_of, head.hashes)


def _lives(entry: Entry, now: float) -> int:
    """Milliseconds."""
    return max(1, round((entry.kept - now) * 1_000))
