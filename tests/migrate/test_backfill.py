"""Backfills: what they write, beside others, interrupted, refused."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, select

from devservers.postgres import in_own_loop
from holdfast.errors import InvalidValue, MigrationError, Unavailable
from holdfast.migrate import Into, Report, backfill, inspection
from holdfast.store import ALL, Query, Store
from tests.migrate.articles import METADATA, Article, Seat, Tag
from tests.migrate.versions import migrations, write
from tests.store.opening import opened
from tests.store.vault import Base, Person

COUNT = 250


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, METADATA) as store:
        yield store


async def filled(store: Store, count: int = COUNT, **values: Any) -> None:
    async with store.unit() as unit:
        rows = [{"name": f"n{n:04d}", "tags": [f"t{t}" for t in range(n % 3)], **values} for n in range(count)]
        await unit[Article].add_many(rows)


async def articles(store: Store) -> list[Article]:
    async with store.read() as unit:
        return await unit[Article].list(Query(Article).order_by("name"))


def titled(row: Any) -> dict[str, str]:
    return {"title": row.name.upper()}


async def fill(store: Store, **options: Any) -> Report:
    options = {"source": Article, "transform": titled, "columns": ["name"], "batch": 40, **options}
    if "set_" in options:
        del options["transform"], options["columns"]
    return await backfill(store, name="titles", **options)


async def test_every_row_gets_what_the_transform_says(store: Store) -> None:
    await filled(store)
    told: list[int] = []
    report = await fill(store, told=lambda progress: told.append(progress.read))
    assert (report.total, report.read, report.written, report.skipped, report.failed) == (COUNT, COUNT, COUNT, 0, 0)
    assert report.batches == len(told) >= COUNT // 40
    assert (report.verified, report.remaining, report.differing) == (True, None, 0)
    assert report.sampled > 0
    rows = await articles(store)
    assert all(row.title == row.name.upper() and row.version == 2 and row.updated_at > row.created_at for row in rows)


async def test_sql_sets_without_a_row_coming_to_python(store: Store) -> None:
    await filled(store)
    unread = Query(Article).where(title=None)
    report = await fill(store, source=unread, set_={"title": func.upper(Article.name)}, verify=unread)
    assert (report.written, report.remaining, report.verified) == (COUNT, 0, True)
    assert all(row.title == row.name.upper() for row in await articles(store))


async def test_only_rows_that_meet_the_query_and_are_not_deleted_are_touched(store: Store) -> None:
    await filled(store, 20)
    gone, *_ = await articles(store)
    async with store.unit() as unit:
        await unit[Article].delete(gone.id)
    report = await fill(store, source=Query(Article).where(Article.name < "n0010"))
    assert report.read == 9
    async with store.read() as unit:
        rows = await unit[Article].list(Query(Article).with_deleted().order_by("name"))
    assert [row.name for row in rows if row.title] == [f"n{n:04d}" for n in range(1, 10)]


async def test_rows_for_which_there_is_nothing_to_do_are_skipped(store: Store) -> None:
    await filled(store, 30)
    report = await fill(store, transform=lambda row: titled(row) if row.name > "n0019" else None)
    assert (report.read, report.written, report.skipped) == (30, 10, 20)


async def test_one_row_of_an_array_becomes_many_of_another_table(store: Store) -> None:
    await filled(store, 30)

    def taken_apart(row: Any) -> list[dict[str, Any]]:
        return [{"article_id": row.id, "tag": tag} for tag in row.tags]

    options = {"transform": taken_apart, "columns": ["tags"], "write": Into(Tag, on=("article_id", "tag"))}
    assert (await fill(store, **options)).written == 30
    assert (await fill(store, again=True, **options)).written == 0
    async with store.read() as unit:
        assert await unit[Tag].count() == 30


async def test_a_key_of_several_columns_is_gone_along_and_all_tenants_are(store: Store) -> None:
    async with store.unit(tenant=ALL) as unit:
        rows = [{"org": f"o{n % 7}", "number": n} for n in range(120)]
        await unit[Seat].add_many(rows)
    report = await fill(store, source=Seat, columns=(), transform=lambda row: {"label": f"{row.org}/{row.number}"})
    assert report.written == 120
    async with store.read(tenant=ALL) as unit:
        assert all(row.label == f"{row.org}/{row.number}" for row in await unit[Seat].list())


class Stop(Exception):
    """What kills a run in a test."""


async def test_wherever_it_stops_every_row_is_changed_exactly_once(store: Store) -> None:
    await filled(store, 60)
    calls = 0

    def counted(row: Any) -> dict[str, int]:
        nonlocal calls
        calls += 1
        return {"seen": row.seen + 1}

    def stopping(after: int) -> Callable[[Any], None]:
        def told(progress: Any) -> None:
            if progress.batches >= after:
                raise Stop

        return told

    for after in (1, 2, 3):
        with pytest.raises(Stop):
            await fill(store, transform=counted, columns=["seen"], batch=15, told=stopping(after))
    report = await fill(store, transform=counted, columns=["seen"], batch=15)
    assert (report.read, report.written, report.resumed) == (60, 60, True)
    assert {row.seen for row in await articles(store)} == {1}
    before = calls  # 60 and more: a transaction that took too long on a busy machine is given up and done anew
    again = await fill(store, transform=counted, columns=["seen"], batch=15)
    assert (calls, again.written) == (before, 60)
    assert {row.seen for row in await articles(store)} == {1}


CHILD = """
import asyncio, sys
from holdfast.migrate import backfill
from holdfast.store import Store
from tests.backends import settings_for
from tests.migrate.articles import Article

async def main():
    store = Store(settings_for(sys.argv[1]))
    told = lambda progress: print(progress.batches, flush=True)
    await backfill(store, name="seen", source=Article, transform=lambda row: {"seen": row.seen + 1}, batch=5, lease=0.5,
        duty=0.5, told=told)
    await store.close()

asyncio.run(main())
"""


async def test_killed_anywhere_it_goes_on_without_repeating_or_leaving_out_a_row(
    store: Store, database_url: str
) -> None:
    await filled(store, 1_000)
    for batches in (3, 10):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, database_url, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        for _ in range(batches):
            assert await child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        await child.communicate()
    report = await backfill(
        store, name="seen", source=Article, transform=lambda row: {"seen": row.seen + 1}, wait=20, lease=0.5
    )
    assert (report.read, report.written, report.resumed) == (1_000, 1_000, True)
    assert {row.seen for row in await articles(store)} == {1}


async def test_a_second_runner_is_refused_while_the_first_is_at_work(store: Store) -> None:
    await filled(store, 50)
    refused: list[BaseException | None] = []
    begun = asyncio.Event()

    async def other() -> None:
        await begun.wait()
        with pytest.raises(Unavailable, match=r"'titles' is being run by .*lease") as raised:
            await fill(store, wait=0, batch=10)
        refused.append(raised.value)

    task = asyncio.create_task(other())
    report = await fill(store, batch=10, duty=0.05, told=lambda progress: begun.set())
    await task
    assert refused
    assert report.written == 50


async def test_a_runner_that_was_taken_for_dead_cannot_commit_any_more(store: Store, database_url: str) -> None:
    await filled(store, 50)

    async def rob() -> None:
        async with opened(database_url) as other, other.unit() as unit:
            await unit.execute("UPDATE holdfast_backfills SET token = token + 1")

    with pytest.raises(MigrationError, match="taken over by another process"):
        await fill(store, batch=10, told=lambda progress: in_own_loop(rob()))
    assert sum(row.title is not None for row in await articles(store)) == 10


async def test_a_transform_that_fails_stops_it_and_a_mended_one_goes_on(store: Store) -> None:
    await filled(store, 30)

    def failing(row: Any) -> dict[str, str]:
        return {"title": str(1 // (row.name != "n0020"))}

    with pytest.raises(MigrationError, match=r"stopped at the row .* of articles: ZeroDivisionError.*on_error='skip'"):
        await fill(store, transform=failing, batch=8)
    before = sum(row.title is not None for row in await articles(store))
    assert 0 < before <= 20
    report = await fill(store, batch=8)
    assert (report.written, report.resumed) == (30, True)


@pytest.mark.parametrize("bad", ["n0000", "n0013", "n0029"])
async def test_rows_that_are_refused_are_told_and_the_others_written(store: Store, bad: str) -> None:
    await filled(store, 30)

    def refused(row: Any) -> dict[str, str]:
        if row.name == "n0020":
            raise ValueError("no title for it")
        return {"title": "BAD" if row.name == bad else row.name.upper()}

    report = await fill(store, transform=refused, on_error="skip", batch=20)
    assert (report.read, report.written, report.failed) == (30, 28, 2)
    assert {failure.reason.partition(":")[0] for failure in report.failures} == {"ValueError", "InvalidValue"}
    assert [row.name for row in await articles(store) if row.title is None] == sorted({bad, "n0020"})


async def test_a_row_that_the_table_refuses_stops_it_by_name(store: Store) -> None:
    await filled(store, 10)
    rows = await articles(store)
    with pytest.raises(MigrationError, match=f"stopped at the row {rows[4].id}"):
        await fill(store, transform=lambda row: {"title": "BAD" if row.name == "n0004" else "good"})


async def test_what_is_asked_differently_under_the_same_name_is_refused(store: Store) -> None:
    await filled(store, 10)
    await fill(store)
    with pytest.raises(MigrationError, match="begun with another source, other columns or another target"):
        await fill(store, source=Query(Article).where(title="x"))
    assert (await fill(store, source=Query(Article).where(title="N0001"), again=True)).read == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": None}, "transform=… or set_=…"),
        ({"set_": {}}, "set_ is empty"),
        ({"set_": {"id": None}}, "part of the key"),
        ({"set_": {"titel": "x"}}, "no column 'titel'; it has"),
        ({"columns": ["titel"]}, "no column 'titel'"),
        ({"source": Query(Article).limit(3)}, "goes by the key"),
        ({"source": "articles"}, "a Query, a model or a Table"),
        ({"batch": 0}, "batch ≥ 1"),
        ({"on_error": "hide"}, "'stop' or 'skip'"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_done(
    sqlite_url: str, options: dict[str, Any], message: str
) -> None:
    async with opened(sqlite_url) as store:
        with pytest.raises(InvalidValue, match=message):
            await fill(store, **options)


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Store]:
    async with opened(postgres_url, METADATA) as store:
        yield store


def in_between(url: str, statement: str) -> None:
    """Commit something from another process's view, while this one stands still."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    in_own_loop(run())


async def test_a_row_that_changed_after_it_was_read_is_read_again(postgres: Store, postgres_url: str) -> None:
    await filled(postgres, 20)
    changed = False

    def slow(row: Any) -> dict[str, str]:
        nonlocal changed
        if not changed:
            changed = True
            in_between(postgres_url, "UPDATE articles SET name = 'renamed' WHERE name = 'n0003'")
            in_between(postgres_url, "DELETE FROM articles WHERE name = 'n0004'")
        return titled(row)

    report = await fill(postgres, transform=slow)
    assert (report.read, report.written, report.skipped) == (20, 19, 1)
    assert {row.title for row in await articles(postgres)} >= {"RENAMED", "N0005"}
    assert all(row.title == row.name.upper() for row in await articles(postgres))


async def test_rows_that_others_hold_are_left_for_later_and_nobody_waits(postgres: Store, postgres_url: str) -> None:
    await filled(postgres, 60)
    holder = await asyncpg.connect(postgres_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("UPDATE articles SET seen = 7 WHERE name IN ('n0003', 'n0050')")
    with pytest.raises(MigrationError, match=r"2 rows of articles are held by others .* run the backfill"):
        await fill(postgres, give_up=0.1)
    assert [row.name for row in await articles(postgres) if row.title is None] == ["n0003", "n0050"]
    task = asyncio.create_task(fill(postgres))
    await asyncio.sleep(0.05)
    await transaction.commit()
    await holder.close()
    report = await task
    assert (report.read, report.written) == (60, 60)
    assert [row.seen for row in await articles(postgres) if row.seen] == [7, 7]


async def test_another_table_gets_nothing_of_a_row_that_changed_meanwhile(postgres: Store, postgres_url: str) -> None:
    await filled(postgres, 9)
    changed = False

    def slow(row: Any) -> list[dict[str, Any]]:
        nonlocal changed
        if not changed:
            changed = True
            in_between(postgres_url, "UPDATE articles SET tags = '[\"new\"]' WHERE name = 'n0002'")
        return [{"article_id": row.id, "tag": tag} for tag in row.tags]

    await fill(postgres, transform=slow, columns=["tags"], write=Into(Tag))
    async with postgres.read() as unit:
        found = await unit.execute(
            select(Tag.tag).join(Article, Article.id == Tag.article_id).where(Article.name == "n0002")
        )
        assert [row.tag for row in found] == ["new"]


OPERATION = """op.backfill("articles", columns=["name"], transform=lambda row: {"title": row.name.upper()},
        where=[sa.column("title").is_(None)])"""


@pytest.mark.parametrize("transactional", [True, False])
async def test_it_is_an_operation_of_a_migration(store: Store, folder: Path, transactional: bool) -> None:
    await filled(store, 50)
    write(folder, "0001_titles", OPERATION, more=f"transactional = {transactional}")
    known = migrations(store, folder)
    seen: list[int] = []
    known.progress = lambda progress: seen.append(progress.read)
    if transactional and store.dialect == "postgresql":
        with pytest.raises(MigrationError, match=r"op.backfill cannot run inside a transaction.*transactional = False"):
            await known.up()
        return
    await known.up()
    assert seen[-1:] == ([50] if store.dialect == "postgresql" else [])
    assert all(row.title == row.name.upper() for row in await articles(store))
    await known.down()
    async with store.unit() as unit:
        await unit.execute("UPDATE articles SET title = NULL WHERE name > 'n0040'")
    await known.up()
    assert all(row.title == row.name.upper() for row in await articles(store))


async def test_it_is_taken_back_in_the_transaction_of_its_migration(store: Store, folder: Path) -> None:
    await filled(store, 30)
    write(folder, "0001_untitled", "op.get_bind()", OPERATION)
    known = migrations(store, folder)
    await known.up()
    await known.down()
    assert all(row.title == row.name.upper() for row in await articles(store))


async def test_taken_back_in_one_transaction_it_waits_for_nobody(
    postgres: Store, postgres_url: str, folder: Path
) -> None:
    await filled(postgres, 30)
    write(folder, "0001_untitled", "op.get_bind()", OPERATION)
    known = migrations(postgres, folder)
    await known.up()
    holder = await asyncpg.connect(postgres_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("UPDATE articles SET seen = 7 WHERE name = 'n0003'")
    with pytest.raises(MigrationError, match="1 rows of articles are held by others"):
        await known.down()
    await transaction.rollback()
    await holder.close()
    assert {row.title for row in await articles(postgres)} == {None}
    await known.down()
    assert all(row.title is not None for row in await articles(postgres))


async def test_a_plan_tells_of_it(postgres: Store, folder: Path) -> None:
    write(
        folder,
        "0001_begin",
        'op.create_table("articles", sa.Column("id", sa.Integer, primary_key=True),\n        '
        'sa.Column("name", sa.Text), sa.Column("title", sa.Text))',
        'op.drop_table("articles")',
    )
    write(folder, "0002_titles", OPERATION, follows="0001_begin", more="transactional = False")
    [_, (_, statements)] = await inspection.plan(migrations(postgres, folder))
    assert statements == ["-- backfill of articles, batch by batch"]


async def test_encrypted_columns_are_read_and_written_and_found(database_url: str) -> None:
    keys = f"k1:{base64.b64encode(bytes(32)).decode()}"
    async with opened(database_url, Base.metadata, encryption_keys=keys) as store:
        async with store.unit() as unit:
            await unit[Person].add_many([{"name": f"n{n}", "note": f"n{n}@x.org"} for n in range(5)])
        report = await fill(store, source=Person, columns=["note"], transform=lambda row: {"email": row.note})
        assert report.written == 5
        async with store.read() as unit:
            assert await unit[Person].count(Query(Person).where(email="n3@x.org")) == 1
        with pytest.raises(InvalidValue, match="'email' is encrypted"):
            await fill(store, source=Person, set_={"email": Person.name})
