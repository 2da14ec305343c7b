"""A data layer on each backend, with what schedules write to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import Holdfast, Model
from tests.backends import EVERY_BACKEND, settings_for


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Done(Base):
    """What some work has done."""

    __tablename__ = "done"
    what: Mapped[str]


@pytest.fixture(params=EVERY_BACKEND)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def opening(url: str, **options: Any) -> Any:
    """A data layer on `url`, not yet opened."""
    return Holdfast.open(settings=settings_for(url), metadata=Base.metadata, **options)


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await opening(database_url) as hold:
        yield hold


async def make_due(hold: Holdfast, name: str, ago: float = 0) -> None:
    """Have a schedule's turn have come `ago` seconds ago, and forget that it has to wait."""
    async with hold.unit() as unit:
        now = await hold.schedules.now()
        await unit.execute(
            "UPDATE holdfast_schedules SET next_at = :at, not_before = 0 WHERE name = :name",
            {"name": name, "at": now - round(ago * 1000)},
        )
