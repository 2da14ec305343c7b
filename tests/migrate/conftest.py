"""A store and an empty folder of migrations."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.store import Store
from tests.backends import EVERY_BACKEND
from tests.store.opening import opened


@pytest.fixture(params=EVERY_BACKEND)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as store:
        yield store


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Store]:
    async with opened(postgres_url) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "migrations"
