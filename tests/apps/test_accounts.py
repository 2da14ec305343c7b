"""The tables of the accounts app refuse what they should, and users are found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import (
    ApiKey,
    BillingEvent,
    Contact,
    Organization,
    OrganizationMember,
    Session,
    UsageLog,
    User,
    UserProfile,
)
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.apps.accounts.users import (
    find_by_address,
    find_by_email,
    find_by_external_id,
    update_last_login,
    user_stats,
)
from holdfast.errors import Conflict, InvalidValue, NotFound, WrongTenant
from tests.backends import settings_for


@pytest.fixture(params=("sqlite", "postgres"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    url = request.getfixturevalue(f"{request.param}_url")
    async with await Holdfast.open(settings=settings_for(url), metadata=accounts.metadata) as hold:
        yield hold


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_id": "x", "tier": "gold"},
        {},
        {"address": "0xabc"},
        {"external_id": "x", "chain_id": 1},
    ],
)
async def test_a_user_is_known_somewhere_and_has_a_tier(hold: Holdfast, wrong: dict[str, Any]) -> None:
    with pytest.raises((Conflict, InvalidValue)):
        async with hold.unit(tenant=ALL) as unit:
            await unit[User].add(User(**wrong))


async def test_users_are_found_and_are_who_they_say_once(hold: Holdfast) -> None:
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="user_1", email="ada@example.com", address="0xada", chain_id=1))
        bob = await unit[User].add(User(address="0xada", chain_id=10))
    async with hold.read(tenant=ALL) as unit:
        for found in (
            await find_by_external_id(unit, "user_1"),
            await find_by_email(unit, "ada@example.com"),
            await find_by_address(unit, "0xada", 1),
        ):
            assert found is not None
            assert found.id == ada.id
        other = await find_by_address(unit, "0xada", 10)
        assert other is not None
        assert other.id == bob.id
        assert await find_by_address(unit, "0xada", 2) is None
    for taken in (
        {"external_id": "user_1"},
        {"email": "ada@example.com", "external_id": "y"},
        {"address": "0xada", "chain_id": 1},
    ):
        with pytest.raises(Conflict):
            async with hold.unit(tenant=ALL) as unit:
                await unit[User].add(User(**taken))


async def test_what_belongs_to_a_user_goes_with_him_and_what_was_billed_stays(hold: Holdfast) -> None:
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="user_1"))
        acme = await unit[Organization].add(Organization(name="Acme"))
        await unit[UserProfile].add(UserProfile(user_id=ada.id, preferences={"theme": "dark"}))
        await unit[Contact].add(Contact(user_id=ada.id, name="Bob", address="0xb0b", chain_id=1))
        await hold.sessions.begin(unit, ada.id)
        await unit[BillingEvent].add(BillingEvent(user_id=ada.id, event_type="payment_success", amount_cents=500))
        await unit[OrganizationMember].add(OrganizationMember(org_id=acme.id, user_id=ada.id, role="owner"))
        made = await create_api_key(hold, unit, name="ci", user_id=ada.id, org_id=acme.id)
        await unit[UsageLog].add(
            UsageLog(user_id=ada.id, api_key_id=made.row.id, endpoint="/v1/agents", method="GET", status_code=200)
        )
    async with hold.read(tenant=ALL) as unit:
        stats = await user_stats(unit, ada.id)
        assert (stats.organizations, stats.api_keys, stats.requests, stats.last_login_at) == (1, 1, 1, None)
        with pytest.raises(NotFound):
            await user_stats(unit, made.row.id)
    with pytest.raises(WrongTenant):
        async with hold.read() as unit:
            await user_stats(unit, ada.id)
    async with hold.unit(tenant=ALL) as unit:
        await update_last_login(unit, ada.id)
        assert (await user_stats(unit, ada.id)).last_login_at is not None
    async with hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM users")
    async with hold.read(tenant=ALL) as unit:
        for model in (UserProfile, Contact, Session, ApiKey, OrganizationMember):
            assert await unit[model].count() == 0
        [billed], [used] = await unit[BillingEvent].list(), await unit[UsageLog].list()
        assert billed.user_id is None
        assert (used.user_id, used.api_key_id) == (None, None)


async def test_a_member_has_a_role_once(hold: Holdfast) -> None:
    async with hold.unit(tenant=ALL) as unit:
        ada = await unit[User].add(User(external_id="user_1"))
        acme = await unit[Organization].add(Organization(name="Acme"))
    for role in ("boss", "owner", "member"):
        try:
            async with hold.unit(tenant=acme.id.hex) as unit:
                await unit[OrganizationMember].add(OrganizationMember(org_id=acme.id, user_id=ada.id, role=role))
        except (Conflict, InvalidValue):
            assert role != "owner"
        else:
            assert role == "owner"
