"""A data layer for each test of the cache, and a second one on the same database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast import Holdfast
from tests.backends import settings_for
from tests.cache.library import Base, Loans


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=Base.metadata) as hold:
        yield hold


@pytest.fixture
async def other(hold: Holdfast) -> AsyncIterator[Holdfast]:
    """Another node."""
    async with await Holdfast.open(settings=hold.settings, metadata=Base.metadata, migrate=False) as other:
        yield other


@pytest.fixture
def loans(hold: Holdfast) -> Loans:
    return Loans(hold)
