"""A store and an empty folder of migrations."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.store import Store
from tests.store.opening import opened


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
