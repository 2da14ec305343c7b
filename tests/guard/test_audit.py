"""The audit trail on real databases: what is on record, each once, and whatever is done to it is found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import ALL, AppendOnly, Audited, Encrypted, Holdfast, Model, Policy
from holdfast.apps import accounts
from holdfast.apps.accounts import ApiKey, AuditLog, Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.errors import ConfigurationError, InvalidValue, ModelError, StoreError, Unavailable
from holdfast.guard.audit import Checkpoint, Head, Origin, Record
from holdfast.guard.audit.export import export
from holdfast.guard.audit.masking import masking
from holdfast.guard.keys import KeyRefused
from holdfast.journal import retiring
from holdfast.migrate import roles
from holdfast.model import NAMING
from holdfast.store import Store, append_only_models
from tests.backends import settings_for

METADATA = MetaData(naming_convention=NAMING)
KEYS = {"encryption_keys": f"k1:{'A' * 43}=", "audit_keys": f"a1:{'B' * 43}="}
UNGUARDED = {
    "postgresql": ("ALTER TABLE audit_logs DISABLE TRIGGER append_only",),
    "sqlite": tuple(f"DROP TRIGGER append_only_audit_logs_{what}" for what in ("update", "delete", "replace")),
}


class Patient(Model):
    """A tenanted model with everything that a record may not show."""

    metadata = METADATA
    __tablename__ = "audited_patients"
    __policy__ = Policy(
        Audited(reads=True, subject="person", skip=("scan",)),
        tenant="clinic",
        private=("name",),
        secret=("pin",),
    )

    clinic: Mapped[str]
    person: Mapped[str]
    name: Mapped[str]
    ward: Mapped[str | None]
    pin: Mapped[str] = mapped_column(default="1234")
    scan: Mapped[str | None]
    notes: Mapped[str | None] = mapped_column(Encrypted())


@pytest.fixture(params=("sqlite", "postgres"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    """A data layer that seals."""
    settings = settings_for(request.getfixturevalue(f"{request.param}_url"), **KEYS)
    async with await Holdfast.open(settings=settings, metadata=(METADATA, accounts.metadata), follow=True) as hold:
        yield hold


@pytest.fixture
async def here(sqlite_url: str) -> AsyncIterator[Holdfast]:
    """One that seals, where the database makes no difference."""
    settings = settings_for(sqlite_url, **KEYS)
    async with await Holdfast.open(settings=settings, metadata=(METADATA, accounts.metadata), follow=True) as hold:
        yield hold


async def trail(hold: Holdfast, tenant: str | None = None, *, seal: bool = True) -> list[Record]:
    """What is on record, once what is committed is sealed."""
    if seal:
        await hold.audit.caught_up()
    return [record async for record in export(hold.store, hold.audit.tables, tenant=tenant)]


async def values(hold: Holdfast, record: Record) -> Any:
    """The private part of a record."""
    assert hold.audit.box is not None
    async with hold.read(tenant=ALL) as unit:
        [found] = await hold.audit.box.open([record], unit)
    return found


def patient(**given: Any) -> Patient:
    return Patient(**{"person": "p1", "name": "Ada", "ward": "A", "scan": "x" * 100, "notes": "ill", **given})


async def test_a_row_from_its_making_to_its_end_is_on_record(hold: Holdfast) -> None:
    async with hold.unit(actor="ada", tenant="north", request_id="r1") as unit:
        await hold.audit.origin(unit, Origin(ip="10.0.0.1", agent="curl", impersonator="eve"))
        row = await unit[Patient].add(patient())
    async with hold.unit(actor="bob", tenant="north") as unit:
        await unit[Patient].update(row.id, ward="B", name="Grace", notes="well", pin="5")
    async with hold.unit(tenant="north") as unit:
        await unit.execute("DELETE FROM audited_patients")  # raw SQL, which says nothing of who it is
    request, made, changed, read, gone = await trail(hold)
    assert (read.action, read.actor, read.target_id) == ("read", "bob", str(row.id))
    assert [one.seq for one in (request, made, changed, read, gone)] == [1, 2, 3, 4, 5]
    assert {one.tenant for one in (request, made, changed, gone)} == {"north"}
    assert (request.action, request.actor, request.request_id) == ("request", "ada", "r1")
    assert (made.action, made.actor, made.impersonator, made.request_id) == ("insert", "ada", "eve", "r1")
    assert (made.target_type, made.target_id, made.subject) == ("audited_patients", str(row.id), "p1")
    assert msgspec.json.decode(made.changes or "")["ward"] == [None, "A"]
    assert await values(hold, made) == {"values": {"name": [None, "Ada"]}, "ip": "10.0.0.1", "agent": "curl"}
    assert (changed.action, changed.actor, changed.impersonator) == ("update", "bob", None)
    assert msgspec.json.decode(changed.changes or "") == {"ward": ["A", "B"], "name": "private"}
    assert await values(hold, changed) == {"values": {"name": ["Ada", "Grace"]}}
    assert (gone.action, gone.actor) == ("delete", None)
    assert msgspec.json.decode(gone.changes or "")["ward"] == ["B", None]
    for record in (request, made, changed, gone):
        plain = msgspec.json.encode(msgspec.structs.asdict(record)).decode()
        assert not any(word in plain for word in ("Ada", "Grace", "1234", "10.0.0.1", "xxxx", "well"))
    assert not (await hold.audit.verify()).faults


async def test_what_is_rolled_back_is_on_no_record(here: Holdfast) -> None:
    with pytest.raises(ZeroDivisionError):
        async with here.unit(tenant="north") as unit:
            await unit[Patient].add(patient())
            await here.audit.record(unit, "export")
            raise ZeroDivisionError
    assert await trail(here) == []


async def test_each_tenant_has_a_chain_and_sees_no_other(hold: Holdfast) -> None:
    for clinic in ("north", "south"):
        async with hold.unit(actor="ada", tenant=clinic) as unit:
            await unit[Patient].add_many([{"person": "p", "name": "n"} for _ in range(3)])
            await hold.audit.record(unit, "export", target=("audited_patients", "all"), details={"rows": 3})
    await hold.audit.record(None, "login", outcome="denied", reason="no such user", private={"email": "a@b.c"})
    assert [(one.tenant, one.seq) for one in await trail(hold)] == [
        ("", 1), *(("north", n) for n in range(1, 5)), *(("south", n) for n in range(1, 5))
    ]  # fmt: skip
    async with hold.read(tenant="south") as unit:
        assert {row.tenant for row in await unit[AuditLog].list()} == {"south"}
    [login] = await trail(hold, "")
    assert (login.outcome, login.reason, login.actor) == ("denied", "no such user", None)
    assert await values(hold, login) == {"values": {"email": "a@b.c"}}


async def test_reads_are_on_record_where_the_policy_says_so(hold: Holdfast) -> None:
    async with hold.unit(tenant="north") as unit:
        rows = [await unit[Patient].add(patient(person=str(n))) for n in range(2)]
    async with hold.read(tenant="north", actor="ada", request_id="r9") as unit:
        await unit[Patient].get(rows[0].id)
    async with hold.unit(tenant="north", actor="bob") as unit:
        await unit[Patient].list()
    with pytest.raises(ZeroDivisionError):
        async with hold.read(tenant=ALL, actor="eve") as unit:
            await unit[Patient].list()
            raise ZeroDivisionError
    one, both, failed = (record for record in await trail(hold, "north") if record.action == "read")
    assert (one.actor, one.target_id, one.request_id) == ("ada", str(rows[0].id), "r9")
    assert (both.actor, failed.actor) == ("bob", "eve")
    found = msgspec.json.decode(both.changes or "")
    assert found["rows"] == 2
    assert set(found["keys"]) == {str(row.id) for row in rows}
    async with hold.unit(tenant="north") as unit, hold.read(tenant="north", actor="cy") as within:
        await unit[Patient].count()
        await within[Patient].get(rows[1].id)  # on SQLite this unit is the one writer
    assert [record.actor for record in await trail(hold, "north")].count("cy") + (hold.store.dialect == "sqlite") >= 1


async def test_a_sign_in_is_a_login_and_a_key_that_is_refused_a_denial(here: Holdfast) -> None:
    async with here.unit(actor="sign-up", tenant=ALL) as unit:
        user = await unit[User].add(User(external_id="u", email="ada@example.com"))
        org = await unit[Organization].add(Organization(name="Acme"))
        await unit[OrganizationMember].add(OrganizationMember(org_id=org.id, user_id=user.id, role="owner"))
        made = await create_api_key(here, unit, name="ci", user_id=user.id, org_id=org.id)
        await here.sessions.begin(unit, user.id, details={"address": "10.0.0.9"})
    for _ in range(3):
        with pytest.raises(KeyRefused):
            await here.keys.verify(made.text, scope="admin", address="10.0.0.7")
    with pytest.raises(KeyRefused):
        await here.keys.verify("hold_live_nonsense")  # nobody's: on no record, or anybody could fill the disk
    records = await trail(here)
    assert [(one.tenant, one.action) for one in records] == [
        ("", "insert"), ("", "login"),
        (str(org.id), "insert"), (str(org.id), "insert"), (str(org.id), "insert"), (str(org.id), "key"),
    ]  # fmt: skip
    login, denial = records[1], records[5]
    assert login.subject == str(user.id)
    assert (await values(here, login))["values"]["details"] == [None, {"address": "10.0.0.9"}]
    assert (denial.outcome, denial.actor, denial.target_id) == ("denied", str(user.id), str(made.row.id))
    assert "lacks the scope 'admin'" in (denial.reason or "")
    assert msgspec.json.decode(denial.changes or "") == {"times": 3}
    assert await values(here, denial) == {"ip": "10.0.0.7"}
    secret = made.text.split("_")[2]
    assert not any(secret in str(msgspec.structs.asdict(one)) or made.row.lookup in str(one) for one in records)


async def test_the_use_of_a_key_is_on_record_where_reads_of_keys_are(
    here: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiKey.__policy__.aspect(Audited), "reads", True)
    async with here.unit(tenant=ALL) as unit:
        user = await unit[User].add(User(external_id="u"))
        made = await create_api_key(here, unit, name="ci", user_id=user.id)
    for _ in range(3):
        await here.keys.verify(made.text, address="10.0.0.7")
    record = (await trail(here))[-1]
    assert (record.action, record.outcome, record.target_id) == ("key", "allowed", str(made.row.id))
    assert record.changes == '{"times":3}'


async def test_nothing_on_record_is_changed_but_by_who_takes_the_triggers_away(hold: Holdfast) -> None:
    async with hold.unit(tenant="north") as unit:
        await unit[Patient].add(patient())
    await trail(hold)
    replace = "INSERT OR REPLACE INTO audit_logs SELECT * FROM audit_logs"
    other = "TRUNCATE audit_logs" if hold.store.dialect == "postgresql" else replace
    for sql in ("UPDATE audit_logs SET actor = 'x'", "DELETE FROM audit_logs", other):
        with pytest.raises(StoreError, match="only ever added"):
            async with hold.unit() as unit:
                await unit.execute(sql)
    if hold.store.dialect == "postgresql":
        with pytest.raises(StoreError, match="TRUNCATE of audited_patients is refused"):
            async with hold.unit() as unit:
                await unit.execute("TRUNCATE audited_patients")
    assert not await hold.pending()
    async with hold.unit() as unit:
        for sql in UNGUARDED[hold.store.dialect]:
            await unit.execute(sql)
    assert "refuse UPDATE and DELETE" in str((await hold.pending()).lines())
    await hold.migrate()
    assert not await hold.pending()
    async with hold.unit() as unit, retiring(unit):  # retention
        await unit.execute("DELETE FROM audit_logs")
    assert {model.__tablename__ for model in append_only_models(hold.models)} == {"audit_logs", "consents"}


async def test_under_row_security_a_tenant_reads_his_chain_and_adds_nothing(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url))
    async with store.connect(write=True) as connection:
        await roles.create(connection)
    await store.close()
    settings = settings_for(postgres_url, row_security=True)
    async with await Holdfast.open(settings=settings, metadata=(METADATA, accounts.metadata), follow=True) as hold:
        for clinic in ("north", "south"):
            async with hold.unit(tenant=clinic, actor="ada") as unit:
                await unit[Patient].add(patient(notes=None))
                await hold.audit.record(unit, "export")
        assert [one.action for one in await trail(hold, "north")] == ["insert", "export"]
        assert not (await hold.audit.verify()).faults
        async with hold.read(tenant="north") as unit:
            assert (await unit.execute("SELECT DISTINCT tenant FROM audit_logs")).scalars().all() == ["north"]
        for sql in (
            "DELETE FROM audit_logs",
            "UPDATE audit_logs SET actor = 'x'",
            "INSERT INTO audit_logs SELECT * FROM audit_logs",
            "SELECT * FROM audit_heads",
        ):
            with pytest.raises(StoreError, match="permission denied"):
                async with hold.unit(tenant="north") as unit:
                    await unit.execute(sql)
        assert not await hold.pending()


EDITS = (
    "UPDATE audit_logs SET actor = 'nobody' WHERE tenant = 'north' AND seq = 2",
    "UPDATE audit_logs SET changes = replace(changes, 'A', 'B') WHERE tenant = 'north' AND seq = 2",
    "UPDATE audit_logs SET sealed = substr(sealed, 2) WHERE tenant = 'north' AND seq = 2",
    "DELETE FROM audit_logs WHERE tenant = 'north' AND seq = 2",
    "UPDATE audit_logs SET seq = 99 WHERE tenant = 'north' AND seq = 2",
    "UPDATE audit_logs SET tenant = 'west' WHERE tenant = 'north' AND seq >= 2",
    "UPDATE audit_heads SET mac = substr(mac, 2) WHERE tenant = 'north'",
    "DELETE FROM audit_heads WHERE tenant = 'north'",
)


async def test_what_was_done_to_the_tables_is_found_and_named(hold: Holdfast, tmp_path: Path) -> None:
    for clinic in ("north", "south"):
        async with hold.unit(actor="ada", tenant=clinic) as unit:
            for _ in range(3):
                await unit[Patient].add(patient())
    before = await trail(hold)
    whole = await hold.audit.verify()
    assert (whole.faults, whole.chains, whole.records) == ([], 2, 6)
    known = Checkpoint.now(whole.heads)
    async with hold.unit() as unit:
        for sql in UNGUARDED[hold.store.dialect]:
            await unit.execute(sql)
    for edit in EDITS:
        async with hold.unit() as unit:
            await unit.execute("CREATE TABLE kept_logs AS SELECT * FROM audit_logs")
            await unit.execute("CREATE TABLE kept_heads AS SELECT * FROM audit_heads")
            await unit.execute(edit)
        faults = {fault.tenant: fault for fault in (await hold.audit.verify()).faults}
        expected = 2 if "audit_logs" in edit else 3 if "UPDATE" in edit else 1
        assert faults["north"].seq == expected, edit
        if "SET actor" in edit:
            assert faults["north"].id == str(before[1].id)
        assert faults.keys() == ({"north", "west"} if "'west'" in edit else {"north"})
        async with hold.unit() as unit:
            for table in ("logs", "heads"):
                await unit.execute(f"DELETE FROM audit_{table}")
                await unit.execute(f"INSERT INTO audit_{table} SELECT * FROM kept_{table}")
                await unit.execute(f"DROP TABLE kept_{table}")
    assert not (await hold.audit.verify(known=known)).faults
    # The end of a chain cut off, head and all, and the trail goes on: nothing but the checkpoint tells.
    second = before[1]
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM audit_logs WHERE tenant = 'north' AND seq > 2")
        await unit.execute("UPDATE audit_heads SET seq = 2, mac = :mac WHERE tenant = 'north'", {"mac": second.mac})
    assert not (await hold.audit.verify()).faults
    [fault] = (await hold.audit.verify(known=known)).faults
    assert (fault.tenant, fault.seq, fault.what) == ("north", 3, "cut off")
    async with hold.unit(tenant="north") as unit:
        await unit[Patient].add(patient())
    await trail(hold)
    [fault] = (await hold.audit.verify(known=known)).faults
    assert (fault.seq, fault.what) == (3, "other than checkpoint")
    # A chain that is gone altogether.
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM audit_logs WHERE tenant = 'south'")
        await unit.execute("DELETE FROM audit_heads WHERE tenant = 'south'")
    assert {fault.tenant for fault in (await hold.audit.verify(known=known)).faults} == {"north", "south"}
    # What lies before a checkpoint need not be there.
    start = Checkpoint.now({"north": Head(2, second.mac)})
    async with hold.unit() as unit:
        await unit.execute("DELETE FROM audit_logs WHERE seq = 1")
    assert not (await hold.audit.verify(after=start)).faults
    [fault] = (await hold.audit.verify(after=Checkpoint.now({"north": Head(9, second.mac)}))).faults
    assert (fault.seq, fault.what) == (4, "cut off")
    assert {fault.tenant for fault in (await hold.audit.verify(after=known)).faults} == {"north", "south"}


async def test_erasing_the_key_of_what_is_private_leaves_the_chain_whole(here: Holdfast) -> None:
    async with here.unit(tenant="north") as unit:
        await unit[Patient].add(patient())
    [record] = await trail(here)
    settings = msgspec.structs.replace(here.settings, encryption_keys=f"k2:{'C' * 43}=")
    metadata = (METADATA, accounts.metadata)
    async with await Holdfast.open(settings=settings, metadata=metadata, migrate=False) as other:
        assert not (await other.audit.verify()).faults
        with pytest.raises(ConfigurationError, match="k1"):
            await values(other, record)


async def test_many_writers_and_two_who_seal_leave_no_gap_and_no_fork(hold: Holdfast) -> None:
    metadata = (METADATA, accounts.metadata)
    async with await Holdfast.open(settings=hold.settings, metadata=metadata, migrate=False, follow=True) as other:

        async def write(number: int) -> None:
            node = (hold, other)[number % 2]
            for _ in range(5):
                async with node.unit(actor=f"w{number}", tenant=f"t{number % 3}") as unit:
                    await unit[Patient].add(patient(person=str(uuid4())))

        verified, _ = await asyncio.gather(hold.audit.verify(), asyncio.gather(*map(write, range(8))))
        assert not verified.faults  # while others write
        async with asyncio.timeout(30):
            while sum([1 async for _ in export(hold.store, hold.audit.tables)]) < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    records = [one async for one in export(hold.store, hold.audit.tables)]
    assert len({one.target_id for one in records}) == len(records) == 40
    found = await hold.audit.verify()
    assert (found.faults, found.chains, found.records) == ([], 3, 40)


KILLED = """
import asyncio, sys
from holdfast import Holdfast
from holdfast.apps import accounts
from holdfast import ALL
from holdfast.apps.accounts import Organization
from holdfast.settings import Settings

async def main():
    settings = Settings.from_environment({}, database_url=sys.argv[1])
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        async def write():
            while True:
                async with hold.unit(actor="writer", tenant=ALL) as unit:
                    await unit[Organization].add_many([{"name": "Acme"} for _ in range(20)])
        print("ready", flush=True)
        await asyncio.gather(*(write() for _ in range(4)))

asyncio.run(main())
"""


async def test_who_is_killed_while_he_seals_loses_nothing_and_repeats_nothing(postgres_url: str) -> None:
    settings = settings_for(postgres_url)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, postgres_url, stdout=subprocess.PIPE, env={**os.environ}
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"ready\n"
            while await hold.audit.tables.is_empty(hold.store):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with hold.unit() as unit:  # the lease of who is dead need not be waited for
            await unit.execute("UPDATE holdfast_followers SET until = 0")
        await hold.follow()
        await hold.audit.caught_up(timeout=60)
        async with hold.read() as unit:
            there = set((await unit.execute("SELECT id::text FROM organizations")).scalars())
        found = [one async for one in export(hold.store, hold.audit.tables)]
        assert len(found) == len(there) > 0
        assert {one.target_id for one in found} == there
        assert not (await hold.audit.verify()).faults


async def test_a_trail_that_was_forgotten_or_lost_its_journal_says_so(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url)
    for _ in range(2):
        async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
            async with hold.unit(tenant=ALL) as unit:
                await unit[Organization].add(Organization(name="Acme"))
            await hold.audit.caught_up()
        async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as hold:
            await hold.journal.forget("audit")
    for expected in (2, 3):
        async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
            await hold.audit.caught_up()
            gaps = [one async for one in export(hold.store, hold.audit.tables, tenant="")]
            assert [(one.action, one.outcome) for one in gaps] == [("audit.gap", "failed")] * expected
            assert not (await hold.audit.verify()).faults
        async with await Holdfast.open(settings=settings, metadata=accounts.metadata, migrate=False) as hold:
            await hold.journal.rebuild("audit")  # as after a restore
    assert "forget" in (gaps[0].reason or "")
    assert "journal was lost" in (gaps[2].reason or "")


async def test_a_page_of_a_chain_and_the_next_tenant_come_by_the_key(hold: Holdfast) -> None:
    is_sqlite = hold.store.dialect == "sqlite"
    dialect, tables = hold.store.engine.dialect, hold.audit.tables
    wanted = {
        tables.page("north", 7): ("autoindex_audit_logs_1 (tenant=? AND seq>?)", "pk_audit_logs"),
        tables.next_tenant("north"): ("SEARCH audit_logs USING COVERING INDEX", "Index Only Scan"),
    }
    async with hold.unit() as unit:
        if not is_sqlite:
            await unit.execute("SET LOCAL enable_seqscan = off")
            await unit.execute("SET LOCAL enable_bitmapscan = off")
        for asked, (on_sqlite, on_postgres) in wanted.items():
            sql = str(asked.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
            found = await unit.execute(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{sql}")
            plan = "\n".join(str(row[-1]) for row in found)
            assert (on_sqlite if is_sqlite else on_postgres) in plan
            assert "SCAN audit_logs" not in plan
            assert "Sort" not in plan
            assert "TEMP B-TREE" not in plan


async def test_what_is_committed_before_anybody_seals_is_on_record(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        async with hold.unit(tenant=ALL) as unit:
            await unit[Organization].add(Organization(name="Acme"))
        assert await trail(hold, seal=False) == []
        await hold.journal.prune(keep=0)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        [record] = await trail(hold)
        assert record.action == "insert"


async def test_an_id_of_a_request_that_another_said_too_is_not_his(here: Holdfast) -> None:
    for actor, address in (("ada", "10.0.0.1"), ("eve", "10.0.0.2")):
        async with here.unit(actor=actor, tenant="north", request_id="same") as unit:
            await here.audit.origin(unit, Origin(ip=address, agent="x" * 100_000))
    async with here.unit(actor="ada", tenant="north", request_id="same") as unit:
        await unit[Patient].add(patient())
    record = (await trail(here))[-1]
    found = await values(here, record)
    assert (found["ip"], len(found["agent"])) == ("10.0.0.1", 500)


async def test_denials_that_cannot_be_written_wait(here: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: Any) -> Any:
        raise Unavailable("away")

    monkeypatch.setattr("holdfast.guard.audit.gathered.EVERY", 0.01)
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(here.store, "unit", away)
            here.audit.denied("door", "closed", actor="eve")
            await here.audit.flush()
    [record] = await trail(here)
    assert (record.action, record.changes) == ("door", '{"times":2}')


async def test_without_keys_what_is_private_is_left_out(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        async with hold.unit(tenant=ALL) as unit:
            await unit[User].add(User(external_id="u", email="ada@example.com"))
        [record] = await trail(hold)
        assert msgspec.json.decode(record.changes or "")["email"] == "private"
        assert record.sealed is None
    production = msgspec.structs.replace(settings, environment="production")
    with pytest.raises(ConfigurationError, match="HOLDFAST_AUDIT_KEYS"):
        await Holdfast.open(settings=production, metadata=accounts.metadata, migrate=False, follow=True)


async def test_who_is_shown_the_journal_sees_nothing_private(here: Holdfast) -> None:
    start = await here.journal.make_tick()
    async with here.unit(tenant="north") as unit:
        await unit[Patient].add(patient())
        await here.audit.record(unit, "export", private={"x": "Ada"})
    masked = masking(here.models)
    upto = await here.journal.make_tick()
    shown = [change async for page in here.journal.read(start, upto) for change in page.changes]
    assert "Ada" in str(shown)
    assert "Ada" not in str(list(map(masked, shown)))
    assert "'ward': 'A'" in str(list(map(masked, shown)))


async def test_raw_sql_may_say_anything_and_the_trail_goes_on(hold: Holdfast) -> None:
    odd = "a\ufffdé" * 2_000
    async with hold.unit(actor=odd, tenant="north", request_id=odd) as unit:
        await unit[Patient].add(patient(ward=odd, name=odd))
        await unit.emit("audit.recorded", data={"action": 5})
        await unit.emit("audit.recorded", data=None)
    record, *malformed = sorted(await trail(hold), key=lambda one: one.action, reverse=True)
    assert len(record.actor or "") == 255
    assert "sha256" in (record.changes or "")
    assert [one.action for one in malformed] == ["audit.malformed"] * 2
    assert not (await hold.audit.verify()).faults


async def test_what_cannot_be_recorded_is_refused(sqlite_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=accounts.metadata) as hold:
        for refused, told in (
            (hold.audit.record(None, ""), "action"),
            (hold.audit.record(None, "x", outcome="perhaps"), "outcome"),  # type: ignore[arg-type]
            (hold.audit.record(None, "x", details={"much": "x" * 70_000}), "65,536"),
        ):
            with pytest.raises(InvalidValue, match=told):
                await refused
        with pytest.raises(InvalidValue, match="request_id"):
            async with hold.unit() as unit:
                await hold.audit.origin(unit, Origin(ip="10.0.0.1"))
    with pytest.raises(ConfigurationError, match="audited_patients: audited, and no model keeps the trail"):
        Holdfast(settings_for(sqlite_url), metadata=METADATA)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (lambda: Policy(Audited(tenant="nowhere")), "nowhere"),
        (lambda: Policy(Audited(subject="name"), secret=("name",)), "kept secret"),
        (lambda: Policy(Audited(skip="name")), "several columns"),  # type: ignore[arg-type]
        (lambda: Policy(Audited(), capture=False), "capture=False"),
        (lambda: Policy(Audited(called={"reset": "x"})), "names an operation"),
        (lambda: Policy(Audited(), Audited()), "twice"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(policy: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):

        class Refused(Model):
            metadata = MetaData()
            __tablename__ = "refused"
            __policy__ = policy()
            name: Mapped[str]


def test_an_audited_table_refuses_truncate() -> None:
    assert not Patient.__policy__.truncate
    assert Policy().truncate
    assert AppendOnly.refuses_truncate is False
