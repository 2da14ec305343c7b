"""A store and an empty folder of migrations."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.store import Store
from tests.backends import EVERY_BACKEND
from tests.store.opening import opened


@pytest.fixture(params=EVERY_BACKEND)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty database on each backend in turn."""
    async with opened(request.getfixturevalue(f"{request.param}_url")) as store:
        yield store


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Store]:
    async with opened(postgres_url) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "migrations"
