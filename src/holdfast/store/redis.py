"""Redis, of one server or of several: one configuration, and its failure is nobody else's.

What is in Redis speeds things up and is never the truth: every call may say that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.errors import Unavailable
from holdfast.settings import Settings, hide_password
from holdfast.store.redis_server import Away, Server

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

__all__ = ["Away", "Redis", "Server", "escaped"]

T = TypeVar("T")

_SCANNED = 1_000  # keys that a server looks at for one answer
_GLOB = re.compile(r"[\[\]*?\\]")


class Redis:
    """A Redis of one server.

    Attributes:
        prefix: what every key begins with.
        place: the URL fit for people, without password.
        is_cluster: whether keys are spread over several servers.
    """

    is_cluster = False

    def __init__(self, url: str, *, prefix: str, timeout: float) -> None:
        self.prefix = prefix
        self.place = hide_password(url)
        self._timeout = timeout
        self._server = self._connected(url)

    @classmethod
    def of(cls, settings: Settings) -> Redis | None:
        """The Redis that is configured, or None.

        Raises:
            ConfigurationError: the URL is malformed. MissingExtra: redis-py is not installed.
        """
        from holdfast.store.redis_cluster import Cluster

        url = settings.redis_url
        if url is None:
            return None
        kind = Cluster if "+cluster://" in url else cls
        return kind(url, prefix=settings.redis_prefix, timeout=settings.redis_timeout)

    def _connected(self, url: str) -> Server:
        return Server(url, timeout=self._timeout)

    @property
    def is_away(self) -> bool:
        """Whether all of it is being left alone just now."""
        return self._server.is_away

    def ask(self, question: Callable[[Client], Awaitable[T]], at: str) -> Awaitable[T]:
        """The answer to `question(client)` of the server that has the key `at`.

        Raises:
            Away: there is none in time.
        """
        return self._server.ask(question)

    async def ask_each(
        self, names: Sequence[str], question: Callable[[Any, Sequence[str]], Awaitable[Sequence[Any]]]
    ) -> dict[str, Any]:
        """The answers to `question(client, names)`, by name; those that were not given in time are left out.

        Args:
            question: asks one server for the names that it has, in one go, and returns answers, or errors, in order.
        """
        try:
            answers = await self._server.ask(lambda client: question(client, names))
        except Away:
            return {}
        return told(self._server, dict(zip(names, answers, strict=True)))

    async def known(self) -> list[Server]:
        """All servers of which it is known, at the least those that the URL names."""
        return [self._server]

    async def primaries(self) -> list[Server]:
        """The servers that have keys. Away: it is not known which there are."""
        return [self._server]

    async def listener(self) -> Server:
        """A server by which all that is published can be heard. Away: none."""
        return self._server

    async def remove_matching(
        self, pattern: str, chosen: Callable[[Any, Sequence[bytes]], Awaitable[Sequence[bytes]]] | None = None
    ) -> int:
        """Drop what has a key like `pattern`, a thousand looked at at a time; returns how many were dropped.

        Args:
            chosen: `await chosen(client, names)` says which of these go; all of them without it.

        Raises:
            Unavailable: a server did not answer, or refused; it says how many keys were dropped until then.
        """
        dropped = 0
        try:
            for server in await self.primaries():
                cursor: Any = 0
                while True:
                    cursor, names = await server.ask(lambda client, at=cursor: client.scan(at, pattern, _SCANNED))  # type: ignore[misc]
                    if names and chosen is not None:
                        names = await server.ask(lambda client, these=names: chosen(client, these))  # type: ignore[misc]
                    if names:
                        dropped += await server.ask(lambda client, these=names: self._unlink(client, these))  # type: ignore[misc]
                    if not int(cursor):
                        break
        except Away as away:
            reason = str(away.__cause__ or "it is being left alone, since it did not answer")
        else:
            return dropped
        raise Unavailable(f"{self.place} was not cleaned up ({reason}); {dropped:,} keys were dropped until then")

    async def _unlink(self, client: Any, names: Sequence[bytes]) -> int:
        return int(await client.unlink(*names))

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """The values of keys, in their order; None also for those that were not given in time."""
        try:
            return await self._server.ask(lambda client: self._mget(client, names))
        except Away:
            return [None] * len(names)

    async def _mget(self, client: Any, names: Sequence[str]) -> Sequence[bytes | None]:
        found: Sequence[bytes | None] = await client.mget(names)
        return found

    async def close(self) -> None:
        """Drop the connections."""
        await self._server.close()


def told(server: Server, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers among answers and errors; of errors the log is told."""
    found: dict[str, Any] = {}
    for name, answer in answers.items():
        if isinstance(answer, Exception):
            server.refused(answer)
        else:
            found[name] = answer
    return found


def escaped(text: str) -> str:
    """`text` as a part of a pattern that is like nothing but itself."""
    return _GLOB.sub(lambda found: f"\\{found[0]}", text)
