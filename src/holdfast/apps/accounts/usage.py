"""Which requests were answered for whom: a row each in `usage_logs`, written many at a time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING
from uuid import UUID

from holdfast.apps.accounts.models import UsageLog
from holdfast.model import uuid7

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

_ENDPOINT, _METHOD, _MESSAGE = 255, 10, 500  # characters that are kept


def log_usage(
    hold: Holdfast,
    *,
    user_id: UUID,
    org_id: UUID | None,
    api_key_id: UUID | None,
    endpoint: str,
    method: str,
    status: int,
    seconds: float,
    error: str | None = None,
) -> None:
    """Note a request that was answered; it is in `usage_logs` a second later, as far as the database takes writes.

    Args:
        endpoint: the template of its address, never what was in it: `/v1/resources/books/{key}`.
        seconds: how long it took.
        error: what was wrong with it.
    """
    hold.appends.add(
        UsageLog,
        id=uuid7(),
        created_at=dt.datetime.now(dt.UTC),
        user_id=user_id,
        org_id=org_id,
        api_key_id=api_key_id,
        endpoint=endpoint[:_ENDPOINT],
        method=method[:_METHOD],
        status_code=status,
        response_time_ms=round(seconds * 1000),
        error_message=None if error is None else error[:_MESSAGE],
    )
