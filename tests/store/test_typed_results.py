"""What a repository gives has the model's type: checked by mypy as a part of `make check`, and run here."""

from collections.abc import AsyncIterator
from typing import Any, assert_type
from uuid import UUID

from sqlalchemy import MetaData, Select
from sqlalchemy.orm import Mapped

from holdfast import NAMING, Model, Page, Query, Repository
from holdfast.store import Store
from tests.store.opening import opened


class Typed(Model):
    """A row with a text."""

    __tablename__ = "typed"
    metadata = MetaData(naming_convention=NAMING)

    text: Mapped[str]


async def test_results_are_of_the_model(database_url: str) -> None:
    async with opened(database_url, Typed.metadata) as store:
        await use(store)


async def use(store: Store) -> None:
    query = Query(Typed).where(text="a").order_by("-text").limit(None)
    assert_type(query, Query[Typed])
    assert_type(query.build(), Select[tuple[Typed]])
    async with store.unit() as unit:
        rows = unit[Typed]
        assert_type(rows, Repository[Typed])
        row = assert_type(await rows.add(Typed(text="a")), Typed)
        assert_type(row.id, UUID)
        assert_type(await rows.get(row.id), Typed)
        assert_type(await rows.find(row.id), Typed | None)
        assert_type(await rows.get_many([row.id]), dict[Any, Typed])
        assert_type(await rows.first(query), Typed | None)
        assert_type(await rows.list(), list[Typed])
        assert_type(await rows.page(query), Page[Typed])
        assert_type((await rows.page(query)).items, list[Typed])
        assert_type(rows.stream(query), AsyncIterator[Typed])
        assert_type(await rows.update(row.id, text="b"), Typed)
        assert_type(await rows.count(query), int)
        assert_type(await rows.exists(query), bool)
