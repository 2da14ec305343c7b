"""Stores for tests: opened on a URL with the tables of some metadata, and closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData

from holdfast.settings import Settings
from holdfast.store import Store


def settings_for(url: str, **overrides: Any) -> Settings:
    """Settings that come from nowhere else, so that the environment of whoever runs the tests has no part."""
    return Settings.from_environment({}, database_url=url, **overrides)


@asynccontextmanager
async def opened(url: str, metadata: MetaData | None = None, **overrides: Any) -> AsyncIterator[Store]:
    """A store on `url`, with the tables of `metadata` made."""
    store = Store(settings_for(url, **overrides))
    try:
        if metadata is not None:
            async with store.engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
        yield store
    finally:
        await store.close(timeout=1)
