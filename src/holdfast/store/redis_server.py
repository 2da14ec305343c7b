"""One server of Redis: bounded patience, a bounded line, and a breaker, so that its failure is nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.logs import get_logger
from holdfast.settings import hide_password

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

log = get_logger("holdfast.redis")

T = TypeVar("T")

_AT_A_TIME = 48  # questions, each of which takes a connection
_LINE = 1_000  # questions that wait for one of these
_FAILURES = 3  # in a row, and it is left alone
_REST = 0.1  # seconds after an answer that did not come, unless others do: who waited for it need not wait again
_PAUSE = 0.5  # seconds between questions whether it is back
_SAID_AGAIN = 60.0  # seconds after which a refusal is logged again


class Away(Exception):
    """Redis did not answer, or is being left alone for a moment."""


class Server:
    """A server of Redis, asked with bounded patience.

    Args:
        url: as redis-py has it, of one server.
        timeout: seconds that a question may take, and may wait for its turn.
        probe: asks `client` something that it answers where all is well, and raises where it does not.

    Attributes:
        place: the URL fit for people, without password.
        client: redis-py's, with a pool of connections.
        is_away: whether it is being left alone just now: it did not answer, and is asked now and then whether it does.
        waiting: how many questions wait for their turn.

    Raises:
        ConfigurationError: the URL is malformed, or has an option that redis-py does not know.
    """

    def __init__(self, url: str, *, timeout: float, probe: Callable[[Any], Awaitable[object]] | None = None) -> None:
        self.place = hide_password(url)
        self.client: Client = _client(url, self.place, timeout)
        from redis.exceptions import ClusterDownError, RedisError, ResponseError
        from redis.exceptions import TimeoutError as TooLate

        self.is_away = False
        self.waiting = 0
        self._timeout = timeout
        self._probe = probe or _ping
        self._line = asyncio.Semaphore(_AT_A_TIME)
        self._failures = 0
        self._resting_until = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._lost = (RedisError, OSError, TimeoutError)
        self._too_late = (TooLate, TimeoutError)
        self._refusal, self._down = ResponseError, ClusterDownError
        self._said: dict[str, float] = {}

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """The answer to `question(client)`.

        Raises:
            Away: there is none in time, it was refused, or too many wait already.
        """
        if self.is_away or (self._failures and time.monotonic() < self._resting_until):
            raise Away
        line = self._line
        if line.locked():
            await self._stand_in_line()
        else:
            await line.acquire()  # which does not wait
        try:
            answer = await question(self.client)
        except self._lost as error:
            if isinstance(error, self._refusal) and not isinstance(error, self._down):
                self.refused(error)
            else:
                self._failed(error)
            raise Away from error
        finally:
            line.release()
        self._failures = 0
        return answer

    async def in_time(self, work: Awaitable[T]) -> T:
        """What `work` gives, which waits for more than answers of Redis. TimeoutError: not in the time of a call."""
        async with asyncio.timeout(self._timeout):
            return await work

    async def close(self) -> None:
        """Let questions that are under way end, and drop the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        self.is_away = True
        # One that is still connecting would leave a connection behind that nobody closes.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._timeout):
                for _ in range(_AT_A_TIME):
                    await self._line.acquire()
        with contextlib.suppress(*self._lost):  # of a line that is dead already
            await self.client.aclose()

    async def _stand_in_line(self) -> None:
        # A server that answers slowly would let the line grow, and those in it wait longer than for any answer.
        if self.waiting >= _LINE:
            raise Away
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._line.acquire()
        except TimeoutError:
            raise Away from None
        finally:
            self.waiting -= 1
        if self.is_away:  # since we queued
            self._line.release()
            raise Away

    def refused(self, error: BaseException) -> None:
        """It is there and answers, but not this: it is full, a replica, or the user may not."""
        self._failures = 0
        kind, now = type(error).__name__, time.monotonic()
        if now >= self._said.get(kind, 0.0):
            self._said[kind] = now + _SAID_AGAIN
            log.warning("redis_refuses", place=self.place, reason=str(error))

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        if isinstance(error, self._too_late):
            self._resting_until = time.monotonic() + _REST
        if self._failures >= _FAILURES and not self.is_away:  # as a server that was closed is, too
            log.warning("redis_is_away", place=self.place, reason=str(error) or type(error).__name__)
            self.is_away = True
            self._probing = asyncio.create_task(self._probe_until_back(), name="redis probe")

    async def _probe_until_back(self) -> None:
        """Ask until it answers, so that nobody who wants something of it has to find out."""
        while self.is_away:
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(*self._lost):
                async with asyncio.timeout(self._timeout):
                    await self._probe(self.client)
                self._failures, self.is_away = 0, False
                log.info("redis_is_back", place=self.place)


async def _ping(client: Any) -> None:
    await client.ping()


def _client(url: str, place: str, timeout: float) -> Client:
    try:
        from redis import __version__ as version
        from redis import asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError:
        raise MissingExtra(
            "HOLDFAST_REDIS_URL is set, but the client is not installed: pip install 'holdfast[redis]'"
        ) from None
    given: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # redis-py 8 would speak RESP3, and let a server that is being maintained stretch our patience to ten seconds.
        "protocol": 2,
    }
    try:
        pool: Any
        if int(version.partition(".")[0]) < 7:
            # The plain pool of redis-py 6 lets one connect at a time: where each waits in vain, the last waits for all.
            pool = redis.BlockingConnectionPool.from_url(url, max_connections=4 * _AT_A_TIME, timeout=timeout, **given)
        else:
            pool = redis.ConnectionPool.from_url(url, **given)
        client: Client = redis.Redis.from_pool(pool)
        pool.make_connection()  # which finds out whether its options are known; it does not connect
    except (ValueError, TypeError, RedisError):  # whose text may hold a piece of the password
        pass
    else:
        return client
    raise ConfigurationError(
        f"HOLDFAST_REDIS_URL={place!r} is malformed, or has an option that redis-py does not know or take so;"
        " signs such as @ / # ? in a password are written as %40 %2F %23 %3F, and ssl_… goes with rediss://"
    )
