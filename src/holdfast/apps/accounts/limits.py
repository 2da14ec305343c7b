"""How often who may call: by tier, by what an organisation may do in a month, and by what a key says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from holdfast.apps.accounts.models import Organization
from holdfast.guard.keys import KeyFacts
from holdfast.guard.keys.own_limits import own_limits
from holdfast.guard.limits import Decision, Limit
from holdfast.guard.limits.meter import Meter
from holdfast.guard.limits.tiers import FREE
from holdfast.store import ALL

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

MONTH = 30 * 86_400.0  # seconds: a window that moves, so that no first of a month lets through twice as many


async def hit(
    hold: Holdfast,
    *,
    user_id: UUID,
    org_id: UUID | None,
    tier: str,
    cost: int = 1,
    organization: Organization | None = None,
    key: KeyFacts | None = None,
) -> Decision:
    """Count a call of an organisation, or of a user without one, if it may pass.

    An organisation has beside the limits of its tier `max_requests_per_month`; while Redis is away nobody passes, for
    that is about money. A tier that has no limits of its own has those of `free`.

    Args:
        organization: the row of `org_id`, where the caller has it already.
        key: by which the call is made: it counts against the limits of the key, too.
    """
    if org_id is not None and organization is None:
        organization = await hold.cache[Organization].get(org_id, tenant=ALL)
    meter = meter_of(hold, user_id=user_id, org_id=org_id, tier=tier, organization=organization, key=key)
    return await hold.limits.hit_meter(meter, cost)


def meter_of(
    hold: Holdfast,
    *,
    user_id: UUID,
    org_id: UUID | None,
    tier: str,
    organization: Organization | None,
    key: KeyFacts | None = None,
) -> Meter:
    """What `hit` counts for a caller, for who counts many of his calls. It is that of these arguments, and no other."""
    limits: list[Limit] = list(hold.limits.tiers[tier if tier in hold.limits.tiers else FREE])
    own = None if key is None or key.limits is None else (f"key:{key.id.hex}", own_limits(key.limits))
    if org_id is None:
        return hold.limits.meter(f"user:{user_id}", limits=limits, own=own)
    if organization is not None:
        limits.append(Limit(organization.max_requests_per_month, MONTH, name="month", quota=True))
    return hold.limits.meter(f"org:{org_id}", limits=limits, own=own)
