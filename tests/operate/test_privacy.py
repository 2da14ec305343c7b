"""What is kept of a person is found, exported, and gone when he is erased; of everybody else nothing is touched."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import (
    BillingEvent,
    Contact,
    Organization,
    OrganizationMember,
    UsageLog,
    User,
    UserProfile,
    WebhookEvent,
)
from holdfast.errors import NotFound
from holdfast.guard.idempotency import answers
from holdfast.operate.privacy import Erasure
from tests.backends import settings_for

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
    user = User(external_id=f"user_{name}", email=mail, first_name=told, stripe_customer_id=f"cus_{name}")
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
        for number, payload in enumerate(({"a": [{"email": mail}]}, {"a": "another's"}, {"customer": f"cus_{name}"})):
            event_id = f"{name} {number}"
            unit.add(
                WebhookEvent(source="clerk", event_id=event_id, kind="x", occurred_at=NOW, payload={**payload, "n": 1})
            )
        connection = await unit.connection()
        kept = {"key": "k", "request": b"", "status": 201, "headers": b"{}", "digest": b"", "ends": 2**40}
        await connection.execute(answers.insert().values(caller=f"user:{user.id}", body=told.encode(), **kept))
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
    for private in (TOLD, ada.mail, "user_ada", "cus_ada"):
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
