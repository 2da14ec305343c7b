"""The isolation matrix finds nothing where all is as it is made, and each leak that is planted."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import ForeignKeyConstraint, MetaData, exc, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import ALL, Holdfast, KeyedModel, Model, Monthly, Policy
from holdfast.errors import ConfigurationError, HoldfastError, StoreError, WrongTenant
from holdfast.journal import Batch
from holdfast.migrate import roles
from holdfast.model import Text, UtcTime, uuid7
from holdfast.operate.isolation import examine_isolation
from holdfast.settings import Settings
from holdfast.store import AppendOnly, Store, Unit
from tests.backends import settings_for

NOW = dt.datetime.now(dt.UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class KeyedBase(KeyedModel):
    __abstract__ = True
    metadata = Base.metadata


class Memo(Base):
    """Of a tenant that is a UUID."""

    __tablename__ = "memos"
    __policy__ = Policy(tenant="org_id", secret=("pin",))

    org_id: Mapped[UUID]
    body: Mapped[str]
    pin: Mapped[str] = mapped_column(server_default="0")


class Reply(Base):
    """Refers to a memo, which cannot be deleted without it."""

    __tablename__ = "replies"
    __policy__ = Policy(tenant="org_id")
    __table_args__ = (ForeignKeyConstraint(("org_id", "memo_id"), ("memos.org_id", "memos.id")),)

    org_id: Mapped[UUID]
    memo_id: Mapped[UUID]


class Stamp(Base):
    """Only ever added."""

    __tablename__ = "stamps"
    __policy__ = Policy(AppendOnly(), tenant="org_id")

    org_id: Mapped[UUID]


class Place(Base):
    """Of a tenant that is a text, shorter than another tenant's name."""

    __tablename__ = "places"
    __policy__ = Policy(tenant="Owner")

    Owner: Mapped[str] = mapped_column(Text(4))
    name: Mapped[str]


class Score(KeyedBase):
    """Of a tenant that is a number, with a key that the database counts."""

    __tablename__ = "scores"
    __policy__ = Policy(tenant="team")

    number: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Visit(KeyedBase):
    """In a partition a month."""

    __tablename__ = "visits"
    __policy__ = Policy(Monthly("at", ahead=1), tenant="org_id")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    at: Mapped[dt.datetime] = mapped_column(UtcTime(), primary_key=True)
    org_id: Mapped[UUID]


class Colour(Base):
    """Everybody's."""

    __tablename__ = "colours"
    name: Mapped[str]


class Secretive(Base):
    """Nobody's business."""

    __tablename__ = "secretives"
    __policy__ = Policy(internal=True)
    name: Mapped[str]


MODELS = [Memo, Reply, Stamp, Place, Score, Visit, Colour, Secretive]


async def make_roles(url: str, **logins: list[str]) -> None:
    store = Store(settings_for(url))
    async with store.connect(write=True) as connection:
        await roles.create(connection, **logins)
    await store.close()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        yield hold


async def fill(hold: Holdfast) -> None:
    for org, owner, team in ((ONE, "anna", 1), (TWO, "bert", 2)):
        async with hold.unit(tenant=ALL) as unit:
            memo = Memo(org_id=org, body="x")
            unit.add(memo, Stamp(org_id=org), Place(Owner=owner, name="x"), Score(number=team, team=team))
            await unit.flush()
            unit.add(Visit(at=NOW, org_id=org), Reply(org_id=org, memo_id=memo.id))
    async with hold.unit(tenant=ALL) as unit:
        unit.add(Colour(name="red"), Secretive(name="x"))


@pytest.fixture(params=("sqlite", "postgres", "pgbouncer"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    """Rows of two tenants; on PostgreSQL under row security."""
    url = request.getfixturevalue(f"{request.param}_url")
    if request.param != "sqlite":
        await make_roles(url)
    async with opened(settings_for(url, row_security=request.param != "sqlite")) as hold:
        await fill(hold)
        yield hold


@pytest.fixture
async def secured(postgres_url: str) -> AsyncIterator[Holdfast]:
    await make_roles(postgres_url)
    async with opened(settings_for(postgres_url, row_security=True)) as hold:
        await fill(hold)
        yield hold


async def test_nothing_leaks(hold: Holdfast) -> None:
    found = await examine_isolation(hold.store, hold.models, writes=True)
    assert found.leaks == []
    assert found.untried == []
    # Four tenanted tables and, on PostgreSQL, the partitions of one, by role, context and operation.
    assert found.attempts >= (4 * 4 * 3 if found.backend == "sqlite" else 7 * 2 * 6 * 4)
    assert await hold.pending() == type(await hold.pending())()


FORGED = (
    "SELECT holdfast_emit('garbage{')",
    "SELECT holdfast_emit('[]'), holdfast_emit('[[1, null, {}]]')",
    "SELECT holdfast_emit('[[\"topic\", null, {}]]')",
    f'SELECT holdfast_emit(\'[["topic", "{TWO}", {{}}]]\')',
)


@pytest.mark.parametrize("statement", FORGED)
async def test_who_runs_as_a_tenant_tells_the_journal_nothing_of_others(secured: Holdfast, statement: str) -> None:
    async with secured.unit(tenant=ONE) as unit:
        await unit.emit("topic", data={"text": "a NUL \x00 may be told", "also": "\\u0000"})
    with pytest.raises(HoldfastError):
        async with secured.unit(tenant=ONE) as unit:
            await unit.execute(statement.replace(":", "\\:"))
    async with secured.store.connect() as connection:
        await connection.exec_driver_sql("SET LOCAL ROLE holdfast_readonly")
        with pytest.raises(exc.DBAPIError, match="permission denied for function holdfast_emit"):
            await connection.exec_driver_sql("SELECT holdfast_emit('[]')")
    position = await secured.journal.make_tick()  # and who follows goes on
    pages = [page async for page in secured.journal.read(await secured.journal.oldest(), position)]
    assert [change.table for page in pages for change in page.changes if change.op == "event"] == ["topic"]


@pytest.mark.parametrize("hold", ["postgres", "pgbouncer"], indirect=True)  # elsewhere raw SQL is confined by nobody
async def test_a_forgotten_where_reaches_nobody_elses_rows(hold: Holdfast) -> None:
    for table, own in (("memos", ONE), ("places", "anna"), ("scores", 1), ("visits", ONE)):
        async with hold.read(tenant=str(own)) as unit:
            assert (await unit.execute(f"SELECT count(*) FROM {table}")).scalar() == 1
        async with hold.read() as unit:
            assert (await unit.execute(f"SELECT count(*) FROM {table}")).scalar() == 0
        async with hold.read(tenant=ALL) as unit:
            assert (await unit.execute(f"SELECT count(*) FROM {table}")).scalar() == 2
    async with hold.unit(tenant=str(ONE)) as unit:
        changed = await unit.execute("UPDATE memos SET body = 'mine'")
        assert changed.rowcount == 1  # type: ignore[attr-defined]
    # A longer name than the column holds is not cut down to another's.
    async with hold.read(tenant="anna-lena") as unit:
        assert (await unit.execute("SELECT count(*) FROM places")).scalar() == 0


async def test_every_transaction_of_a_unit_is_confined(secured: Holdfast) -> None:
    async with secured.read(tenant=str(ONE)) as unit:
        with pytest.raises(HoldfastError):
            await unit.execute("SELECT 1 / 0")
        await unit.session.rollback()
        assert (await unit.execute("SELECT count(*) FROM memos")).scalar() == 1
    with pytest.raises(StoreError, match="read-only unit"):
        async with secured.read(tenant=str(ONE)) as unit:
            await unit.execute("UPDATE memos SET body = 'x'")


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO memos (id, org_id, body) VALUES (gen_random_uuid(), '{TWO}', 'x')",
        f"UPDATE memos SET org_id = '{TWO}'",
        f"INSERT INTO visits (id, at, org_id) VALUES (gen_random_uuid(), now(), '{TWO}')",
    ],
)
async def test_a_row_of_another_tenant_cannot_be_written(secured: Holdfast, statement: str) -> None:
    with pytest.raises(WrongTenant, match="another tenant"):
        async with secured.unit(tenant=str(ONE)) as unit:
            await unit.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM secretives",
        "SELECT * FROM holdfast_journal",
        "TRUNCATE memos",
        "DROP TABLE memos",
        "ALTER TABLE memos DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine (a int)",
        "SELECT * FROM visits_{month}",
        "SET ROLE holdfast_owner",
    ],
)
async def test_what_is_no_tenants_business_is_denied(postgres_url: str, statement: str) -> None:
    login = await login_of(postgres_url, "serving")
    async with opened(settings_for(postgres_url, row_security=True)):
        pass  # the tables are there
    async with await Holdfast.open(settings=login, metadata=Base.metadata, migrate=False) as hold:
        with pytest.raises(StoreError, match=r"permission denied|must be owner"):
            async with hold.unit(tenant=str(ONE)) as unit:
                await unit.execute(statement.format(month=f"{NOW:%Y_%m}"))


async def login_of(url: str, kind: str) -> Settings:
    """The settings of a login that is no superuser."""
    name = f"login_{uuid4().hex[:8]}"
    store = Store(settings_for(url))
    async with store.connect(write=True) as connection:
        await connection.execute(text(f"CREATE ROLE {name} LOGIN"))
    await store.close()
    await make_roles(url, **{kind: [name]} if kind else {})
    return settings_for(url.replace("holdfast@", f"{name}@"), row_security=True)


async def test_logins_that_are_no_superusers_migrate_serve_and_follow(postgres_url: str) -> None:
    migrating = await login_of(postgres_url, "migrating")
    serving = await login_of(postgres_url, "serving")
    store = Store(settings_for(postgres_url))
    async with store.connect(write=True) as connection:
        await connection.execute(text("GRANT CREATE ON SCHEMA public TO holdfast_owner"))
    await store.close()
    async with opened(migrating) as hold:
        assert not await hold.pending()
    async with await Holdfast.open(settings=serving, metadata=Base.metadata, migrate=False) as hold:
        seen: set[str | None] = set()

        async def follow(batch: Batch, unit: Unit) -> None:
            memos = {change.key for change in batch.changes if change.table == "memos"}
            # The one memo may be there before the other is written.
            there = (await unit.execute("SELECT count(*) FROM memos")).scalar_one()
            assert there >= len(memos)
            seen.update(memos)

        await hold.journal.subscribe("memos", follow, transactional=True)
        await hold.journal.wait_until(await hold.journal.make_tick(), "memos")
        await fill(hold)
        assert await hold.cache[Memo].get(uuid4(), tenant=str(ONE)) is None
        await hold.journal.wait_until(await hold.journal.make_tick(), "memos")
        assert len(seen) == 2
        found = await examine_isolation(hold.store, hold.models, writes=True)
        assert found.leaks == []
        assert found.untried == []


@pytest.mark.parametrize(
    ("kind", "told"), [("", "may not act as holdfast_app"), ("app", "would find every table empty")]
)
async def test_a_login_that_could_not_work_is_refused(postgres_url: str, kind: str, told: str) -> None:
    settings = await login_of(postgres_url, "")
    if kind:
        store = Store(settings_for(postgres_url))
        async with store.connect(write=True) as connection:
            await connection.execute(
                text(f"GRANT holdfast_app TO {settings.database_url.split('//')[1].split('@')[0]}")
            )
        await store.close()
    with pytest.raises(ConfigurationError, match=told):
        async with opened(settings):
            pass


async def test_who_leaves_row_security_out_sees_no_empty_tables(postgres_url: str) -> None:
    settings = await login_of(postgres_url, "")
    async with opened(settings_for(postgres_url, row_security=True)):
        pass
    plain = settings_for(settings.database_url)
    with pytest.raises(
        ConfigurationError, match=r"has forced row security, and login_.* is no member of holdfast_worker"
    ):
        async with await Holdfast.open(settings=plain, metadata=Base.metadata, migrate=False):
            pass


PLANTED = {
    "no policies": ("ALTER TABLE memos DISABLE ROW LEVEL SECURITY", "memos", "has no row security"),
    "not forced": ("ALTER TABLE places NO FORCE ROW LEVEL SECURITY", "places", "lets its owner past"),
    "one policy more": ("CREATE POLICY support ON memos USING (true)", "memos", "none of the models'"),
    "another rule": (
        "ALTER POLICY holdfast_tenant ON memos USING (true) WITH CHECK (true)",
        "memos",
        "lacks the policy holdfast_tenant",
    ),
    "one that writes": (
        "ALTER POLICY holdfast_tenant ON scores WITH CHECK (true)",
        "scores",
        "lacks the policy holdfast_tenant",
    ),
    "a partition": (
        "ALTER TABLE visits_{month} DISABLE ROW LEVEL SECURITY; GRANT SELECT ON visits_{month} TO holdfast_app",
        "visits_{month}",
        "reaches 2 rows",
    ),
    "an internal table": ("GRANT SELECT ON secretives TO holdfast_app", "secretives", "not its business"),
    "its house": ("GRANT SELECT ON holdfast_journal TO holdfast_readonly", "holdfast_journal", "that no model has"),
    "an unlisted table": (
        "CREATE TABLE notes_of_all AS SELECT * FROM memos; GRANT SELECT ON notes_of_all TO PUBLIC",
        "notes_of_all",
        "that no model has",
    ),
    "one column of it": (
        "CREATE TABLE notes_of_all AS SELECT * FROM memos; GRANT SELECT (body) ON notes_of_all TO holdfast_app",
        "notes_of_all",
        "that no model has",
    ),
    "truncate": ("GRANT TRUNCATE ON memos TO holdfast_app", "memos", "may TRUNCATE"),
    "a secret column": ("GRANT SELECT (pin) ON memos TO holdfast_readonly", "holdfast_readonly", "SELECT (pin)"),
    "a view": (
        "CREATE VIEW all_memos AS SELECT * FROM memos; GRANT SELECT ON all_memos TO holdfast_app",
        "all_memos",
        "a view",
    ),
    "a materialized view": (
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM memos; GRANT SELECT ON kept TO holdfast_readonly",
        "kept",
        "a materialized view",
    ),
    "a function": (
        "CREATE FUNCTION all_of_them() RETURNS SETOF memos LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM memos'",
        "all_of_them()",
        "SECURITY DEFINER",
    ),
    "a function with a name like ours": (
        "CREATE FUNCTION holdfast_all() RETURNS SETOF memos LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM memos'",
        "holdfast_all()",
        "SECURITY DEFINER",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
async def test_a_planted_leak_is_found_and_mended(secured: Holdfast, name: str) -> None:
    statements, place, told = (part.format(month=f"{NOW:%Y_%m}") for part in PLANTED[name])
    async with secured.store.connect(write=True) as connection:
        for statement in statements.split("; "):
            await connection.exec_driver_sql(statement)
    found = await examine_isolation(secured.store, secured.models)
    assert any(leak.place == place and told in leak.told for leak in found.leaks), found.leaks
    await secured.migrate()
    again = await examine_isolation(secured.store, secured.models)
    if name.startswith(("a view", "a materialized view", "a function")):
        return  # nobody's but their maker's to remove
    assert again.leaks == []


@pytest.mark.parametrize(
    ("plant", "undo", "told"),
    [
        ("ALTER ROLE holdfast_app BYPASSRLS", "ALTER ROLE holdfast_app NOBYPASSRLS", "bypasses row security"),
        ("GRANT holdfast_worker TO holdfast_app", "REVOKE holdfast_worker FROM holdfast_app", "is a member of"),
        ("ALTER ROLE holdfast_readonly LOGIN", "ALTER ROLE holdfast_readonly NOLOGIN", "can log in"),
    ],
)
async def test_a_role_that_may_too_much_is_found(secured: Holdfast, plant: str, undo: str, told: str) -> None:
    async with secured.store.connect(write=True) as connection:
        await connection.exec_driver_sql(plant)
    try:
        found = await examine_isolation(secured.store, secured.models)
    finally:
        async with secured.store.connect(write=True) as connection:
            await connection.exec_driver_sql(undo)
    assert any(told in leak.told and leak.role.startswith("holdfast_") for leak in found.leaks), found.leaks


async def test_what_an_extension_has_brought_is_left_alone(secured: Holdfast) -> None:
    async with secured.store.connect(write=True) as connection:
        await connection.exec_driver_sql("CREATE TABLE brought (a int)")
        await connection.exec_driver_sql("GRANT SELECT ON brought TO PUBLIC")
        await connection.exec_driver_sql("ALTER EXTENSION plpgsql ADD TABLE brought")
    try:
        await secured.migrate()
        async with secured.store.connect() as connection:
            owner = "SELECT pg_get_userbyid(relowner), has_table_privilege('holdfast_app', oid, 'SELECT') FROM pg_class"
            found = (await connection.exec_driver_sql(f"{owner} WHERE relname = 'brought'")).one()
    finally:  # else the extension goes with the table
        async with secured.store.connect(write=True) as connection:
            await connection.exec_driver_sql("ALTER EXTENSION plpgsql DROP TABLE brought")
    assert tuple(found) == ("holdfast", True)


async def test_without_roles_nothing_confines(postgres_url: str) -> None:
    async with opened(settings_for(postgres_url)) as hold:
        await fill(hold)
        found = await examine_isolation(hold.store, hold.models)
    assert {"memos", "places"} <= {leak.place for leak in found.leaks} or found.leaks[0].place == "role holdfast_app"


async def test_a_unit_that_is_not_confined_is_found(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(settings_for(sqlite_url)) as hold:
        await fill(hold)
        monkeypatch.setattr("holdfast.store.scope.Scope.criterion", lambda *_, **__: None)
        found = await examine_isolation(hold.store, hold.models, writes=True)
    assert {leak.operation for leak in found.leaks} >= {"SELECT", "DELETE"}
    assert {leak.place for leak in found.leaks} == {"memos", "replies", "stamps", "places", "scores", "visits"}


async def test_row_security_is_postgresqls(sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no PostgreSQL"):
        async with opened(settings_for(sqlite_url, row_security=True)):
            pass
