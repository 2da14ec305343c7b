"""Users as the rest of an application asks for them."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import msgspec

from holdfast.apps.accounts.models import ApiKey, OrganizationMember, UsageLog, User, may_have_keys
from holdfast.store import Unit


class UserStats(msgspec.Struct, frozen=True):
    """What a user has and does.

    Attributes:
        organizations: that he belongs to.
        api_keys: that he made and that open something.
        requests: in the last 30 days.
        member_since, last_login_at: times.
    """

    organizations: int
    api_keys: int
    requests: int
    member_since: dt.datetime
    last_login_at: dt.datetime | None


async def find_by_address(unit: Unit, address: str, chain_id: int) -> User | None:
    """The user of a wallet on a chain, or None."""
    return await unit[User].first(unit[User].query().where(User.address == address, User.chain_id == chain_id))


async def find_by_external_id(unit: Unit, external_id: str) -> User | None:
    """The user whom the auth provider knows by this, or None."""
    return await unit[User].first(unit[User].query().where(User.external_id == external_id))


async def find_by_email(unit: Unit, email: str) -> User | None:
    """The user with this email address, as it is kept, or None."""
    return await unit[User].first(unit[User].query().where(User.email == email))


async def update_last_login(unit: Unit, user_id: UUID) -> None:
    """Note that a user has signed in just now. NotFound: there is none."""
    await unit[User].update(user_id, last_login_at=dt.datetime.now(dt.UTC))


async def user_stats(unit: Unit, user_id: UUID) -> UserStats:
    """What a user has and does, in a unit that sees all organisations: `hold.read(tenant=ALL)`.

    Raises:
        NotFound: there is no such user. WrongTenant: the unit does not see all organisations.
    """
    user = await unit[User].get(user_id)
    now = dt.datetime.now(dt.UTC)
    keys, logs = unit[ApiKey], unit[UsageLog]
    alive = ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now))
    open_something = alive & may_have_keys(ApiKey.user_id, ApiKey.org_id)
    api_keys = await keys.count(keys.query().where(ApiKey.user_id == user_id, open_something))
    lately = UsageLog.created_at >= now - dt.timedelta(days=30)
    requests = await logs.count(logs.query().where(UsageLog.user_id == user_id, lately))
    members = unit[OrganizationMember]
    organizations = await members.count(members.query().where(OrganizationMember.user_id == user_id))
    return UserStats(organizations, api_keys, requests, user.created_at, user.last_login_at)
