"""A store with the shop's tables, on each backend."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from holdfast.store import Store
from tests.backends import EVERY_BACKEND
from tests.store.opening import opened
from tests.store.shop import Base


@pytest.fixture(params=EVERY_BACKEND)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn, the ones of this room's own included."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """The statements that the store sends meanwhile, BEGIN left out."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    engines = {id(engine): engine.sync_engine for engine in store.engines().values()}.values()
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
