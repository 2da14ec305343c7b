"""Whose turn it is to load a key, over all processes: a lease in Redis, and a word to those who wait when it is done.

Only a courtesy to the database: that two load is no error, since what is served is decided by freshness. So where Redis
is away everybody loads, and a lease that ends while its holder still loads lets the next one begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

from holdfast.cache.clock import boottime
from holdfast.logs import get_logger
from holdfast.store.redis import Away, Redis, Server
from holdfast.store.redis_listener import Listener

log = get_logger("holdfast.cache")

_LEAST = 0.001  # seconds
_LOOKS_AGAIN = 1.0  # seconds: the word that a lease was given back may be lost with a server
_ENDLESS = -1  # what Redis says of a key that does not expire

# Only the holder gives a lease back, and tells those who wait.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('PUBLISH', KEYS[1], '')
    return 1
end
return 0
"""


class _Ear:
    """Who waits for one lease: whether Redis knows that we listen, and whether it was given back."""

    __slots__ = ("given_back", "is_open")

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.given_back = asyncio.Event()


class Turns:
    """The leases of one process, and its ears for those of others; one at a time waits for a name."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._ears: dict[str, _Ear] = {}
        self._line: Listener | None = None
        self._heard: Server | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def take(self, name: str, lease: float) -> str | None:
        """The token of a lease on `name` for so many seconds; None when somebody else has one.

        Raises:
            Away: Redis does not answer.
        """
        token = secrets.token_hex(8)
        lives = max(1, round(lease * 1_000))
        taken = await self._redis.ask(lambda client: client.set(name, token, nx=True, px=lives), name)
        return token if taken else None

    async def take_many(self, names: Sequence[str], lease: float) -> dict[str, str | None]:
        """What `take` gives, for several leases in one question; those that Redis does not answer are left out."""
        token = secrets.token_hex(8)
        lives = max(1, round(lease * 1_000))

        async def take(client: Any, these: Sequence[str]) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for name in these:
                pipeline.set(name, token, nx=True, px=lives)
            return list(await pipeline.execute(raise_on_error=False))

        taken = await self._redis.ask_each(names, take)
        return {name: token if had else None for name, had in taken.items()}

    async def give_back(self, name: str, token: str, lease: float) -> None:
        """End the lease of so many seconds, if it still is ours, and wake those who wait for it.

        Where Redis does not answer, it is tried until the lease would have ended by itself: another server may take
        over that knows of it.
        """
        ends, pause = boottime() + lease, 0.05
        while True:
            try:
                await self._redis.ask(lambda client: client.eval(_RELEASE, 1, name, token), name)
            except Away:
                if boottime() + pause > ends:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.5)
            else:
                return

    async def wait(self, name: str, lease: float) -> None:
        """Return when whoever has `name` gives it back, when its lease ends, or after a second to look again.

        Raises:
            Away: Redis does not answer, or the lease has no end, and is none of ours.
        """
        ear = self._ears[name] = _Ear()
        try:
            await self._be_told(name, ear)
            left = await self._redis.ask(lambda client: client.pttl(name), name)
            if left == _ENDLESS:
                raise Away
            if left < 0:  # it was given back before we listened
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(lease, left / 1_000, _LOOKS_AGAIN) + _LEAST):
                    await ear.given_back.wait()
        finally:
            del self._ears[name]
            server, line = self._heard, self._line
            if server is not None and line is not None:
                with contextlib.suppress(Away):
                    await server.ask(lambda client: line.unsubscribe(name))

    async def close(self) -> None:
        """Stop listening."""
        await self._stop_hearing()

    async def _be_told(self, name: str, ear: _Ear) -> None:
        """Return when Redis will tell `ear`, or when nobody can. Away: it does not answer."""
        server = self._heard
        if server is None or server.is_away or self._line is None:
            server = await self._redis.listener()
        try:
            await server.ask(lambda client: server.in_time(self._listen(server, client, name, ear)))
        except Away as away:
            if isinstance(away.__cause__, TimeoutError):
                await self._stop_hearing()  # of a line that may have died without a word
            raise

    async def _listen(self, server: Server, client: Any, name: str, ear: _Ear) -> None:
        async with self._opening:
            line = self._line
            if line is None or self._heard is None or self._heard.is_away:
                await self._stop_hearing()
                line = Listener(client)
                try:
                    await line.open()
                except BaseException:
                    await line.close()
                    raise
                self._line, self._heard = line, server
                self._hearing = asyncio.create_task(self._hear(line), name="cache turns")
        await line.subscribe(name)
        await ear.is_open.wait()

    async def _stop_hearing(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        if (line := self._line) is not None:  # the hearing had not begun
            self._line = None
            await line.close()

    async def _hear(self, line: Listener) -> None:
        try:
            async for kind, channel in line.heard():
                ear = self._ears.get(channel)
                if ear is not None and kind == "subscribe":
                    ear.is_open.set()
                elif ear is not None and kind == "message":
                    ear.given_back.set()
        except Exception as error:  # noqa: BLE001  whoever waits looks again by himself when the lease ends
            log.info("cache_turns_unheard", reason=str(error))
        finally:
            if self._line is line:
                self._line = None
            for ear in self._ears.values():
                ear.is_open.set()
                ear.given_back.set()
            await line.close()
