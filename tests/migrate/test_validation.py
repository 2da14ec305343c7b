"""`validate`: nothing is said of what is whole, and everything of what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import MetaData

from holdfast.migrate.validation import Validation, validate
from holdfast.store import Store
from tests.migrate.articles import METADATA, Article, Tag
from tests.migrate.versions import second
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, METADATA) as store:
        async with store.unit() as unit:
            article = await unit[Article].add(Article(name="a", tags=["x"]))
            await unit[Tag].add(Tag(article_id=article.id, tag="x"))
        yield store


async def run(store: Store, *statements: str) -> None:
    async with store.connect(write=True) as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


def told(found: Validation) -> list[tuple[str, str]]:
    return [(finding.kind, finding.message) for finding in found.findings]


async def test_of_what_is_whole_nothing_is_said_but_how_many_rows_there_are(store: Store) -> None:
    tables: list[str] = []
    found = await validate(store, [METADATA], told=tables.append)
    assert found == Validation(rows={"articles": 1, "seats": 0, "tags": 1}, findings=[])
    assert sorted(tables) == ["articles", "seats", "tags"]


async def test_columns_that_are_not_what_the_models_declare(store: Store) -> None:
    await run(store, "ALTER TABLE seats DROP COLUMN label", "ALTER TABLE seats ADD COLUMN more INTEGER")
    found = await validate(store, [METADATA])
    assert [kind for kind, _ in told(found)] == ["schema", "extra"]
    assert [finding.message for finding in found.faults] == ["seats: column label is missing (VARCHAR)"]
    assert "holdfast migrate up" in found.faults[0].fix


async def test_a_database_without_the_tables_lacks_each(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store:
        found = await validate(store, [second()])
    assert [finding.message for finding in found.faults] == [
        "table agents is missing",
        "table agents_daily is missing",
        "table extras is missing",
        "table payments is missing",
    ]


async def test_rows_that_refer_to_nothing(store: Store) -> None:
    if store.dialect == "sqlite":
        async with store.raw() as connection:
            await connection.execute("PRAGMA foreign_keys=OFF")
            await connection.execute("DELETE FROM articles")
    else:
        await run(store, "SET LOCAL session_replication_role = replica", "DELETE FROM articles")
    [finding] = (await validate(store, [METADATA])).findings
    assert finding.kind == "orphans"
    assert finding.message.startswith("1 rows of tags refer to rows of articles that are not there")


async def test_constraints_and_indexes_that_do_not_hold(postgres_url: str) -> None:
    async with opened(postgres_url, METADATA) as store:
        await run(
            store,
            "ALTER TABLE articles ADD CONSTRAINT short CHECK (length(name) < 9) NOT VALID",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_tags_article_id_tag'::regclass",
        )
        found = (await validate(store, [METADATA])).faults
    assert [(one.kind, one.table) for one in found if one.kind != "schema"] == [
        ("constraint", "articles"),
        ("index", "tags"),
    ]
    assert 'op.validate_constraint("articles", "short")' in next(o.fix for o in found if o.kind == "constraint")


UNFIT = {
    "price": "'12'",
    "stock": "'many'",
    "weight": "'heavy'",
    "seen_at": "'2026-01-01T00:00:00Z'",
    "made_on": "'yesterday'",
    "fragile": "7",
    "title": "x'00'",
    "maker_id": "'no uuid'",
}


@pytest.mark.parametrize("column", sorted(UNFIT))
async def test_values_that_the_types_cannot_read(sqlite_url: str, column: str) -> None:
    async with opened(sqlite_url, Base.metadata) as store:
        async with store.unit() as unit:
            maker = await unit[Maker].add(Maker(name="ada"))
            await unit[Part].add(Part(title="t", price=1, weight=1.5, maker=maker, made_on=None))
        assert (await validate(store, [Base.metadata])).findings == []
        async with store.raw() as connection:
            await connection.execute("PRAGMA foreign_keys=OFF")
            await connection.execute("PRAGMA ignore_check_constraints=ON")
            await connection.execute(f"UPDATE parts SET {column} = {UNFIT[column]}")
        found = [one for one in (await validate(store, [Base.metadata])).findings if one.kind == "values"]
    assert len(found) == 1
    assert found[0].message.startswith(f"1 rows of parts have in {column} what ")


async def test_no_models_have_nothing_wrong_with_them(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store:
        assert await validate(store, [MetaData()]) == Validation(rows={}, findings=[])
