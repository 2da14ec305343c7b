"""Webhooks of Stripe and Clerk: only theirs are taken, each once, and what they tell ends where it should."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from svix.webhooks import Webhook

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import BillingEvent, Organization, OrganizationMember, User, WebhookEvent, webhooks
from holdfast.apps.accounts.users import find_by_external_id
from holdfast.errors import ConfigurationError
from holdfast.http import create_app
from tests.backends import settings_for
from tests.http.conftest import client_of

CLERK = "whsec_" + base64.b64encode(b"c" * 32).decode()
STRIPE = "whsec_" + "s" * 32
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
_numbers = itertools.count(1)


class Senders:
    """Clerk and Stripe."""

    def __init__(self, hold: Holdfast, client: httpx.AsyncClient) -> None:
        self.hold, self.client = hold, client

    async def clerk(
        self, kind: str, data: dict[str, Any], *, at: dt.datetime = NOW, event_id: str = "", **wrong: Any
    ) -> httpx.Response:
        event_id = event_id or f"msg_{next(_numbers)}"
        body = json.dumps({"type": kind, "data": data, "object": "event", "timestamp": int(at.timestamp() * 1000)})
        sent = wrong.get("sent", dt.datetime.now(dt.UTC))
        headers = {
            "svix-id": event_id,
            "svix-timestamp": str(int(sent.timestamp())),
            "svix-signature": Webhook(wrong.get("secret", CLERK)).sign(event_id, sent, body),
        } | wrong.get("headers", {})
        return await self.client.post("/webhooks/clerk", content=wrong.get("body", body), headers=headers)

    async def stripe(
        self, kind: str, data: dict[str, Any], *, at: dt.datetime = NOW, event_id: str = "", **wrong: Any
    ) -> httpx.Response:
        event_id = event_id or f"evt_{next(_numbers)}"
        body = json.dumps({"id": event_id, "type": kind, "created": int(at.timestamp()), "data": {"object": data}})
        stamp = int(wrong.get("sent", time.time()))
        signed = f"{stamp}.{wrong.get('signed', body)}".encode()
        digest = hmac.new(wrong.get("secret", STRIPE).encode(), signed, hashlib.sha256).hexdigest()
        headers = {"stripe-signature": f"t={stamp},v1={digest}"} | wrong.get("headers", {})
        return await self.client.post("/webhooks/stripe", content=wrong.get("body", body), headers=headers)

    async def settled(self) -> None:
        """Return when what was taken in is applied, or put aside."""
        await self.hold.journal.wait_until(await self.hold.journal.make_tick(), "on:accounts.webhooks")

    async def user(self, external_id: str) -> User | None:
        async with self.hold.read(tenant=ALL) as unit:
            return await find_by_external_id(unit, external_id)

    async def kept(self) -> int:
        async with self.hold.read(tenant=ALL) as unit:
            return await unit[WebhookEvent].count()


@pytest.fixture(params=("sqlite", "postgres"))
async def senders(request: pytest.FixtureRequest) -> AsyncIterator[Senders]:
    url = request.getfixturevalue(f"{request.param}_url")
    settings = settings_for(url, stripe_webhook_secret=STRIPE, clerk_webhook_secret=CLERK)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            yield Senders(hold, client)
        await app.state.live.close()


def ada(**values: Any) -> dict[str, Any]:
    addresses = [{"id": "e1", "email_address": "old@example.com"}, {"id": "e2", "email_address": "ada@example.com"}]
    return {
        "id": "user_ada",
        "first_name": "Ada",
        "last_name": None,
        "email_addresses": addresses,
        "primary_email_address_id": "e2",
    } | values


async def test_a_user_is_made_changed_and_gone_whatever_the_order(senders: Senders) -> None:
    told = [
        ("user.created", ada(first_name="A"), 0),
        ("user.updated", ada(first_name="Ad"), 1),
        ("user.updated", ada(), 2),
    ]
    for number, order in enumerate(itertools.permutations(told)):
        for kind, data, minutes in order:
            data = data | {"id": f"user_{number}", "email_addresses": []}
            answer = await senders.clerk(kind, data, at=NOW + dt.timedelta(minutes=minutes))
            assert answer.status_code == 202
    await senders.settled()
    for number in range(6):
        user = await senders.user(f"user_{number}")
        assert user is not None
        assert (user.first_name, user.is_active) == ("Ada", True)
    gone = [*told, ("user.deleted", {"id": "user_ada", "deleted": True}, 3)]
    random.Random(7).shuffle(gone)
    for kind, data, minutes in gone:
        await senders.clerk(kind, data, at=NOW + dt.timedelta(minutes=minutes))
    await senders.settled()
    user = await senders.user("user_ada")
    assert user is not None
    assert not user.is_active


async def test_the_endpoints_are_described(senders: Senders) -> None:
    document = (await senders.client.get("/openapi.json")).json()
    validate(document)
    assert {"/webhooks/clerk", "/webhooks/stripe"} <= set(document["paths"])


async def test_what_is_sent_again_is_applied_once(senders: Senders) -> None:
    for expected in (202, 200, 200):
        assert (await senders.clerk("user.created", ada(), event_id="msg_same")).status_code == expected
    answers = await asyncio.gather(
        *(
            senders.stripe("invoice.paid", {"customer": "cus_1", "amount_paid": 500}, event_id="evt_same")
            for _ in range(5)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 202]
    await senders.settled()
    assert await senders.kept() == 2
    async with senders.hold.read(tenant=ALL) as unit:
        [bill] = await unit[BillingEvent].list()
    assert (bill.amount_cents, bill.status, bill.stripe_event_id) == (500, "completed", "evt_same")
    user = await senders.user("user_ada")
    assert user is not None
    assert user.email == "ada@example.com"


async def test_members_come_and_go(senders: Senders) -> None:
    member = {"organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_ada"}, "role": "org:admin"}
    await senders.clerk("user.created", ada())
    await senders.clerk("organization.created", {"id": "org_1", "name": "Acme", "slug": "acme"})
    await senders.clerk("organizationMembership.created", member)
    await senders.settled()
    async with senders.hold.read(tenant=ALL) as unit:
        [kept] = await unit[OrganizationMember].list()
        assert kept.role == "admin"
    later = NOW + dt.timedelta(minutes=1)
    await senders.clerk("organizationMembership.updated", member | {"role": "org:member"}, at=later)
    await senders.clerk("organizationMembership.updated", member, at=NOW)  # older
    await senders.settled()
    async with senders.hold.read(tenant=ALL) as unit:
        [kept] = await unit[OrganizationMember].list()
        assert kept.role == "member"
    await senders.clerk("organizationMembership.deleted", member, at=later)
    await senders.clerk("organizationMembership.created", member, at=NOW)  # who was removed does not come back
    await senders.clerk("organization.deleted", {"id": "org_1"}, at=later)
    await senders.settled()
    async with senders.hold.read(tenant=ALL) as unit:
        assert await unit[OrganizationMember].count() == 0
        [acme] = await unit[Organization].list()
        assert (acme.is_active, acme.slug) == (False, "acme")


async def test_a_subscription_gives_a_tier_and_takes_it(senders: Senders) -> None:
    async with senders.hold.unit(tenant=ALL) as unit:
        await unit[User].add(User(external_id="user_ada", stripe_customer_id="cus_ada"))
        await unit[Organization].add(Organization(external_id="org_1", name="Acme"))
    mine = {"object": "subscription", "id": "sub_1", "customer": "cus_ada", "status": "active", "metadata": {}}
    theirs = mine | {"id": "sub_2", "customer": "cus_x", "metadata": {"org_id": "org_1", "tier": "enterprise"}}
    await senders.stripe("customer.subscription.created", mine | {"metadata": {"tier": "pro"}})
    await senders.stripe("customer.subscription.created", theirs)
    await senders.settled()
    user = await senders.user("user_ada")
    assert user is not None
    assert user.tier == "pro"
    async with senders.hold.read(tenant=ALL) as unit:
        [acme] = await unit[Organization].list()
        assert (acme.tier, acme.stripe_subscription_id) == ("enterprise", "sub_2")
    later = NOW + dt.timedelta(days=1)
    await senders.stripe("customer.subscription.deleted", theirs | {"metadata": {}}, at=later)
    await senders.stripe("customer.subscription.updated", theirs)  # older
    await senders.stripe("invoice.payment_failed", {"customer": "cus_ada", "amount_due": 700, "currency": "eur"})
    await senders.settled()
    async with senders.hold.read(tenant=ALL) as unit:
        [acme] = await unit[Organization].list()
        assert acme.tier == "free"
        bills = await unit[BillingEvent].list()
        assert len(bills) == 5
        [failed] = [bill for bill in bills if bill.status == "failed"]
        assert (failed.user_id, failed.amount_cents, failed.currency) == (user.id, 700, "EUR")


async def test_what_came_before_a_handler_ran_is_applied_by_hand(senders: Senders) -> None:
    async with senders.hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM webhook_events")
    await senders.clerk("user.created", ada())
    await senders.settled()
    async with senders.hold.unit(tenant=ALL) as unit:
        await unit.execute("UPDATE webhook_events SET applied_at = NULL")
        await unit.execute("DELETE FROM users")
    member = {"organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_ada"}, "role": "org:admin"}
    await senders.clerk("organizationMembership.created", member)
    seen: list[tuple[int, int]] = []
    assert await webhooks.replay(senders.hold, progress=lambda *counts: seen.append(counts)) == (1, 1)
    assert seen == [(1, 0), (1, 1)]
    assert await senders.user("user_ada") is not None
    assert await webhooks.replay(senders.hold) == (0, 1)
    await senders.clerk("user.created", ada(id="user_twin"))  # with an email address that is another's
    assert await webhooks.replay(senders.hold) == (0, 2)


async def test_what_cannot_be_applied_is_put_aside_and_applied_when_it_can(senders: Senders) -> None:
    member = {"organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_ada"}, "role": "org:admin"}
    await senders.clerk("organizationMembership.created", member)  # before there is anybody
    await senders.clerk("user.created", ada())
    await senders.clerk("nobody.knows", {"id": "x"})
    await senders.settled()
    assert await senders.user("user_ada") is not None
    [letter] = await senders.hold.journal.dead_letters("on:accounts.webhooks")
    assert "not there yet" in letter.error
    await senders.clerk("organization.created", {"id": "org_1", "name": "Acme"})
    await senders.settled()
    await senders.hold.journal.retry("on:accounts.webhooks")
    async with asyncio.timeout(30):
        while True:
            async with senders.hold.read(tenant=ALL) as unit:
                if await unit[OrganizationMember].count():
                    break
            await asyncio.sleep(0.05)


OF_NOBODY: dict[str, list[dict[str, Any]]] = {
    "clerk": [
        {"secret": "whsec_" + base64.b64encode(b"x" * 32).decode()},
        {"sent": dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)},
        {"sent": dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)},
        {"body": "{}"},
        {"body": "[]"},
        {"body": ""},
        {"body": b"\xff\xfe"},
        {"headers": {"svix-signature": "v1"}},
        {"headers": {"svix-signature": ""}},
        {"headers": {"svix-signature": "v1,====="}},
        {"headers": {"svix-timestamp": "nonsense"}},
        {"headers": {"svix-timestamp": "9" * 40}},
        {"headers": {"svix-id": ""}},
    ],
    "stripe": [
        {"secret": "whsec_" + "x" * 32},
        {"sent": time.time() - 3_600},
        {"sent": time.time() + 3_600},
        {"body": "{}"},
        {"signed": "[]", "body": "[]"},
        {"signed": '{"id": 1}', "body": '{"id": 1}'},
        {"body": b"\xff\xfe"},
        {"headers": {"stripe-signature": ""}},
        {"headers": {"stripe-signature": "t=,v1="}},
        {"headers": {"stripe-signature": "v1"}},
        {"headers": {"stripe-signature": "t=" + "9" * 40 + ",v1=00"}},
    ],
}


async def test_what_is_of_nobody_who_may_tell_is_refused(senders: Senders) -> None:
    for wrong in OF_NOBODY["clerk"]:
        answer = await senders.clerk("user.created", ada(), **wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), wrong
    for wrong in OF_NOBODY["stripe"]:
        answer = await senders.stripe("invoice.paid", {}, **wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), wrong
    assert await senders.kept() == 0


async def test_without_a_secret_there_is_no_endpoint_and_a_wrong_one_is_told_at_once(sqlite_url: str) -> None:
    async with (
        await Holdfast.open(settings=settings_for(sqlite_url), metadata=accounts.metadata) as hold,
        client_of(create_app(hold)) as client,
    ):
        assert (await client.post("/webhooks/stripe")).status_code == 404
    for wrong in ({"stripe_webhook_secret": "sk_live_x"}, {"clerk_webhook_secret": "whsec_#"}):
        hold = Holdfast(settings_for(sqlite_url, **wrong), metadata=accounts.metadata)
        with pytest.raises(ConfigurationError, match="WEBHOOK_SECRET") as refused:
            create_app(hold)
        assert str(next(iter(wrong.values()))) not in str(refused.value)
