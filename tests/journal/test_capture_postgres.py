"""What only PostgreSQL can do to a table, and that it is captured all the same."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import DateTime, MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import journal
from holdfast.errors import JournalError
from holdfast.journal import Change, Journal
from holdfast.model import Model, Policy, uuid7
from holdfast.store import Store
from tests.backends import settings_for
from tests.journal.conftest import Facts, Reader


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Event(Base):
    __tablename__ = "events"
    __policy__ = Policy(Facts("v"))
    __table_args__ = ({"postgresql_partition_by": "RANGE (day)"},)
    day: Mapped[int] = mapped_column(primary_key=True)
    v: Mapped[int | None]


class Keyed(Base):
    __tablename__ = "keyed"
    __policy__ = Policy(Facts("u", "v"), truncate=False)
    __table_args__ = (UniqueConstraint("u", deferrable=True),)
    id: Mapped[int] = mapped_column(primary_key=True)  # type: ignore[assignment]
    u: Mapped[int | None]
    v: Mapped[int | None]


class Timed(Base):
    __tablename__ = "timed"
    __policy__ = Policy(Facts("at", "naive"))
    at: Mapped[dt.datetime | None]
    naive: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=False))


MODELS: list[type[Model]] = [Event, Keyed, Timed]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = Store(settings_for(postgres_url, poll_interval=0.05))
    async with store.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.exec_driver_sql("CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10)")
        await connection.exec_driver_sql(
            "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (day)"
        )
        await connection.exec_driver_sql('CREATE TABLE "events 2 a" PARTITION OF events_2 FOR VALUES FROM (10) TO (20)')
        # Checked at the end of each statement, so that an update may shift keys over one another.
        await connection.exec_driver_sql(
            "ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (id) DEFERRABLE"
        )
        await journal.install(connection, MODELS)
    yield store
    await store.close()


@pytest.fixture
async def log(store: Store) -> AsyncIterator[Journal]:
    made = Journal(store)
    yield made
    await made.close()


@pytest.fixture
async def raw(store: Store) -> AsyncIterator[asyncpg.Connection]:
    async with store.raw() as connection:
        yield connection


async def problems(store: Store) -> list[str]:
    async with store.engine.connect() as connection:
        return await journal.verify(connection, MODELS)


async def test_a_write_to_a_partition_is_told_as_one_to_its_table(raw: Any, reader: Reader) -> None:
    id = uuid7()
    await raw.execute("INSERT INTO events (id, day, v) VALUES ($1, 5, 1)", id)
    await raw.execute("UPDATE events_1 SET v = 2")
    await raw.execute('INSERT INTO "events 2 a" (id, day, v) VALUES ($1, 15, 3)', id)
    await raw.execute("DELETE FROM events_2")
    told = [(c.op, c.table, c.key) for c in await reader.changes()]
    assert told == [
        ("insert", "events", f'["{id}",5]'),
        ("update", "events", f'["{id}",5]'),
        ("insert", "events", f'["{id}",15]'),
        ("delete", "events", f'["{id}",15]'),
    ]


async def test_a_row_that_moves_to_another_partition_is_deleted_and_inserted(raw: Any, reader: Reader) -> None:
    id = uuid7()
    await raw.execute("INSERT INTO events (id, day, v) VALUES ($1, 5, 1)", id)
    await reader.skip()
    await raw.execute("UPDATE events SET day = 15")
    told = [(c.op, c.key) for c in await reader.changes()]
    assert told == [("delete", f'["{id}",5]'), ("insert", f'["{id}",15]')]


async def test_copy_is_captured_in_the_order_of_its_rows(raw: Any, reader: Reader) -> None:
    ids = [uuid7() for _ in range(1_000)]
    await raw.copy_records_to_table(
        "events", records=[(id, 1, i) for i, id in enumerate(ids)], columns=["id", "day", "v"]
    )
    assert [c.new["v"] for c in await reader.changes()] == list(range(1_000))


async def test_truncate_is_a_reset_of_its_table(raw: Any, reader: Reader) -> None:
    await raw.execute("INSERT INTO events (day) VALUES (5)")
    await reader.skip()
    await raw.execute("TRUNCATE events_1")
    changes = await reader.changes()
    assert {(c.op, c.table, c.key, c.old, c.new) for c in changes} == {("reset", "events", None, None, None)}


async def test_truncate_is_refused_where_the_policy_says_so(raw: Any, reader: Reader) -> None:
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="TRUNCATE of keyed is refused"):
        await raw.execute("TRUNCATE keyed")
    assert await reader.changes() == []


async def test_the_sessions_settings_do_not_change_the_facts(raw: Any, store: Store, log: Journal) -> None:
    for setting in (
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "extra_float_digits = -15",
        "search_path = ''",
    ):
        await raw.execute(f"SET {setting}")
    reader = Reader(log)
    await reader.skip()
    await raw.execute(
        "INSERT INTO public.timed (at, naive) VALUES ('2024-02-29T23:59:59.05+05:45', '2024-03-01T00:00:00')"
    )
    [change] = await reader.changes()
    assert change.new == {"at": "2024-02-29T18:14:59.050000Z", "naive": "2024-03-01T00:00:00.000000Z"}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2024-01-02 03:04:05.123456+00", "2024-01-02T03:04:05.123456Z"),
        ("2024-01-02 03:04:05.1-11:30", "2024-01-02T14:34:05.100000Z"),
        ("9999-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000000Z"),
        ("infinity", "infinity"),
        ("0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
        ("12024-01-02 03:04:05+00", "12024-01-02 03:04:05+00"),
    ],
)
async def test_a_time_is_told_in_one_form_or_as_it_is(raw: Any, reader: Reader, written: str, told: str) -> None:
    await raw.execute(f"INSERT INTO timed (at) VALUES ('{written}')")
    [change] = await reader.changes()
    assert change.new is not None
    assert (change.new["at"], change.new["naive"]) == (told, None)


async def test_a_role_without_rights_on_the_journal_is_captured(raw: Any, reader: Reader) -> None:
    name = f"limited_{uuid7().hex}"
    await raw.execute(f"CREATE ROLE {name}")
    try:
        await raw.execute(f"GRANT USAGE ON SCHEMA public TO {name}; GRANT INSERT ON keyed TO {name}; SET ROLE {name}")
        await raw.execute("INSERT INTO keyed (id) VALUES (7)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await raw.execute("DELETE FROM holdfast_journal")
    finally:
        await raw.execute(f"RESET ROLE; DROP OWNED BY {name}; DROP ROLE {name}")
    assert [c.key for c in await reader.changes()] == ["7"]


async def test_a_temporary_table_cannot_take_the_place_of_the_journals_own(raw: Any, reader: Reader) -> None:
    await raw.execute("CREATE TEMP TABLE holdfast_slot (slot int); CREATE TEMP TABLE new_rows (id int)")
    await raw.execute("INSERT INTO keyed (id) VALUES (1)")
    assert [c.key for c in await reader.changes()] == ["1"]


async def test_a_statement_that_touches_no_row_takes_no_transaction_id(raw: Any) -> None:
    async with raw.transaction():
        await raw.execute("UPDATE keyed SET v = 1")
        assert await raw.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_capture_that_is_whole_has_no_problems(store: Store) -> None:
    assert await problems(store) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DROP TRIGGER holdfast_insert ON events_1", "events_1 lacks the trigger holdfast_insert"),
        (
            'ALTER TABLE "events 2 a" DISABLE TRIGGER holdfast_update',
            '"events 2 a" has disabled the trigger holdfast_update',
        ),
        ("ALTER TABLE keyed DISABLE TRIGGER ALL", "keyed has disabled the trigger holdfast_insert"),
        (
            "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30)",
            "events_3 lacks the trigger holdfast_insert",
        ),
        (
            "CREATE OR REPLACE FUNCTION holdfast_capture_keyed() RETURNS trigger"
            " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "the capture function of keyed is missing or of another version",
        ),
        ("DROP TABLE keyed", "the table keyed does not exist"),
        ("DROP TABLE holdfast_epoch", "the database has no journal"),
    ],
)
async def test_damage_to_capture_is_found(store: Store, damage: str, says: str) -> None:
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql(damage)
    found = await problems(store)
    assert any(says in problem for problem in found), found


async def test_installing_again_mends_what_is_damaged(store: Store) -> None:
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TRIGGER holdfast_insert ON events_1")
        await connection.exec_driver_sql("ALTER TABLE keyed DISABLE TRIGGER ALL")
        await connection.exec_driver_sql("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30)")
        await journal.install(connection, MODELS)
    assert await problems(store) == []


async def test_changes_keep_the_shape_they_were_written_with(store: Store, reader: Reader, raw: Any) -> None:
    class Renewed(Model):
        __tablename__ = "keyed"
        metadata = MetaData()
        __policy__ = Policy(Facts("v"))
        id: Mapped[int] = mapped_column(primary_key=True)  # type: ignore[assignment]
        v: Mapped[int | None]

    await raw.execute("INSERT INTO keyed (id, u, v) VALUES (1, 1, 1)")
    async with store.engine.begin() as connection:
        await journal.install(connection, [Renewed])
    await raw.execute("INSERT INTO keyed (id, u, v) VALUES (2, 2, 2)")
    assert [c.new for c in await reader.changes()] == [{"u": 1, "v": 1}, {"v": 2}]


async def test_a_long_table_name_is_captured_under_a_name_of_its_own(store: Store, reader: Reader, raw: Any) -> None:
    def model(name: str) -> type[Model]:
        return type(
            f"Long{name[-1].upper()}",
            (Model,),
            {
                "__tablename__": name,
                "__module__": __name__,
                "metadata": MetaData(),
                "__policy__": Policy(),
            },
        )

    models = [model("t" * 60 + end) for end in "ab"]
    async with store.engine.begin() as connection:
        for made in models:
            await connection.run_sync(made.metadata.create_all)
        await journal.install(connection, models)
        assert await journal.verify(connection, models) == []
    for made in models:
        await raw.execute(f"INSERT INTO {made.__tablename__} DEFAULT VALUES")
    assert [c.table for c in await reader.changes()] == [m.__tablename__ for m in models]


async def test_more_facts_than_a_function_takes_arguments(store: Store, reader: Reader, raw: Any) -> None:
    names = [f"c{i}" for i in range(150)]
    wide = type(
        "Wide",
        (Model,),
        {
            "__tablename__": "wide",
            "__module__": __name__,
            "metadata": MetaData(),
            "__policy__": Policy(Facts(*names)),
            "__annotations__": dict.fromkeys(names, "Mapped[str | None]"),
        },
    )
    async with store.engine.begin() as connection:
        await connection.run_sync(wide.metadata.create_all)
        await journal.install(connection, [wide])
    await raw.execute("INSERT INTO wide (c0, c149) VALUES ('a', 'b')")
    await raw.execute("UPDATE wide SET c7 = 'c'")
    _, updated = await reader.changes()
    assert (updated.new["c0"], updated.new["c7"], updated.new["c149"], updated.new["c8"]) == ("a", "c", "b", None)


def replay(rows: dict[str, Any], changes: list[Change]) -> None:
    for change in changes:
        assert change.key is not None
        assert rows.get(change.key) == change.old, change
        if change.new is None:
            del rows[change.key]
        else:
            rows[change.key] = change.new


KEYS = st.integers(1, 5)
ROWS = st.tuples(KEYS, st.one_of(st.none(), st.integers(1, 5)), st.integers(0, 3))
STATEMENTS = st.one_of(
    st.lists(ROWS, min_size=1, max_size=4).map(lambda rows: f"INSERT INTO keyed VALUES {values(rows)}"),
    st.sampled_from([-2, -1, 1, 2]).map(lambda by: f"UPDATE keyed SET id = id + {by}"),
    st.builds("UPDATE keyed SET id = CASE id WHEN {0} THEN {1} ELSE {0} END WHERE id IN ({0}, {1})".format, KEYS, KEYS),
    st.builds("UPDATE keyed SET v = {1} WHERE id >= {0}".format, KEYS, st.integers(0, 9)),
    st.builds("DELETE FROM keyed WHERE id = {}".format, KEYS),
    st.builds(
        "WITH gone AS (DELETE FROM keyed WHERE id = {} RETURNING *) INSERT INTO keyed SELECT {}, u, 7 FROM gone".format,
        KEYS,
        KEYS,
    ),
    st.builds(
        "WITH moved AS (UPDATE keyed SET v = 8 WHERE id = {} RETURNING *)"
        " DELETE FROM keyed USING moved WHERE keyed.id = {}".format,
        KEYS,
        KEYS,
    ),
    st.lists(ROWS, min_size=1, max_size=4).map(
        lambda rows: (
            f"MERGE INTO keyed k USING (VALUES {values(rows)}) s (id, u, v) ON k.id = s.id"
            " WHEN MATCHED AND s.v = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v"
            " WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.u, s.v)"
        )
    ),
)


def values(rows: list[tuple[int, int | None, int]]) -> str:
    return ", ".join(f"({id}, {'NULL' if u is None else u}::int, {v})" for id, u, v in rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transactions=st.lists(st.lists(STATEMENTS, min_size=1, max_size=4), max_size=6))
async def test_replaying_the_journal_gives_the_table(store: Store, transactions: list[list[str]]) -> None:
    log = Journal(store)
    reader = Reader(log)
    async with store.raw() as connection:
        await connection.execute("DELETE FROM keyed")
        await reader.skip()
        for statements in transactions:
            try:
                async with connection.transaction():
                    for statement in statements:
                        await connection.execute(statement)
            except asyncpg.PostgresError:
                continue
        rows: dict[str, Any] = {}
        replay(rows, await reader.changes())
        there = {
            str(row["id"]): {"u": row["u"], "v": row["v"]} for row in await connection.fetch("SELECT * FROM keyed")
        }
    await log.close()
    assert rows == there


async def test_a_table_that_is_not_there_cannot_be_captured(store: Store) -> None:
    missing = type("Missing", (Model,), {"__tablename__": "missing", "__module__": __name__, "metadata": MetaData()})
    with pytest.raises(JournalError, match="missing does not exist"):
        async with store.engine.begin() as connection:
            await journal.install(connection, [missing])


async def test_a_tick_is_refused_where_it_would_be_wrong(store: Store, raw: Any) -> None:
    with pytest.raises(asyncpg.RaiseError, match="READ COMMITTED"):
        async with raw.transaction(isolation="repeatable_read"):
            await raw.execute("SELECT holdfast_make_tick()")
