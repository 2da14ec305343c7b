"""Running migrations: forwards, backwards, interrupted, beside others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from holdfast import journal
from holdfast.errors import MigrationError, Unavailable
from holdfast.migrate import Limits, Planned, execution, inspection, repair, writer
from holdfast.migrate.turns import turn
from holdfast.model import models_of
from holdfast.store import Store
from tests.migrate.versions import boxes, fewer_boxes, fill, first, migrations, second, write
from tests.store.opening import opened


async def query(store: Store, sql: str) -> list[Any]:
    async with store.read() as unit:
        return [tuple(row) for row in (await unit.execute(sql)).all()]


async def run(store: Store, sql: str) -> None:
    async with store.unit() as unit:
        await unit.execute(sql)


# Timed inside the server, its wait for the table included: what a client waits besides is the machine's doing.
TIMED = """
    CREATE FUNCTION timed_insert() RETURNS float8 LANGUAGE plpgsql AS $$
    DECLARE
        began timestamptz := clock_timestamp();
    BEGIN
        INSERT INTO t VALUES (1);
        RETURN extract(epoch FROM clock_timestamp() - began);
    END
    $$
"""


async def make_both(store: Store, folder: Path) -> Any:
    """The migrations of both versions, written by the library; rows are between them."""
    begun = migrations(store, folder, first())
    await writer.write_new(begun, "Begin")
    await begun.up()
    await run(store, "INSERT INTO agents (name, nick) VALUES ('ada', 'a')")
    amount = f"'{5:078d}'" if store.dialect == "sqlite" else "5"
    await run(
        store,
        f"INSERT INTO payments (agent_id, amount, at, note) SELECT id, {amount}, created_at, 'n' FROM agents",
    )
    grown = migrations(store, folder, second())
    await writer.write_new(grown, "More")
    fill(folder)
    return grown


async def test_from_one_version_to_the_next_and_back_nothing_that_stays_is_lost(store: Store, folder: Path) -> None:
    grown = await make_both(store, folder)
    done = await grown.up()
    assert [one.revision for one in done] == [
        "0002_more",
        "0003_more_build",
        "0004_more_tighten",
        "0005_more_drop_indexes",
        "0006_more_contract",
    ]
    assert await inspection.undeclared(grown) == []
    assert await inspection.drift(grown) == []
    assert await inspection.irreversible(grown) == []
    assert await query(store, "SELECT name, title FROM agents") == [("ada", "none")]
    assert await query(store, "SELECT count(*) FROM payments") == [(1,)]
    async with store.connect() as connection:
        assert await journal.verify(connection, grown.models) == []
    await grown.down(to="0001_begin")
    assert await inspection.drift(grown) == []
    assert await query(store, "SELECT name FROM agents") == [("ada",)]
    assert await query(store, "SELECT count(*) FROM payments") == [(1,)]
    await grown.down(to="base")
    assert await inspection.drift(grown) == []
    await grown.up()
    assert await inspection.drift(grown) == []
    assert await grown.up() == []


async def test_columns_that_the_old_capture_names_can_go_without_a_write_failing(store: Store, folder: Path) -> None:
    grown = await make_both(store, folder)
    for _ in range(5):
        pending = await grown.pending()
        await grown.up(to=pending[0].revision)
        await run(store, "UPDATE agents SET name = name || '!'")
    assert await query(store, "SELECT name FROM agents") == [("ada!!!!!",)]


@pytest.fixture(params=["sqlite", "sqld"])
async def rebuilding(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The first version's tables where a table must be made anew to be altered."""
    async with opened(request.getfixturevalue(f"{request.param}_url"), first()) as store:
        yield store


async def test_indexes_of_columns_and_tables_that_go_are_dropped_before_them(store: Store, folder: Path) -> None:
    begun = migrations(store, folder, boxes())
    await writer.write_new(begun, "Begin")
    await begun.up()
    less = migrations(store, folder, fewer_boxes())
    await writer.write_new(less, "Less")
    await less.up()
    assert await inspection.undeclared(less) == []
    assert await inspection.drift(less) == []
    assert await inspection.irreversible(less) == []
    await less.down(to="base")


async def test_rebuilding_a_table_of_sqlite_keeps_the_rows_that_refer_to_it(rebuilding: Store, folder: Path) -> None:
    write(folder, "a", "op.drop_column('agents', 'nick')", "op.add_column('agents', sa.Column('nick', sa.String()))")
    store = rebuilding
    await run(store, "INSERT INTO agents (name, nick) VALUES ('ada', 'a')")
    await run(store, f"INSERT INTO payments (agent_id, amount, at) SELECT id, '{5:078d}', created_at FROM agents")
    await migrations(store, folder).up()
    assert await query(store, "SELECT count(*) FROM payments") == [(1,)]
    assert await query(store, "SELECT * FROM pragma_foreign_keys") == [(1,)]


async def test_a_migration_that_leaves_orphans_on_sqlite_is_undone(rebuilding: Store, folder: Path) -> None:
    write(folder, "a", "op.execute('DELETE FROM agents')")
    store = rebuilding
    await run(store, "INSERT INTO agents (name, nick) VALUES ('ada', 'a')")
    await run(store, f"INSERT INTO payments (agent_id, amount, at) SELECT id, '{5:078d}', created_at FROM agents")
    with pytest.raises(MigrationError, match="payments refers to a row of agents"):
        await migrations(store, folder).up()
    assert await query(store, "SELECT count(*) FROM agents") == [(1,)]


async def test_the_triggers_of_others_outlive_a_rebuilt_table(rebuilding: Store, folder: Path) -> None:
    write(folder, "a", "op.drop_column('agents', 'nick')")
    store = rebuilding
    await run(store, "CREATE TABLE told (name TEXT)")
    await run(
        store,
        "CREATE TRIGGER tell AFTER INSERT ON agents BEGIN INSERT INTO told VALUES (NEW.name); END",
    )
    await run(
        store,
        "CREATE TRIGGER look AFTER INSERT ON told BEGIN UPDATE agents SET name = name || '!'; END",
    )
    await run(store, "CREATE VIEW named AS SELECT name FROM agents")
    await migrations(store, folder).up()
    await run(store, "INSERT INTO agents (name) VALUES ('ada')")
    assert await query(store, "SELECT * FROM named") == [("ada!",)]
    assert await query(store, "SELECT a.name, t.name FROM agents a, told t") == [("ada!", "ada")]


async def test_a_trigger_that_a_migration_drops_stays_dropped(rebuilding: Store, folder: Path) -> None:
    write(folder, "a", "op.execute('DROP TRIGGER IF EXISTS tell'); op.drop_column('agents', 'nick')")
    store = rebuilding
    await run(store, "CREATE TRIGGER tell AFTER INSERT ON agents BEGIN SELECT 1; END")
    await migrations(store, folder).up()
    assert await query(store, "SELECT name FROM sqlite_master WHERE name = 'tell'") == []


async def test_what_fails_leaves_nothing_behind_and_says_why(store: Store, folder: Path) -> None:
    write(folder, "a", "op.execute('CREATE TABLE t (x INTEGER)'); op.execute('SELECT absent FROM t')")
    with pytest.raises(MigrationError, match=r"a \(up\) failed, nothing of it was done: .*absent"):
        await migrations(store, folder).up()
    assert [one.state for one in await migrations(store, folder).status()] == ["pending"]
    write(folder, "a", "op.execute('CREATE TABLE t (x INTEGER)')")
    assert len(await migrations(store, folder).up()) == 1


async def test_files_that_are_not_what_was_applied_are_refused_with_the_way_out(store: Store, folder: Path) -> None:
    path = write(folder, "a", "op.execute('CREATE TABLE t (x INTEGER)')", "op.execute('DROP TABLE t')")
    write(folder, "b", "pass", follows="a")
    runner = migrations(store, folder)
    await runner.up(to="a")
    path.write_text(path.read_text() + "# a word\n")
    for refused in (runner.up, runner.down, runner.pending):
        with pytest.raises(MigrationError, match=r"a.py was edited after it was applied.*--accept a"):
            await refused()
    await repair.accept(runner, "a")
    await runner.up()
    path.unlink()
    (folder / "b.py").write_text((folder / "b.py").read_text().replace("'a'", "None"))
    with pytest.raises(MigrationError, match=r"there is no file of it.*--forget a"):
        await runner.up()
    await repair.forget(runner, "a")
    await repair.accept(runner, "b")
    assert await runner.up() == []


async def test_one_that_a_branch_brought_late_is_refused_and_moved(store: Store, folder: Path) -> None:
    write(folder, "a", "pass")
    write(folder, "c", "pass", follows="a")
    runner = migrations(store, folder)
    await runner.up()
    write(folder, "b", "pass", follows="a")
    (folder / "c.py").write_text((folder / "c.py").read_text().replace("'a'", "'b'"))
    await repair.accept(runner, "c")
    with pytest.raises(MigrationError, match=r"b stands before c.*--move b"):
        await runner.up()
    repair.move(folder, "b")
    await repair.accept(runner, "c")
    assert [one.revision for one in await runner.up()] == ["b"]


async def test_phases_run_apart_and_in_order(store: Store, folder: Path) -> None:
    write(folder, "a", "pass")
    write(folder, "b", "pass", follows="a", more="phase = 'post'")
    write(folder, "c", "pass", follows="b")
    runner = migrations(store, folder)
    with pytest.raises(MigrationError, match="a is of the phase 'pre' and comes first"):
        await runner.up(phase="post")
    assert [one.revision for one in await runner.up(phase="pre")] == ["a"]
    with pytest.raises(MigrationError, match="b is of the phase 'post' and comes first"):
        await runner.up(phase="pre")
    assert [one.revision for one in await runner.up(phase="post")] == ["b"]
    assert [one.revision for one in await runner.up(phase="pre")] == ["c"]


async def test_taking_back_stops_before_what_cannot_be(store: Store, folder: Path) -> None:
    write(folder, "a", "pass", more="irreversible = 'the rows are gone'")
    write(folder, "b", "op.execute('CREATE TABLE t (x INTEGER)')", "op.execute('DROP TABLE t')", follows="a")
    runner = migrations(store, folder)
    await runner.up()
    with pytest.raises(MigrationError, match="a cannot be taken back: the rows are gone"):
        await runner.down(to="base")
    assert [one.state for one in await runner.status()] == ["applied", "applied"]
    assert [one.revision for one in await runner.down(to="a")] == ["b"]
    with pytest.raises(MigrationError, match="there is no migration 'z'"):
        await runner.down(to="z")


async def test_a_hook_is_told_before_anything_runs_and_can_stop_it(store: Store, folder: Path) -> None:
    write(folder, "a", "op.execute('CREATE TABLE t (x INTEGER)')")
    told: list[Planned] = []

    async def refuse(store: Store, planned: Planned) -> None:
        told.append(planned)
        raise MigrationError("the backup failed")

    with pytest.raises(MigrationError, match="the backup failed"):
        await migrations(store, folder, before=[refuse]).up()
    assert [(one.direction, one.revisions) for one in told] == [("up", ("a",))]
    assert [one.state for one in await migrations(store, folder).status()] == ["pending"]
    await migrations(store, folder).up()
    assert await migrations(store, folder, before=[refuse]).up() == []  # nothing to announce


async def test_several_runners_at_once_run_each_migration_once(database_url: str, folder: Path) -> None:
    before: str | None = None
    for name in "abcd":
        write(folder, name, f"op.execute('CREATE TABLE {name} (x INTEGER)')", follows=before)
        before = name

    async def one() -> list[str]:
        async with opened(database_url) as store:
            return [done.revision for done in await migrations(store, folder).up()]

    await asyncio.gather(*(one() for _ in range(3)))
    async with opened(database_url) as store:
        events = await migrations(store, folder).events()
    assert [event.revision for event in events] == ["a", "b", "c", "d"]


async def test_another_runner_is_waited_for_and_then_told(postgres: Store, folder: Path) -> None:
    write(folder, "a", "pass")
    async with turn(postgres, wait=1):
        with pytest.raises(Unavailable, match=r"another process migrates .* for more than 0.3 s"):
            await migrations(postgres, folder, wait=0.3).up()
    assert len(await migrations(postgres, folder).up()) == 1


async def test_who_waits_for_a_turn_keeps_nobody_from_building_an_index(
    postgres: Store, postgres_url: str, folder: Path
) -> None:
    write(folder, "a", "pass")
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    waits = """
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    """
    async with opened(postgres_url) as other:
        async with turn(postgres, wait=1), postgres.raw() as builder:
            waiter = asyncio.create_task(migrations(other, folder).up())
            while await builder.fetchval(waits) < 2:  # noqa: ASYNC110  the one whose turn it is, and the other
                await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                await builder.execute("CREATE INDEX CONCURRENTLY ix_t_x ON t (x)")
            assert not waiter.done()
        assert len(await waiter) == 1


async def test_a_lock_that_is_not_had_makes_nobody_wait_long_and_is_tried_for_again(
    postgres: Store, folder: Path
) -> None:
    write(folder, "a", "op.add_column('t', sa.Column('y', sa.Integer()))")
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    await run(postgres, TIMED)
    async with postgres.raw() as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.execute("SELECT * FROM t")  # a long reader: it holds off the ALTER, and the ALTER all behind it
        running = asyncio.create_task(migrations(postgres, folder).up())
        async with postgres.raw() as writer_:
            took: list[float] = []
            for _ in range(40):
                took.append(await writer_.fetchval("SELECT timed_insert()"))
                await asyncio.sleep(0.02)
        assert not running.done()
        assert max(took) < 0.2 + 0.1
        await transaction.commit()
    assert len(await running) == 1


async def test_locks_that_are_never_had_are_given_up_with_advice(postgres: Store, folder: Path) -> None:
    write(folder, "a", "op.add_column('t', sa.Column('y', sa.Integer()))")
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    async with postgres.raw() as reader, reader.transaction():
        await reader.execute("SELECT * FROM t")
        limits = Limits(lock_timeout=0.05, give_up=0.3)
        with pytest.raises(MigrationError, match=r"did not get its locks in .* s, and nothing of it was done"):
            await migrations(postgres, folder, limits=limits).up()


async def test_two_locks_share_one_timeout(postgres: Store, folder: Path) -> None:
    write(
        folder,
        "a",
        "op.add_column('t', sa.Column('y', sa.Integer())); op.add_column('u', sa.Column('y', sa.Integer()))",
    )
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    await run(postgres, TIMED)
    await run(postgres, "CREATE TABLE u (x INTEGER)")
    async with postgres.raw() as one, postgres.raw() as other, postgres.raw() as writer_, other.transaction():
        await other.execute("SELECT * FROM u")
        transaction = one.transaction()
        await transaction.start()
        await one.execute("SELECT * FROM t")
        running = asyncio.create_task(migrations(postgres, folder, limits=Limits(lock_timeout=0.4, give_up=20)).up())
        took: list[float] = []

        async def keep_writing() -> None:
            for _ in range(80):
                took.append(await writer_.fetchval("SELECT timed_insert()"))
                await asyncio.sleep(0.01)

        writing = asyncio.create_task(keep_writing())
        await asyncio.sleep(0.3)
        await transaction.commit()  # the first lock is had late; for the second little time is left
        await writing
        assert 0.2 < max(took) < 0.4 + 0.1
    assert len(await running) == 1


@pytest.mark.parametrize("dies_after", range(1, 16))
async def test_steps_that_were_interrupted_are_taken_up_where_they_stopped(
    postgres: Store, folder: Path, dies_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        folder,
        "a",
        "op.execute('UPDATE t SET n = n + 1'); op.create_index('ix_t_n', 't', ['n'], postgresql_concurrently=True);"
        " op.set_not_null('t', 'n'); op.add_unique('uq_t_x', 't', ['x']); op.execute('UPDATE t SET n = n + 1')",
        more="transactional = False",
    )
    await run(postgres, "CREATE TABLE t (x INTEGER, n INTEGER)")
    await run(postgres, "INSERT INTO t VALUES (1, 0), (2, 0)")
    done, patiently = 0, execution.patiently

    def dying(work: Any, limits: Limits) -> Any:
        nonlocal done
        outcome = patiently(work, limits)
        done += 1
        if done == dies_after:
            raise RuntimeError("killed after the database did it")
        return outcome

    monkeypatch.setattr(execution, "patiently", dying)
    runner = migrations(postgres, folder)
    if dies_after < 15:
        with pytest.raises(MigrationError, match="its steps so far stand"):
            await runner.up()
        assert [one.state for one in await runner.status()] == ["interrupted"]
    monkeypatch.setattr(execution, "patiently", patiently)
    await runner.up()
    assert await query(postgres, "SELECT x, n FROM t ORDER BY x") == [(1, 2), (2, 2)]
    assert await query(postgres, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert await query(postgres, "SELECT conname FROM pg_constraint WHERE conrelid = 't'::regclass") == [("uq_t_x",)]
    assert [one.state for one in await runner.status()] == ["applied"]


async def test_rows_that_break_a_unique_key_are_told_and_can_be_mended(postgres: Store, folder: Path) -> None:
    write(folder, "a", "op.add_unique('uq_t_x', 't', ['x'])", more="transactional = False")
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    await run(postgres, "INSERT INTO t VALUES (1), (1)")
    runner = migrations(postgres, folder)
    with pytest.raises(MigrationError, match="could not create unique index"):
        await runner.up()
    await run(postgres, "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)")
    await runner.up()
    assert await query(postgres, "SELECT conname FROM pg_constraint WHERE conname = 'uq_t_x'") == [("uq_t_x",)]


async def test_what_cannot_be_in_a_transaction_is_refused_before_it_blocks_anybody(
    postgres: Store, folder: Path
) -> None:
    write(folder, "a", "op.create_index('ix_t_x', 't', ['x'], postgresql_concurrently=True)")
    await run(postgres, "CREATE TABLE t (x INTEGER)")
    with pytest.raises(MigrationError, match="index ix_t_x with postgresql_concurrently cannot run inside"):
        await migrations(postgres, folder).up()
    write(folder, "a", "op.set_not_null('t', 'x')")
    with pytest.raises(MigrationError, match=r"op.set_not_null cannot run inside a transaction"):
        await migrations(postgres, folder).up()


async def test_a_batch_among_steps_is_refused_for_it_could_not_be_taken_up(postgres: Store, folder: Path) -> None:
    write(folder, "a", "op.batch_alter_table('t').__enter__()", more="transactional = False")
    with pytest.raises(MigrationError, match="cannot be taken up again when it is interrupted"):
        await migrations(postgres, folder).up()


async def test_a_database_that_has_the_tables_already_adopts_the_migrations(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, first())
    await writer.write_new(runner, "Begin")
    with pytest.raises(MigrationError, match=r"has not what the migrations make .*agents is missing"):
        await repair.adopt(runner)
    async with store.connect(write=True) as connection:
        await connection.run_sync(first().create_all)
    assert await repair.adopt(runner) == ["0001_begin"]
    assert await runner.up() == []
    assert await inspection.drift(runner) == []


async def test_what_somebody_changed_by_hand_is_drift(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, first())
    await writer.write_new(runner, "Begin")
    await runner.up()
    await run(store, "ALTER TABLE agents ADD COLUMN extra TEXT")
    await run(store, "DROP INDEX ix_payments_at")
    found = await inspection.drift(runner)
    assert len(found) == 2
    assert "agents: column extra is there, and nothing declares it" in found
    assert any("payments: index ix_payments_at is missing" in line for line in found)


async def test_a_plan_shows_what_would_run_and_runs_nothing(store: Store, folder: Path) -> None:
    grown = await make_both(store, folder)
    planned = {file.revision: statements for file, statements in await inspection.plan(grown)}
    assert list(planned) == [
        f"000{n}_more{what}" for n, what in enumerate(("", "_build", "_tighten", "_drop_indexes", "_contract"), 2)
    ]
    build = "\n".join(planned["0003_more_build"])
    assert ("CREATE INDEX CONCURRENTLY ix_agents_title" in build) == (store.dialect == "postgresql")
    assert "-- the triggers that capture agents" in planned["0002_more"]
    assert len(await grown.pending()) == 5
    assert await inspection.drift(grown) == []


async def test_a_scratch_leaves_nothing_behind(store: Store, folder: Path) -> None:
    grown = await make_both(store, folder)
    await inspection.undeclared(grown)
    async with store.connect() as connection:
        if store.dialect == "postgresql":
            found = await connection.execute(text("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'holdfast%'"))
            assert found.scalar() == 0
            found = await connection.execute(text("SHOW search_path"))
            assert "scratch" not in str(found.scalar())


async def test_capture_of_a_newer_version_is_installed_without_a_migration(store: Store, folder: Path) -> None:
    runner = migrations(store, folder, first())
    await writer.write_new(runner, "Begin")
    await runner.up()
    if store.dialect == "sqlite":
        await run(store, "DROP TRIGGER holdfast_agents_insert")
    else:
        await run(store, "DROP TRIGGER holdfast_insert ON agents")
    async with store.connect() as connection:
        assert await journal.verify(connection, models_of(runner.metadatas[0]))
    await runner.up()
    async with store.connect() as connection:
        assert await journal.verify(connection, models_of(runner.metadatas[0])) == []
