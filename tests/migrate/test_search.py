"""Full-text search that comes, changes and goes by migrations, on a table that has rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Holdfast, KeyedModel, Model, Monthly, Policy, Query, Searchable, SoftDeleted
from holdfast.errors import MigrationError
from holdfast.migrate import inspection, repair, writer
from holdfast.migrate.lint import lint_path
from holdfast.migrate.validation import validate
from holdfast.model import NAMING, UtcTime, models_of
from holdfast.store import Store
from tests.backends import settings_for
from tests.migrate.versions import migrations, write


@cache
def version(*searched: str, weights: Any = (), language: str = "simple", note: bool = True, size: bool = False) -> Any:
    """The metadata of a table of papers that is searched by these columns."""
    aspects = [Searchable(*searched, weights=weights, language=language)] if searched else []

    class Base(Model):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    body: dict[str, Any] = {
        "__module__": __name__,
        "__tablename__": "papers",
        "__policy__": Policy(*aspects),
        "__annotations__": {"title": Mapped[str]},
    }
    if note:
        body["__annotations__"]["note"] = Mapped[str | None]
    if size:
        body["__annotations__"]["size"] = Mapped[int]
        body["size"] = mapped_column(default=7)
    type(f"Paper{abs(hash((searched, weights, language, note, size)))}", (SoftDeleted, Base), body)
    return Base.metadata


async def add(store: Store, *titles: str) -> None:
    async with store.unit() as unit:
        for title in titles:
            await unit.execute(text("INSERT INTO papers (title) VALUES (:title)"), {"title": title})


async def found(store: Store, metadata: MetaData, words: str) -> list[str]:
    [model] = models_of(metadata)
    async with store.read() as unit:
        return sorted(row.title for row in await unit[model].list(Query(model).search(words)))  # type: ignore[attr-defined]


async def left_over(store: Store) -> list[str]:
    """What the database has of any search."""
    names = "sqlite_master" if store.dialect == "sqlite" else "(SELECT relname AS name FROM pg_class) c"
    async with store.read() as unit:
        return list((await unit.execute(f"SELECT name FROM {names} WHERE name LIKE '%holdfast_search_%'")).scalars())


async def check(runner: Any) -> None:
    assert await inspection.undeclared(runner) == []
    assert await inspection.drift(runner) == []
    assert await inspection.irreversible(runner) == []


async def test_a_new_table_is_made_with_its_search_in_one_migration(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, version("title", "note", weights=(2, 1), language="english"))
    [path] = (await writer.write_new(runner, "Begin")).paths
    assert "op.create_search('papers', ['title', 'note'], weights='AB', language='english')" in path.read_text()
    await runner.up()
    await check(runner)
    await add(store, "holding fast")
    assert await found(store, runner.metadatas[0], "hold") == ["holding fast"]
    await runner.down(to="base")
    assert await left_over(store) == []
    await runner.up()
    await add(store, "holding on")
    assert await found(store, runner.metadatas[0], "hold") == ["holding on"]
    assert (await writer.write_new(runner, "Nothing")).paths == ()


async def test_it_is_added_changed_and_removed_while_both_programs_find_their_rows(store: Store, folder: Path) -> None:
    begun = migrations(store, folder, version())
    await writer.write_new(begun, "Begin")
    await begun.up()
    await add(store, "hold fast", "let go")

    added = migrations(store, folder, version("title"))
    [line] = await inspection.undeclared(added)
    assert "holdfast_search_papers_" in line
    assert line.endswith(")")
    assert "is missing" in line
    written = await writer.write_new(added, "Search")
    [path] = written.paths
    assert written.left == ()
    assert "transactional = False" in path.read_text()
    assert "op.create_search('papers', ['title'], weights='A', concurrently=True)" in path.read_text()
    assert lint_path(folder) == []
    await added.up()
    await check(added)
    assert await found(store, version("title"), "hold") == ["hold fast"]

    changed = migrations(store, folder, version("title", "note"))
    assert len(await inspection.undeclared(changed)) == 2
    build, drop = (await writer.write_new(changed, "Search notes")).paths
    assert 'phase = "pre"' in build.read_text()
    assert "op.create_search('papers', ['title', 'note']" in build.read_text()
    assert 'phase = "post"' in drop.read_text()
    assert "op.drop_search('papers', ['title']" in drop.read_text()
    await changed.up(phase="pre")
    await add(store, "hold on")
    for metadata in (version("title"), version("title", "note")):
        assert await found(store, metadata, "hold") == ["hold fast", "hold on"]
    await changed.up(phase="post")
    await check(changed)

    removed = migrations(store, folder, version())
    [path] = (await writer.write_new(removed, "No search")).paths
    assert 'phase = "post"' in path.read_text()
    await removed.up()
    await check(removed)
    assert await left_over(store) == []
    await add(store, "hold out")
    await removed.down(steps=1)
    assert await found(store, version("title", "note"), "hold") == ["hold fast", "hold on", "hold out"]
    await removed.down(to="base")
    assert await left_over(store) == []


@pytest.mark.parametrize(
    "after", [version("title", weights=(2.5,)), version("title", weights=(7,))], ids=["as it was", "another number"]
)
async def test_weights_that_only_change_in_number_need_no_migration(postgres: Store, folder: Path, after: Any) -> None:
    runner = migrations(postgres, folder, version("title"))
    await writer.write_new(runner, "Begin")
    assert (await writer.write_new(migrations(postgres, folder, after), "Heavier")).paths == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (version("title"), version("title", language="english")),
        (version("title", "note"), version("note", "title")),
        (version("title", "note"), version("title", "note", weights=(2, 1))),
    ],
    ids=["language", "order", "weights"],
)
async def test_whatever_changes_what_is_indexed_is_found(store: Store, folder: Path, before: Any, after: Any) -> None:
    begun = migrations(store, folder, before)
    await writer.write_new(begun, "Begin")
    changed = migrations(store, folder, after)
    assert len((await writer.write_new(changed, "Other")).paths) == 2
    await changed.up()
    await check(changed)
    await add(store, "rock")
    assert await found(store, after, "rock") == ["rock"]


async def test_a_column_goes_with_the_search_that_names_it(store: Store, folder: Path) -> None:
    begun = migrations(store, folder, version("title", "note"))
    await writer.write_new(begun, "Begin")
    await begun.up()
    await add(store, "hold fast")
    changed = migrations(store, folder, version("title", note=False))
    await writer.write_new(changed, "No notes")
    assert lint_path(folder) == []
    await changed.up()
    await check(changed)
    await add(store, "hold on")
    assert await found(store, version("title", note=False), "hold") == ["hold fast", "hold on"]
    await changed.down(to="0001_begin")
    assert await found(store, version("title", "note"), "hold") == ["hold fast", "hold on"]
    dropped = migrations(store, folder, MetaData())
    await changed.up()
    await writer.write_new(dropped, "No papers")
    assert [finding for finding in lint_path(folder) if finding.level == "error"] == []
    await dropped.up()
    await check(dropped)
    assert await left_over(store) == []


async def test_a_table_that_is_made_anew_keeps_its_search(store: Store, folder: Path) -> None:
    begun = migrations(store, folder, version("title"))
    await writer.write_new(begun, "Begin")
    await begun.up()
    await add(store, "one", "two", "three")
    async with store.unit() as unit:
        await unit.execute("DELETE FROM papers WHERE title = 'one'")
    grown = migrations(store, folder, version("title", size=True))
    await writer.write_new(grown, "Size")
    await grown.up()
    await check(grown)
    await add(store, "four")
    for word, rows in (("one", []), ("two", ["two"]), ("three", ["three"]), ("four", ["four"])):
        assert await found(store, version("title", size=True), word) == rows


async def test_a_search_outlives_a_table_made_anew_in_the_same_migration(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, version("title"))
    await writer.write_new(migrations(store, folder, version()), "Begin")
    write(
        folder,
        "0002_both",
        "op.create_search('papers', ['title'])\n    op.alter_column('papers', 'note', server_default='x')\n"
        "    op.alter_column('papers', 'note', server_default=None)",
        "op.drop_search('papers', ['title'])",
        follows="0001_begin",
    )
    await runner.up()
    await check(runner)
    await add(store, "hold")
    assert await found(store, version("title"), "hold") == ["hold"]


async def test_what_somebody_took_away_is_drift_and_invalid(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, version("title"))
    await writer.write_new(runner, "Begin")
    await runner.up()
    assert (await validate(store, runner.metadatas)).faults == []
    names = await left_over(store)
    async with store.unit() as unit:
        if store.dialect == "postgresql":
            await unit.execute(f"DROP INDEX {names[0]}")
        else:
            await unit.execute(f"DROP TRIGGER {next(name for name in names if name.endswith('on_delete'))}")
    [line] = await inspection.drift(runner)
    assert line.startswith("papers: ")
    assert "holdfast_search_papers_" in line
    assert [finding.kind for finding in (await validate(store, runner.metadatas)).faults] == ["schema"]
    with pytest.raises(MigrationError, match="holdfast_search_papers_"):
        await repair.adopt(runner)


async def test_a_plan_tells_of_it(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, version("title"))
    await writer.write_new(migrations(store, folder, version()), "Begin")
    await writer.write_new(runner, "Search")
    [_, (_, statements)] = await inspection.plan(runner)
    if store.dialect == "postgresql":
        assert [statement.split(" ON ")[0][:43] for statement in statements] == [
            "DROP INDEX CONCURRENTLY IF EXISTS holdfast_",
            "CREATE INDEX CONCURRENTLY holdfast_search_p",
        ]
    else:
        assert statements == ["-- op.create_search('papers', ['title'], weights='A', concurrently=True)"]


async def test_beside_others_it_is_no_part_of_a_transaction(postgres: Store, folder: Path) -> None:
    await writer.write_new(migrations(postgres, folder, version()), "Begin")
    write(folder, "0002_s", "op.create_search('papers', ['title'], concurrently=True)", follows="0001_begin")
    with pytest.raises(MigrationError, match=r"op\.create_search cannot run inside a transaction"):
        await migrations(postgres, folder, version("title")).up()


@pytest.mark.parametrize(
    ("up", "more", "rules"),
    [
        ("op.create_search('papers', ['title'])", "", ["create-index"]),
        ("op.create_search('papers', ['title'], concurrently=True)", "", ["needs-steps"]),
        ("op.create_search('papers', ['title'], concurrently=True)", "transactional = False", []),
        ("op.drop_search('papers', ['title'], concurrently=True)", "phase = 'post'\ntransactional = False", []),
    ],
)
async def test_the_lint_tells_a_search_that_blocks(folder: Path, up: str, more: str, rules: list[str]) -> None:
    write(folder, "a", up, more=more)
    assert [finding.rule for finding in lint_path(folder)] == rules


async def test_without_migrations_what_is_missing_is_made_for_the_rows_that_are_there(database_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=version(), migrate=True) as hold:
        await add(hold.store, "hold fast")
    metadata = version("title")
    async with await Holdfast.open(settings=settings_for(database_url), metadata=metadata, migrate=False) as hold:
        [name] = (await hold.pending()).indexes
        assert (await hold.migrate()).indexes == [name]
        assert not await hold.pending()
        assert await found(hold.store, metadata, "hold") == ["hold fast"]
        if hold.store.dialect == "sqlite":  # what is there in part is made anew
            async with hold.unit() as unit:
                await unit.execute(f"DROP TRIGGER keep_{name}_on_insert")
            await add(hold.store, "hold on")
            assert (await hold.migrate()).indexes == [name]
            assert await found(hold.store, metadata, "hold") == ["hold fast", "hold on"]


@cache
def parted(searched: bool) -> MetaData:
    class Base(KeyedModel):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    body = {
        "__module__": __name__,
        "__tablename__": "lines",
        "__policy__": Policy(Monthly("at", ahead=1), *([Searchable("what")] if searched else [])),
        "at": mapped_column(UtcTime(), primary_key=True),
        "__annotations__": {"what": Mapped[str]},
    }
    type(f"Line{searched}", (Base,), body)
    return Base.metadata


async def test_partitions_are_searched_each_by_an_index_of_its_own(postgres: Store, folder: Path) -> None:
    await writer.write_new(migrations(postgres, folder, parted(False)), "Begin")
    runner = migrations(postgres, folder, parted(True))
    await writer.write_new(runner, "Search")
    await runner.up()
    await check(runner)
    [model] = models_of(parted(True))
    async with postgres.unit() as unit:
        await unit.execute("INSERT INTO lines (at, what) VALUES (now(), 'hold fast')")
        assert await unit[model].count(Query(model).search("fast")) == 1
        indexes = "SELECT count(*), bool_and(indisvalid) FROM pg_index JOIN pg_class ON oid = indexrelid"
        found = await unit.execute(f"{indexes} WHERE relname LIKE '%holdfast_search_lines%'")
        assert tuple(found.one()) == (4, True)
    await runner.down()
    assert await left_over(postgres) == []


async def test_tables_made_without_migrations_are_adopted_with_their_search(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, version("title"))
    await writer.write_new(runner, "Begin")
    async with store.engine.begin() as connection:
        await connection.run_sync(version("title").create_all)
    assert await repair.adopt(runner) == ["0001_begin"]
    assert await inspection.drift(runner) == []
