"""What is kept of a person is found, exported, and gone when he is erased; of everybody else nothing is touched."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select, text

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import (
    AuditLog,
    BillingEvent,
    Contact,
    Organization,
    OrganizationMember,
    UsageLog,
    User,
    UserProfile,
    WebhookEvent,
)
from holdfast.errors import InvalidValue, NotFound
from holdfast.guard.idempotency import answers, caller_of
from holdfast.journal import Change
from holdfast.journal.dead_letters import DeadLetters
from holdfast.operate.privacy import Erasure, Forgotten, PersonErased, privacy, verify_export
from holdfast.store import Store
from tests.backends import settings_for
from tests.operate.test_isolation import login_of

TWO_BACKENDS = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
TOLD = "ada-and-nobody-else"
"""Is in everything private that is written about Ada."""


class Person(NamedTuple):
    id: UUID
    mail: str
    told: str


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    settings = settings_for(database_url, encryption_keys="k1:" + "a" * 43 + "=")
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        yield hold


async def write_person(hold: Holdfast, name: str, told: str) -> Person:
    """A person with something in every table."""
    mail = f"{name}-{told}@example.com"
    user = User(external_id=f"user_{name}1", email=mail, first_name=told, stripe_customer_id=f"cus_{name}1")
    async with hold.unit(tenant=ALL, actor="test") as unit:
        unit.add(user, org := Organization(name=f"{name}'s"))
        await unit.flush()
        whose: dict[str, Any] = {"user_id": user.id}
        unit.add(
            UserProfile(**whose, display_name=told, bio=told, preferences={"likes": told}),
            *(Contact(**whose, name=told, address=f"0x{number}{told}", chain_id=1) for number in range(3)),
            OrganizationMember(**whose, org_id=org.id),
            UsageLog(**whose, created_at=NOW, endpoint="/x", method="GET", status_code=500, error_message=told),
            BillingEvent(**whose, event_type="invoice", amount_cents=500, details={"name": told}),
        )
        for number, payload in enumerate(({"a": [{"email": mail}]}, {"a": "another's"}, {"customer": f"cus_{name}1"})):
            event_id = f"{name} {number}"
            unit.add(
                WebhookEvent(source="clerk", event_id=event_id, kind="x", occurred_at=NOW, payload={**payload, "n": 1})
            )
        connection = await unit.connection()
        kept = {"key": "k", "request": b"", "status": 201, "headers": b"{}", "digest": b"", "ends": 2**40}
        await connection.execute(answers.insert().values(caller=caller_of(user.id), body=told.encode(), **kept))
        await hold.keys.create(unit, user_id=user.id, name="k")
        await hold.sessions.begin(unit, user_id=user.id, details={"agent": told})
        await hold.consents.give(unit, user.id, "news", text="We write to you.", source="web")
    return Person(user.id, mail, told)


async def everything(hold: Holdfast) -> dict[str, list[Any]]:
    """Every row of every table of the database, house tables too, by table."""
    found: dict[str, list[Any]] = {}
    async with hold.unit(tenant=ALL) as unit:
        if hold.store.dialect == "sqlite":
            names = (await unit.execute("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        else:
            asked = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            names = (await unit.execute(asked)).scalars().all()
        for name in names:
            found[name] = [tuple(row) for row in await unit.execute(f'SELECT * FROM "{name}"')]
    return found


def said(rows: dict[str, list[Any]], what: str) -> set[str]:
    """The tables in which something is to be read."""
    return {name for name, each in rows.items() for row in each if what in repr(row)}


async def forget_journal(hold: Holdfast, erasure: Erasure) -> None:
    """Have other things written, and the journal pruned, until it has forgotten what was before."""
    assert erasure.edge is not None
    async with asyncio.timeout(60):
        while not await hold.journal.is_behind(erasure.edge):
            async with hold.unit(tenant=ALL) as unit:
                unit.add(Organization(name="another"))
            await hold.journal.make_tick()
            await asyncio.sleep(0.05)
            await hold.journal.prune(keep=0)


async def test_a_person_is_gone_from_everywhere_and_nobody_else(hold: Holdfast) -> None:
    ada = await write_person(hold, "ada", TOLD)
    await write_person(hold, "bob", "bobs-own")
    before = await everything(hold)
    assert {"users", "user_profiles", "contacts", "usage_logs", "sessions", "holdfast_answers"} <= said(before, TOLD)
    erasure = await hold.privacy.erase(ada.id, actor=str(ada.id), reason="I want to be forgotten")
    assert erasure.state == "erased"
    assert erasure.erased == {
        "holdfast_subject_keys": 1,
        "webhook_events": 2,
        "usage_logs": 1,
        "billing_events": 1,
        "sessions": 1,
        "contacts": 3,
        "user_profiles": 1,
        "organization_members": 1,
        "api_keys": 1,
        "users": 1,
        "holdfast_answers": 1,
    }
    after = await everything(hold)
    journal = {name for name in after if name.startswith("holdfast_journal")}
    for private in (TOLD, ada.mail, "user_ada1", "cus_ada1"):
        assert said(after, private) <= journal
    # What is kept says no more of him than his key.
    assert len(after["consents"]) == len(after["billing_events"]) == len(after["usage_logs"]) == 2
    assert said(after, "bobs-own") == said(before, "bobs-own")
    assert len(after["webhook_events"]) == 6
    assert len(after["users"]) == len(after["api_keys"]) == len(after["sessions"]) == 1

    # Nothing more happens until the journal has forgotten; then it is gone from there too, and done.
    assert [one.state for one in await hold.privacy.resume()] == ["erased"]
    await forget_journal(hold, erasure)
    [done] = await hold.privacy.resume()
    assert (done.id, done.state, done.erased) == (erasure.id, "done", erasure.erased)
    assert said(await everything(hold), TOLD) == said(await everything(hold), ada.mail) == set()
    assert await hold.privacy.resume() == []
    assert [one.id for one in await hold.privacy.erasures(subject=ada.id)] == [erasure.id]
    with pytest.raises(NotFound, match="nothing is kept"):
        await hold.privacy.erase(uuid4())


async def test_what_is_kept_of_a_person_can_be_taken_along(hold: Holdfast, tmp_path: Path) -> None:
    ada = await write_person(hold, "ada", TOLD)
    await write_person(hold, "bob", "bobs-own")
    await hold.audit.caught_up()
    exported = await hold.privacy.export(ada.id, tmp_path / "ada.zip", actor="support")
    manifest = verify_export(tmp_path / "ada.zip", sha256=exported.sha256)
    with zipfile.ZipFile(tmp_path / "ada.zip") as packed:
        found = {name: json.loads(packed.read(name)) for name in packed.namelist()}
    counted = {name: len(rows) for name, rows in found.items() if name != "manifest.json"}
    assert counted == {name: told.rows for name, told in manifest.files.items()}
    counted = {name.removeprefix("rows/"): count for name, count in counted.items()}
    assert counted.pop("audit_trail.json") == 5  # user, membership, key, session, consent
    assert counted == {
        "users.json": 1,
        "user_profiles.json": 1,
        "contacts.json": 3,
        "organization_members.json": 1,
        "api_keys.json": 1,
        "sessions.json": 1,
        "usage_logs.json": 1,
        "billing_events.json": 1,
        "consents.json": 1,
    }
    [user] = found["rows/users.json"]
    assert (user["id"], user["email"], user["first_name"]) == (str(ada.id), ada.mail, TOLD)
    # What was sealed about her is readable to her, and nothing of another or secret is there.
    assert ada.mail in json.dumps([record.get("private") for record in found["audit_trail.json"]])
    assert "bobs-own" not in json.dumps(found)
    assert manifest.files["rows/api_keys.json"].left_out == ["lookup", "pepper", "slow"]
    assert not {"lookup", "pepper", "slow"} & found["rows/api_keys.json"][0].keys()
    assert manifest.files["rows/users.json"].columns["email"] == "private"
    assert "evidence" in (manifest.files["rows/consents.json"].kept or "")
    # That it was made is on record, with the hash by which it is known again.
    await hold.audit.caught_up()
    async with hold.read(tenant=ALL) as unit:
        [record] = (await unit.execute(select(AuditLog).where(AuditLog.action == "privacy.export"))).scalars()
        assert (record.actor, record.target_id) == ("support", str(ada.id))
        assert json.loads(record.changes)["sha256"] == exported.sha256


@TWO_BACKENDS
async def test_who_is_not_known_has_nothing_to_take_along(hold: Holdfast, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing is kept of"):
        await hold.privacy.export(uuid4(), tmp_path / "x.zip")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".zip")]
    (tmp_path / "x.zip").write_bytes(b"mine")
    with pytest.raises(InvalidValue, match="cannot be written: File exists"):
        await hold.privacy.export(uuid4(), tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == b"mine"
    for subject in ("", "a" * 256, "a\nb"):
        with pytest.raises(InvalidValue, match="1 to 255 characters"):
            await hold.privacy.erase(subject)
    with pytest.raises(InvalidValue, match="a reason has 1 to 500"):
        await hold.privacy.erase(uuid4(), reason="x" * 501)


@TWO_BACKENDS
async def test_dead_letters_lose_what_is_private(hold: Holdfast) -> None:
    ada = await write_person(hold, "ada", TOLD)
    async with hold.unit(tenant=ALL) as unit:
        user = await unit[User].get(ada.id)

    def letter(seq: int, table: str, key: str | None, new: dict[str, Any]) -> Change:
        op: Any = "event" if key is None else "update"
        return Change(seq, 1, table, op, key, None, None, None, None, new, NOW)

    kept = [
        letter(1, "users", str(ada.id), {"id": str(ada.id), "email": ada.mail, "tier": "free"}),
        letter(2, "users", str(uuid4()), {"email": "bob@example.com"}),
        letter(4, "contacts", str(uuid4()), {"user_id": str(ada.id), "name": "Eve", "chain_id": 1}),
        letter(3, "signed_up", None, {"tags": [], "data": {"who": {"mail": ada.mail.upper()}, "plan": "pro"}}),
    ]
    await DeadLetters(hold.store, "mailer").park(kept, f"cannot mail {ada.mail}")
    erasure = await hold.privacy.erase(ada.id)
    assert erasure.erased["holdfast_dead_letters"] == 3
    letters = await hold.journal.dead_letters("mailer")
    assert [one.change.new for one in letters] == [
        {"id": str(ada.id), "email": None, "tier": "free"},
        {"email": "bob@example.com"},
        {"tags": [], "data": {"who": {"mail": "erased"}, "plan": "pro"}},
        {"user_id": str(ada.id), "name": None, "chain_id": 1},
    ]
    assert [ada.mail in one.error for one in letters] == [False, True, False, False]
    assert user.email == ada.mail


@TWO_BACKENDS
async def test_a_place_that_fails_is_asked_again_and_holds_nobody_up(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await write_person(hold, "ada", TOLD), await write_person(hold, "bob", "bobs-own")
    asked: list[str] = []
    heard: list[str] = []
    both = asyncio.Event()

    @hold.on(PersonErased)
    async def hear(told: PersonErased) -> None:
        heard.append(told.subject)
        if len(heard) == 2:
            both.set()

    await hold.follow()

    async def elsewhere(who: Forgotten) -> Counter[str]:
        asked.append(who.subject)
        assert ada.mail in who.marks or bob.mail in who.marks
        if len(asked) <= 2:
            raise RuntimeError("the mailing list does not answer")
        return Counter({"mailing list": 1})

    monkeypatch.setattr(privacy, "declared", {"newsletter": elsewhere})
    waiting = await hold.privacy.erase(ada.id)
    assert (waiting.state, waiting.erased["users"]) == ("asked", 1)
    assert waiting.failure == "newsletter: the mailing list does not answer"
    assert await hold.privacy.erasures(is_open=True) == [waiting]
    # Asked for once more, it is the same one: what is gone already is found gone, and the rest goes on.
    [failed] = await hold.privacy.resume()
    assert (failed.id, failed.failure) == (waiting.id, waiting.failure)
    assert (await hold.privacy.erase(bob.id)).state == "erased"
    ended = await hold.privacy.erase(ada.id)
    assert (ended.id, ended.state, ended.failure, ended.erased["mailing list"]) == (waiting.id, "erased", None, 1)
    assert asked == [str(ada.id), str(ada.id), str(bob.id), str(ada.id)]
    async with asyncio.timeout(30):
        await both.wait()
    assert heard == [str(bob.id), str(ada.id)]


@TWO_BACKENDS
async def test_after_a_restore_the_log_forgets_them_again(hold: Holdfast) -> None:
    ada = await write_person(hold, "ada", TOLD)
    erasure = await hold.privacy.erase(ada.id)
    await forget_journal(hold, erasure)
    [done] = await hold.privacy.resume()
    log = [done, msgspec.structs.replace(done, subject=str(uuid4()))]
    # The backup was made before: she is there again.
    async with hold.unit(tenant=ALL) as unit:
        unit.add(User(id=ada.id, external_id="user_ada", email=ada.mail))
    [again] = await hold.privacy.replay(log, actor="ops")
    assert (again.subject, again.erased, again.asked_by) == (str(ada.id), {"users": 1}, "ops")
    assert again.id != done.id


async def test_where_rows_are_secured_a_login_that_serves_exports_and_erases(postgres_url: str, tmp_path: Path) -> None:
    migrating, serving = await login_of(postgres_url, "migrating"), await login_of(postgres_url, "serving")
    store = Store(settings_for(postgres_url))
    async with store.connect(write=True) as connection:
        await connection.execute(text("GRANT CREATE ON SCHEMA public TO holdfast_owner"))
    await store.close()
    async with await Holdfast.open(settings=migrating, metadata=accounts.metadata) as hold:
        assert not await hold.pending()
    async with await Holdfast.open(settings=serving, metadata=accounts.metadata, migrate=False, follow=True) as hold:
        ada = await write_person(hold, "ada", TOLD)
        await DeadLetters(hold.store, "mailer").park(
            [Change(1, 1, "users", "update", str(ada.id), None, None, None, None, {"email": ada.mail}, NOW)], "x"
        )
        await hold.audit.caught_up()
        assert (await hold.privacy.export(ada.id, tmp_path / "ada.zip")).rows > 9
        erasure = await hold.privacy.erase(ada.id)
        assert (erasure.state, erasure.erased["users"], erasure.erased["holdfast_dead_letters"]) == ("erased", 1, 1)
        await forget_journal(hold, erasure)
        assert [one.state for one in await hold.privacy.resume()] == ["done"]


@TWO_BACKENDS
async def test_a_person_is_the_same_however_his_key_is_written(hold: Holdfast) -> None:
    ada = await write_person(hold, "ada", TOLD)
    await hold.audit.caught_up()
    erasure = await hold.privacy.erase(str(ada.id).upper())
    assert (erasure.subject, erasure.erased["holdfast_answers"]) == (str(ada.id), 1)
    async with hold.unit(tenant=ALL) as unit:
        assert not await hold.subject_keys.shred(unit, ada.id)  # it was the key that the trail has used
    assert [one.id for one in await hold.privacy.erasures(subject=ada.id.hex)] == [erasure.id]


@TWO_BACKENDS
async def test_what_came_since_has_the_journal_waited_for_once_more(hold: Holdfast) -> None:
    ada = await write_person(hold, "ada", TOLD)
    erasure = await hold.privacy.erase(ada.id)
    async with hold.unit(tenant=ALL) as unit:
        unit.add(User(id=ada.id, external_id="user_ada", email="ada2@example.com"))
        payload = {"email": "ada2@example.com"}
        unit.add(WebhookEvent(source="clerk", event_id="n", kind="x", occurred_at=NOW, payload=payload))
    await forget_journal(hold, erasure)
    [again] = await hold.privacy.resume()
    assert (again.state, again.erased["users"]) == ("erased", 2)
    assert again.erased["webhook_events"] == erasure.erased["webhook_events"] + 1
    assert (again.edge or 0) > (erasure.edge or 0)
    # Asked for by somebody, it does not wait for the journal.
    async with hold.unit(tenant=ALL) as unit:
        unit.add(User(id=ada.id, external_id="user_ada", email=ada.mail))
    again = await hold.privacy.erase(ada.id)
    assert (again.id, again.erased["users"]) == (erasure.id, 3)
    await forget_journal(hold, again)
    assert [one.state for one in await hold.privacy.resume()] == ["done"]
    assert said(await everything(hold), ada.mail) == set()


async def test_a_transaction_that_writes_late_is_waited_for(postgres_url: str) -> None:
    async with (
        await Holdfast.open(settings=settings_for(postgres_url), metadata=accounts.metadata, follow=True) as hold,
        hold.unit(tenant=ALL) as unit,
    ):
        unit.add(User(external_id="old"))
        await unit.flush()  # it has a number, and the journal has nothing of it that is committed
        edge = await hold.journal.edge()
        assert not await hold.journal.is_behind(edge)


async def test_whose_mail_is_a_word_has_nobody_elses_documents_blanked(sqlite_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=accounts.metadata) as hold:
        async with hold.unit(tenant=ALL) as unit:
            unit.add(odd := User(external_id="event", email="object", stripe_customer_id="n/a"))
            payload = {"object": "event", "type": "n/a", "data": {"event": "object"}}
            unit.add(WebhookEvent(source="stripe", event_id="1", kind="x", occurred_at=NOW, payload=payload))
        erasure = await hold.privacy.erase(odd.id)
        assert "webhook_events" not in erasure.erased
