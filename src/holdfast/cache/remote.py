"""What nodes share: entries in Redis."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.cache import carried
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.marks import Marks
from holdfast.cache.wire import Codec
from holdfast.store.redis import Away, Redis

_SCANNED = 1_000  # keys that Redis looks at for one answer
_GLOB = re.compile(r"[\[\]*?\\]")


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
            data = await self._redis.ask(lambda client: client.get(name))
        except Away:
            return None
        return None if data is None else carried.read(data, codec, self._marks, boottime(), time.time())

    async def get_many(self, keys: Sequence[str], codec: Codec) -> list[Entry | None]:
        """The entries of `keys`, in their order."""
        start = self.key("", codec)
        names = [start + key for key in keys]
        try:
            found = await self._redis.ask(lambda client: client.mget(names))
        except Away:
            return [None] * len(keys)
        now, clock = boottime(), time.time()
        return [None if data is None else carried.read(data, codec, self._marks, now, clock) for data in found]

    async def put(self, entries: Mapping[str, Entry], codec: Codec) -> None:
        """Keep entries by key.

        Raises:
            InvalidValue: a value cannot be written.
        """
        now = boottime()
        written = [
            (self.key(key, codec), carried.written(entry, codec, now), _lives(entry, now))
            for key, entry in entries.items()
        ]

        async def store(client: Any) -> None:
            if len(written) == 1:
                [(name, data, lives)] = written
                await client.set(name, data, px=lives)
                return
            pipeline = client.pipeline(transaction=False)
            for name, data, lives in written:
                pipeline.set(name, data, px=lives)
            await pipeline.execute()

        try:
            await self._redis.ask(store)
        except Away:
            return

    async def remove_matching(self, pattern: str) -> int:
        """Drop the entries whose keys are like `pattern`; returns how many. Stops where Redis does not answer."""
        like = f"{_GLOB.sub(_escape, self._prefix)}{'?' * len(Codec().version)}:{pattern}"
        removed, cursor = 0, 0
        with contextlib.suppress(Away):
            while True:
                cursor, names = await self._redis.ask(
                    lambda client, at=cursor: client.scan(at, match=like, count=_SCANNED)
                )
                if names:
                    removed += await self._redis.ask(lambda client, these=names: client.unlink(*these))
                if not cursor:
                    break
        return removed


def _escape(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _lives(entry: Entry, now: float) -> int:
    """Milliseconds."""
    return max(1, round((entry.kept - now) * 1_000))
