"""A data layer with accounts for each test, and a second node on the same database and the same Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from holdfast import Holdfast
from holdfast.apps import accounts
from holdfast.store.redis import Redis
from tests.backends import settings_for

Connect = Callable[..., Redis]


@pytest.fixture(params=("sqlite", "postgres+redis"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    url = request.getfixturevalue(f"{database}_url")
    redis_url = request.getfixturevalue(f"{redis}_url") if redis else None
    settings = settings_for(url, redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        yield hold


@pytest.fixture
async def other(hold: Holdfast) -> AsyncIterator[Holdfast]:
    """Another node."""
    async with await Holdfast.open(settings=hold.settings, metadata=accounts.metadata, migrate=False) as other:
        yield other


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects to a Redis for the length of the test; patient, since a busy machine is no fault of Redis."""
    made: list[Redis] = []

    def connect(url: str, *, timeout: float = 5.0) -> Redis:
        redis = Redis.of(settings_for("sqlite:///unused.db", redis_url=url, redis_timeout=timeout))
        assert redis is not None
        made.append(redis)
        return redis

    yield connect
    for redis in made:
        await redis.close()


@pytest.fixture
async def redis(any_redis_url: str, connect: Connect) -> Redis:
    """A Redis of one server, and one of several."""
    return connect(any_redis_url)
