"""Tables of SQLite that are made anew keep what hangs on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import MigrationError
from holdfast.store import Store
from tests.migrate.versions import migrations, write
from tests.store.opening import opened

TABLE = """
    CREATE TABLE t (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, n INTEGER, gone TEXT,
        greeting TEXT NOT NULL DEFAULT 'hi \\:name', twice INTEGER GENERATED ALWAYS AS (n * 2) STORED,
        "once, more" INTEGER GENERATED ALWAYS AS (n + 1) VIRTUAL, CHECK (n > 0)
    )
"""
HANGING = [
    "CREATE INDEX ix_lower ON t (lower(name))",
    "CREATE INDEX ix_desc ON t (n DESC, name COLLATE RTRIM)",
    "CREATE UNIQUE INDEX ix_part ON t (n) WHERE n > 5 AND name <> 'a \\:b'",
    "CREATE TABLE told (n INTEGER)",
    "CREATE TRIGGER mine AFTER UPDATE OF n ON t BEGIN INSERT INTO told VALUES (NEW.n); END",
    "CREATE TRIGGER others AFTER INSERT ON told BEGIN UPDATE t SET name = 'told' WHERE n = NEW.n; END",
    "CREATE VIEW named AS SELECT name, n FROM t",
]


@pytest.fixture(params=["sqlite", "sqld"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Where a table must be made anew to be altered."""
    async with opened(request.getfixturevalue(f"{request.param}_url")) as store:
        yield store


async def run(store: Store, *statements: str) -> None:
    for sql in statements:
        async with store.unit() as unit:
            await unit.execute(sql)


async def query(store: Store, sql: str) -> list[Any]:
    async with store.read() as unit:
        return [tuple(row) for row in (await unit.execute(sql)).all()]


async def hanging(store: Store) -> dict[str, str]:
    return dict(await query(store, "SELECT name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL"))


async def test_all_that_hangs_on_a_table_is_as_it_was(store: Store, folder: Path) -> None:
    await run(store, TABLE, *HANGING, "INSERT INTO t (name, n, gone) VALUES ('Ada', 7, 'x')")
    before = await hanging(store)
    write(folder, "a", "op.drop_column('t', 'gone'); op.add_column('t', sa.Column('more', sa.Text()))")
    write(folder, "b", "op.create_check_constraint('short', 't', 'length(name) < 10')", follows="a")
    await migrations(store, folder).up()
    assert await hanging(store) == before
    assert await query(store, 'SELECT id, name, n, greeting, twice, "once, more" FROM t') == [
        (1, "Ada", 7, "hi :name", 14, 8)
    ]
    await run(store, "UPDATE t SET n = 8")
    assert await query(store, "SELECT name FROM named WHERE name = 'TOLD'") == [("told",)]
    await run(store, "DELETE FROM t", "INSERT INTO t (n) VALUES (1)")
    assert await query(store, "SELECT id, greeting FROM t") == [(2, "hi :name")]  # AUTOINCREMENT
    for broken in ("n = 0", "name = 'longer than ten'"):
        with pytest.raises(Exception, match="CHECK"):
            await run(store, f"UPDATE t SET {broken}")


async def test_what_a_migration_made_itself_outlives_its_next_rebuild(store: Store, folder: Path) -> None:
    await run(store, TABLE)
    made = "; ".join(f"op.execute({sql!r})" for sql in HANGING)
    write(folder, "a", f"{made.replace(':b', chr(92) * 2 + ':b')}; op.drop_column('t', 'gone')")
    await migrations(store, folder).up()
    assert {"ix_lower", "ix_desc", "ix_part", "mine", "others", "named"} <= (await hanging(store)).keys()


async def test_options_of_a_table_are_kept(store: Store, folder: Path) -> None:
    await run(store, "CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, gone TEXT) STRICT, WITHOUT ROWID")
    write(folder, "a", "op.drop_column('t', 'gone')")
    await migrations(store, folder).up()
    [(sql,)] = await query(store, "SELECT sql FROM sqlite_master WHERE name = 't'")
    assert "STRICT" in sql
    assert "WITHOUT ROWID" in sql


async def test_an_index_goes_with_its_column_and_when_it_is_dropped(store: Store, folder: Path) -> None:
    await run(store, "CREATE TABLE t (a TEXT, b TEXT)", "CREATE INDEX ia ON t (lower(a))", "CREATE INDEX ib ON t (b)")
    write(folder, "a", "op.drop_column('t', 'a')")
    await migrations(store, folder).up()
    assert list(await hanging(store)) == ["ib"]
    body = "batch.drop_index('ib'); batch.add_column(sa.Column('c', sa.Text()))"
    write(folder, "b", f"with op.batch_alter_table('t') as batch: {body}", follows="a")
    await migrations(store, folder).up()
    assert await hanging(store) == {}


async def test_a_column_is_renamed_in_all_that_names_it(store: Store, folder: Path) -> None:
    await run(store, TABLE, *HANGING, "INSERT INTO t (name, n) VALUES ('Ada', 7)")
    change = "op.alter_column('t', 'n', new_column_name='m', nullable=False)"
    write(folder, "a", change, "op.alter_column('t', 'm', new_column_name='n', nullable=True)")
    runner = migrations(store, folder)
    await runner.up()
    assert 'WHERE "m" > 5' in (await hanging(store))["ix_part"]
    await run(store, "UPDATE t SET m = 8")
    assert await query(store, "SELECT name FROM named") == [("told",)]
    await runner.down()
    await run(store, "UPDATE t SET n = 9")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("a TEXT UNIQUE ON CONFLICT REPLACE", r"t must be made anew, and would lose `ON CONFLICT` of a"),
        (
            "a TEXT CONSTRAINT c CHECK (a <> 'x :y')",
            r"would lose what stands behind the colon in the CHECK c: a <> 'x :y'",
        ),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_nothing_is_done(
    store: Store, folder: Path, column: str, message: str
) -> None:
    await run(store, f"CREATE TABLE t (id INTEGER PRIMARY KEY, {column}, gone TEXT)".replace(":", "\\:"))
    before = await query(store, "SELECT sql FROM sqlite_master WHERE name = 't'")
    write(folder, "a", "op.drop_column('t', 'gone')")
    with pytest.raises(MigrationError, match=message):
        await migrations(store, folder).up()
    assert await query(store, "SELECT sql FROM sqlite_master WHERE name = 't'") == before


async def test_a_trigger_that_cannot_be_put_back_is_named(store: Store, folder: Path) -> None:
    await run(store, "CREATE TABLE t (n INTEGER)", "CREATE INDEX i ON t (abs(n))")
    body = "batch.alter_column('n', new_column_name='m')"
    write(folder, "a", f"with op.batch_alter_table('t') as batch: {body}")
    with pytest.raises(MigrationError, match=r"the index i of t cannot be kept, .*no such column: n"):
        await migrations(store, folder).up()
