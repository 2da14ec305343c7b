"""How often a user or an organisation may call: by tier, and by what an organisation may do in a month."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from holdfast.apps.accounts.models import Organization
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
) -> Decision:
    """Count a call of an organisation, or of a user without one, if it may pass.

    An organisation has beside the limits of its tier `max_requests_per_month`; while Redis is away nobody passes, for
    that is about money. A tier that has no limits of its own has those of `free`.

    Args:
        organization: the row of `org_id`, where the caller has it already.
    """
    if org_id is not None and organization is None:
        organization = await hold.cache[Organization].get(org_id, tenant=ALL)
    meter = meter_of(hold, user_id=user_id, org_id=org_id, tier=tier, organization=organization)
    return await hold.limits.hit_meter(meter, cost)


def meter_of(
    hold: Holdfast, *, user_id: UUID, org_id: UUID | None, tier: str, organization: Organization | None
) -> Meter:
    """What `hit` counts for a caller, for who counts many of his calls. It is that of these arguments, and no other."""
    limits: list[Limit] = list(hold.limits.tiers[tier if tier in hold.limits.tiers else FREE])
    if org_id is None:
        return hold.limits.meter(f"user:{user_id}", limits=limits)
    if organization is not None:
        limits.append(Limit(organization.max_requests_per_month, MONTH, name="month", quota=True))
    return hold.limits.meter(f"org:{org_id}", limits=limits)
