"""A data layer for each test of the cache, and a second one on the same database and the same Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast import Holdfast
from tests.backends import settings_for
from tests.cache.loans import Base, Loans

ALSO_ON_A_CLUSTER = ("sqlite", "postgres", "postgres+redis", "postgres+redis_cluster")


@pytest.fixture(params=ALSO_ON_A_CLUSTER[:-1])
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    url = request.getfixturevalue(f"{database}_url")
    redis_url = request.getfixturevalue(f"{redis}_url") if redis else None
    settings = settings_for(url, redis_url=redis_url, redis_timeout=5.0)  # a busy machine is no fault of Redis
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        yield hold


@pytest.fixture
async def other(hold: Holdfast) -> AsyncIterator[Holdfast]:
    """Another node."""
    async with await Holdfast.open(settings=hold.settings, metadata=Base.metadata, migrate=False) as other:
        yield other


@pytest.fixture
def loans(hold: Holdfast) -> Loans:
    return Loans(hold)
