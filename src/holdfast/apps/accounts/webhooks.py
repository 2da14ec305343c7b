"""What Clerk and Stripe tell of users, organisations and subscriptions, applied to the tables.

Webhooks come late, twice and out of order. Each is applied once (see `holdfast.guard.inbox`), and one that is of an
earlier time than what was applied last to the same row changes nothing. A deletion leaves a row that is not active, so
that what comes after it, and is older, does not bring the row back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import or_, select, tuple_

from holdfast.apps.accounts.models import (
    TIERS,
    BillingEvent,
    Organization,
    OrganizationMember,
    User,
    WebhookEvent,
)
from holdfast.errors import HoldfastError, InvalidValue, Unavailable
from holdfast.journal import Change, on
from holdfast.logs import get_logger
from holdfast.store import ALL, Unit

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

log = get_logger("holdfast.accounts")

_AT_ONCE = 200  # events that are read at a time
_ROLES = {"org:admin": "admin", "admin": "admin", "org:owner": "owner", "org:viewer": "viewer"}
_PAYS = ("active", "trialing", "past_due")  # of a subscription: whose tier is had


@on(WebhookEvent, op="insert", name="accounts.webhooks")
async def apply_webhook(change: Change, hold: Holdfast) -> None:
    """Apply a webhook that was put into the inbox; one of a kind that nobody knows changes nothing.

    It writes to every organisation's rows, which the handler's own unit may not. That it is called at least once does
    no harm: an event that was applied says so.
    """
    await _apply(hold, UUID(str(change.key)))


async def replay(
    hold: Holdfast, *, progress: Callable[[int, int], None] = lambda done, failed: None
) -> tuple[int, int]:
    """Apply what was not applied, the oldest first: what came before any handler ran, and what failed.

    Args:
        progress: told how many were applied, and how many failed, after each.

    Returns:
        How many were applied, and how many failed again; the log says why.

    Raises:
        Unavailable: the database cannot be reached; what was applied is.
    """
    done = failed = 0
    last: tuple[dt.datetime, UUID] | None = None
    while True:
        async with hold.read(tenant=ALL) as unit:
            waiting = unit[WebhookEvent].query().where(WebhookEvent.applied_at.is_(None))
            if last is not None:
                waiting = waiting.where(tuple_(WebhookEvent.received_at, WebhookEvent.id) > tuple_(*last))
            found = await unit[WebhookEvent].list(waiting.order_by("received_at", "id").limit(_AT_ONCE))
        for event in found:
            try:
                await _apply(hold, event.id)
                done += 1
            except Unavailable:
                raise
            except HoldfastError as error:
                failed += 1
                log.warning("webhook_not_applied", source=event.source, id=event.event_id, reason=str(error))
            progress(done, failed)
        if len(found) < _AT_ONCE:
            return done, failed
        last = found[-1].received_at, found[-1].id


async def _apply(hold: Holdfast, key: UUID) -> None:
    async with hold.unit(actor="webhooks", tenant=ALL) as unit:
        found = await unit.execute(select(WebhookEvent).where(WebhookEvent.id == key).with_for_update())
        event = found.scalars().first()
        if event is None or event.applied_at is not None:
            return
        apply = _APPLIED.get((event.source, event.kind))
        if apply is not None:
            await apply(unit, event)
        if event.source == "stripe":
            await _bill(unit, event)
        event.applied_at = dt.datetime.now(dt.UTC)


async def _user(unit: Unit, event: WebhookEvent) -> None:
    """`user.created`, `user.updated`."""
    data = event.payload
    user = await _user_of(unit, _text(data, "id"))
    if user is not None and _is_older(user.synced_at, event):
        return
    values: dict[str, Any] = {
        "email": _primary_email(data),
        "first_name": _text_or_none(data, "first_name"),
        "last_name": _text_or_none(data, "last_name"),
        "synced_at": event.occurred_at,
    }
    if user is None:
        await unit[User].add(User(external_id=_text(data, "id"), **values))
    elif user.is_active:
        await unit[User].update(user.id, **values)


async def _user_deleted(unit: Unit, event: WebhookEvent) -> None:
    """`user.deleted`: what is known of the person goes with the erasure of his data, not here."""
    external_id = _text(event.payload, "id")
    user = await _user_of(unit, external_id)
    if user is None:
        await unit[User].add(User(external_id=external_id, is_active=False, synced_at=event.occurred_at))
    elif not _is_older(user.synced_at, event):
        await unit[User].update(user.id, is_active=False, synced_at=event.occurred_at)


async def _organization(unit: Unit, event: WebhookEvent) -> None:
    """`organization.created`, `organization.updated`."""
    data = event.payload
    found = await _organization_of(unit, _text(data, "id"))
    if found is not None and _is_older(found.synced_at, event):
        return
    values: dict[str, Any] = {
        "name": _text(data, "name"),
        "slug": _text_or_none(data, "slug"),
        "synced_at": event.occurred_at,
    }
    if found is None:
        await unit[Organization].add(Organization(external_id=_text(data, "id"), **values))
    elif found.is_active:
        await unit[Organization].update(found.id, **values)


async def _organization_deleted(unit: Unit, event: WebhookEvent) -> None:
    """`organization.deleted`."""
    external_id = _text(event.payload, "id")
    found = await _organization_of(unit, external_id)
    if found is None:
        gone = Organization(external_id=external_id, name=external_id, is_active=False, synced_at=event.occurred_at)
        await unit[Organization].add(gone)
    elif not _is_older(found.synced_at, event):
        await unit[Organization].update(found.id, is_active=False, synced_at=event.occurred_at)


async def _membership(unit: Unit, event: WebhookEvent) -> None:
    """`organizationMembership.created`, `.updated`, `.deleted`; raises until both sides of it are there."""
    data = event.payload
    user_id = _text(_part(data, "public_user_data"), "user_id")
    org_id = _text(_part(data, "organization"), "id")
    user, organization = await _user_of(unit, user_id), await _organization_of(unit, org_id)
    if user is None or organization is None:
        raise InvalidValue(f"the user {user_id} or the organisation {org_id} is not there yet")
    members = unit[OrganizationMember]
    mine = members.query().where(OrganizationMember.org_id == organization.id, OrganizationMember.user_id == user.id)
    member = await members.first(mine)
    if member is not None and _is_older(member.synced_at, event):
        return
    if event.kind.endswith(".deleted"):
        if member is not None:
            await members.delete(member.id)
        return
    if await _was_removed_since(unit, event, user_id, org_id):
        return
    role = _ROLES.get(_text(data, "role"), "member")
    if member is None:
        made = OrganizationMember(org_id=organization.id, user_id=user.id, role=role, synced_at=event.occurred_at)
        await members.add(made)
    else:
        await members.update(member.id, role=role, synced_at=event.occurred_at)


async def _was_removed_since(unit: Unit, event: WebhookEvent, user_id: str, org_id: str) -> bool:
    """Whether the inbox knows that a membership ended after `event`: no row is left that could say so."""
    later = (
        unit[WebhookEvent]
        .query()
        .where(
            WebhookEvent.source == event.source,
            WebhookEvent.kind == "organizationMembership.deleted",
            WebhookEvent.occurred_at > event.occurred_at,
        )
    )
    async for one in unit[WebhookEvent].stream(later):
        parts = (one.payload.get("public_user_data"), "user_id"), (one.payload.get("organization"), "id")
        if [part.get(name) for part, name in parts if isinstance(part, dict)] == [user_id, org_id]:
            return True
    return False


async def _subscription(unit: Unit, event: WebhookEvent) -> None:
    """`customer.subscription.…`: whose it is gets the tier that its metadata name, or `free` when it is over."""
    data = event.payload
    named = _text_or_none(data.get("metadata") or {}, "tier")
    pays = event.kind != "customer.subscription.deleted" and data.get("status") in _PAYS
    tier = named if pays and named in TIERS else "free"
    if pays and named not in TIERS:
        raise InvalidValue(f"the subscription {data.get('id')} names the tier {named!r}; there are {', '.join(TIERS)}")
    values: dict[str, Any] = {"tier": tier, "billed_at": event.occurred_at}
    organization = await _paying_organization(unit, data)
    user = None if organization is not None else await _paying_user(unit, data)
    if organization is not None and not _is_older(organization.billed_at, event):
        await unit[Organization].update(organization.id, stripe_subscription_id=_text_or_none(data, "id"), **values)
    if user is not None and not _is_older(user.billed_at, event):
        await unit[User].update(user.id, **values)


async def _bill(unit: Unit, event: WebhookEvent) -> None:
    """Keep what was told of a payment or a subscription, whosever it is."""
    data = event.payload
    organization = await _paying_organization(unit, data)
    user = await _paying_user(unit, data)
    amount = data.get("amount_paid", data.get("amount_due", data.get("amount")))
    status = "failed" if event.kind.endswith("failed") else "completed"
    currency = _text_or_none(data, "currency") or "USD"
    await unit[BillingEvent].add(
        BillingEvent(
            user_id=None if user is None else user.id,
            org_id=None if organization is None else organization.id,
            event_type=event.kind[:50],
            stripe_event_id=event.event_id,
            amount_cents=amount if type(amount) is int else None,
            currency=currency.upper()[:3],
            status=status,
            processed_at=dt.datetime.now(dt.UTC),
            created_at=event.occurred_at,
        )
    )


async def _paying_organization(unit: Unit, data: dict[str, Any]) -> Organization | None:
    subscription = _text_or_none(data, "id" if data.get("object") == "subscription" else "subscription")
    named = _text_or_none(data.get("metadata") or {}, "org_id")
    conditions = []
    if subscription is not None:
        conditions.append(Organization.stripe_subscription_id == subscription)
    if named is not None:
        conditions.append(Organization.external_id == named)
    if not conditions:
        return None
    return await unit[Organization].first(unit[Organization].query().where(or_(*conditions)))


async def _paying_user(unit: Unit, data: dict[str, Any]) -> User | None:
    customer = _text_or_none(data, "customer")
    if customer is None:
        return None
    return await unit[User].first(unit[User].query().where(User.stripe_customer_id == customer))


async def _user_of(unit: Unit, external_id: str) -> User | None:
    return await unit[User].first(unit[User].query().where(User.external_id == external_id))


async def _organization_of(unit: Unit, external_id: str) -> Organization | None:
    return await unit[Organization].first(unit[Organization].query().where(Organization.external_id == external_id))


def _is_older(known: dt.datetime | None, event: WebhookEvent) -> bool:
    """Whether what is known is of a later time; of the same time the event that came last is taken."""
    return known is not None and event.occurred_at < known


def _primary_email(data: dict[str, Any]) -> str | None:
    addresses = [one for one in data.get("email_addresses") or () if isinstance(one, dict)]
    primary = [one for one in addresses if one.get("id") == data.get("primary_email_address_id")]
    return next((_text_or_none(one, "email_address") for one in (*primary, *addresses)), None)


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    if not isinstance(found, dict):
        raise InvalidValue(f"the event has no {name}")
    return found


def _text(data: dict[str, Any], name: str) -> str:
    found = _text_or_none(data, name)
    if found is None:
        raise InvalidValue(f"the event has no {name}")
    return found


def _text_or_none(data: dict[str, Any], name: str) -> str | None:
    found = data.get(name)
    return found if isinstance(found, str) and 0 < len(found) <= 255 else None


_APPLIED: dict[tuple[str, str], Callable[[Unit, WebhookEvent], Awaitable[None]]] = {
    ("clerk", "user.created"): _user,
    ("clerk", "user.updated"): _user,
    ("clerk", "user.deleted"): _user_deleted,
    ("clerk", "organization.created"): _organization,
    ("clerk", "organization.updated"): _organization,
    ("clerk", "organization.deleted"): _organization_deleted,
    ("clerk", "organizationMembership.created"): _membership,
    ("clerk", "organizationMembership.updated"): _membership,
    ("clerk", "organizationMembership.deleted"): _membership,
    ("stripe", "customer.subscription.created"): _subscription,
    ("stripe", "customer.subscription.updated"): _subscription,
    ("stripe", "customer.subscription.deleted"): _subscription,
}
