"""The connection to Redis: one configuration, bounded waits, and a breaker, so that its failure is nobody else's.

What is in Redis speeds things up and is never the truth: every call may say that there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.errors import ConfigurationError
from holdfast.logs import get_logger
from holdfast.settings import Settings, hide_password

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

log = get_logger("holdfast.redis")

T = TypeVar("T")

_AT_A_TIME = 48  # questions, each of which takes a connection
_FAILURES = 3  # in a row, and it is left alone
_PAUSE = 0.5  # seconds between questions whether it is back


class Away(Exception):
    """Redis did not answer, or is being left alone for a moment."""


class Redis:
    """A Redis, asked with bounded patience.

    Attributes:
        prefix: what every key begins with.
        place: the URL fit for people, without password.
        is_away: whether it is being left alone just now: it did not answer, and is asked now and then whether it does.
    """

    def __init__(self, url: str, *, prefix: str, timeout: float) -> None:
        try:
            from redis import asyncio as redis
            from redis import exceptions
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise ConfigurationError(
                "HOLDFAST_REDIS_URL is set, but the client is not installed: pip install 'holdfast[redis]'"
            ) from None
        self.prefix = prefix
        self.place = hide_password(url)
        self._timeout = timeout
        self._failures = 0
        self._line = asyncio.Semaphore(_AT_A_TIME)
        self.is_away = False
        self._probing: asyncio.Task[None] | None = None
        self._lost = (exceptions.RedisError, OSError, TimeoutError)
        make: Any = redis.Redis.from_url
        self.client: Client = make(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )

    @classmethod
    def of(cls, settings: Settings) -> Redis | None:
        """The Redis that is configured, or None."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url, prefix=settings.redis_prefix, timeout=settings.redis_timeout)

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """The answer to `question(client)`.

        Raises:
            Away: there is none in time.
        """
        if self.is_away:
            raise Away
        try:
            async with self._line:
                if self.is_away:  # since we queued
                    raise Away
                answer = await question(self.client)
        except self._lost as error:
            self._failed(error)
            raise Away from error
        self._failures = 0
        return answer

    async def in_time(self, work: Awaitable[T]) -> T:
        """What `work` gives, which waits for more than answers of Redis. TimeoutError: not in the time of a call."""
        async with asyncio.timeout(self._timeout):
            return await work

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures >= _FAILURES and not self.is_away:
            log.warning("redis_is_away", place=self.place, reason=str(error) or type(error).__name__)
            self.is_away = True
            self._probing = asyncio.create_task(self._probe(), name="redis probe")

    async def _probe(self) -> None:
        """Ask until it answers, so that nobody who wants something of it has to find out."""
        while self.is_away:
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(*self._lost):
                async with asyncio.timeout(self._timeout):
                    await self.client.ping()
                self._failures, self.is_away = 0, False
                log.info("redis_is_back", place=self.place)

    async def close(self) -> None:
        """Drop the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self.client.aclose()
