"""The pytest plugin: fixtures that give each test a database of its own.

It stands outside `holdfast`, so that pytest, which loads every installed plugin, does not import the library for
people who do not ask for one of these fixtures.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from holdfast import Holdfast, Store
    from holdfast.testing import Template

if importlib.util.find_spec("pytest_asyncio") is not None:
    from pytest_asyncio import fixture as asynchronous
else:  # then another plugin, such as anyio's, runs asynchronous fixtures
    asynchronous = pytest.fixture  # type: ignore[assignment]


@pytest.fixture(scope="session")
def holdfast_models() -> Any:
    """The metadata of the models, one or several; those of HOLDFAST_MODELS unless you override this fixture."""
    from holdfast.testing import configured_models

    return configured_models()


@pytest.fixture(scope="session")
def holdfast_template(holdfast_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """A database with the tables of `holdfast_models`, made once a session and worker.

    On the server of HOLDFAST_TEST_DATABASE_URL, else a SQLite file.
    """
    from sqlalchemy import MetaData

    from holdfast.testing import template

    metadatas = (holdfast_models,) if isinstance(holdfast_models, MetaData) else tuple(holdfast_models)
    server = os.environ.get("HOLDFAST_TEST_DATABASE_URL") or None
    with template(metadatas, tmp_path_factory.mktemp("holdfast"), server) as made:
        yield made


@pytest.fixture
def holdfast_database_url(holdfast_template: Template, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own, dropped after it."""
    with holdfast_template.copied(tmp_path) as url:
        yield url


@asynchronous
async def hold(holdfast_template: Template, holdfast_database_url: str) -> AsyncIterator[Holdfast]:
    """A `Holdfast` on a database of the test's own."""
    from holdfast.testing import opened

    async with opened(holdfast_database_url, holdfast_template.metadatas) as hold:
        yield hold


@asynchronous
async def holdfast_store(hold: Holdfast) -> Store:
    """The store of `hold`."""
    return hold.store
