"""Stores for tests: opened on a URL with the tables of some metadata, and closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData

from holdfast.store import Store
from tests.backends import settings_for


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
