"""API keys as organisations have them: as many as they may, with the limits of their tier."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from holdfast.apps.accounts.models import MAX_API_KEYS, ApiKey, Organization, User
from holdfast.errors import Conflict
from holdfast.guard.keys import NewKey
from holdfast.guard.keys.keys import DEFAULT_SCOPES
from holdfast.store import Unit

if TYPE_CHECKING:
    from holdfast.hold import Holdfast


async def create_api_key(
    hold: Holdfast,
    unit: Unit,
    *,
    name: str,
    user_id: UUID,
    org_id: UUID | None = None,
    scopes: Iterable[str] = DEFAULT_SCOPES,
    live: bool = True,
    networks: Iterable[str] | None = None,
    limits: Iterable[str] | None = None,
    expires_at: dt.datetime | None = None,
) -> NewKey[ApiKey]:
    """Make a key for an organisation, or for a user alone, with the limits of the one or the other.

    A key of an organisation is its user's, and opens something for as long as he is an owner or admin of it.
    An organisation has at most its `max_api_keys` that open something, a user alone at most 5. `limits` are the
    key's own, and count beside those of the tier.

    Raises:
        NotFound: the user or the organisation is not there. Conflict: it is not active, or has as many keys as it may;
            or the user is none of the organisation's owners and admins, who alone have its keys.
        InvalidValue: an argument cannot be.
    """
    owner: User | Organization = await unit[User].get(user_id)
    at_most = MAX_API_KEYS
    if not owner.is_active:
        raise Conflict(f"the user {user_id} is not active; nobody may have keys for it")
    if org_id is not None:
        owner = organization = await unit[Organization].get(org_id)
        at_most = organization.max_api_keys
        if not organization.is_active:
            raise Conflict(f"the organisation {org_id} is not active; nobody may have keys for it")
    return await hold.keys.create(
        unit,
        name=name,
        user_id=user_id,
        org_id=org_id,
        scopes=scopes,
        live=live,
        tier=owner.tier,
        networks=networks,
        limits=limits,
        expires_at=expires_at,
        at_most=at_most,
    )
