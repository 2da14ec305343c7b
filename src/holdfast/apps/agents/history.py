"""The payments themselves, newest first."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, select, tuple_

from holdfast.apps.agents.analytics import check_days
from holdfast.apps.agents.models import X402Payment
from holdfast.errors import InvalidValue
from holdfast.store import Page, Query, Unit
from holdfast.store.pages import Cursors
from holdfast.store.repository import PAGE_LIMIT, PAGE_SIZE

_ORDERS = (("block_time", True), ("id", True))


async def payments(
    unit: Unit,
    *,
    agent: str | None = None,
    payer: str | None = None,
    signature: str | None = None,
    token: str | None = None,
    status: str | None = None,
    since: dt.date | None = None,
    until: dt.date | None = None,
    limit: int = PAGE_SIZE,
    after: str | None = None,
) -> Page[X402Payment]:
    """One page of payments and failed attempts, newest first; those whose time is not known come last.

    Dated and undated rows are read by a statement each: an order that puts NULLs last over both could not be read
    from an index, and would sort the table for every page.

    Args:
        since, until: UTC days, half-open; undated payments are in no range.
        limit: rows, 1 to 1,000.
        after: `Page.next` of the page before.

    Raises:
        InvalidValue: the limit or a day is out of bounds, or the cursor is not of this list.
    """
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidValue(f"a page has 1 to {PAGE_LIMIT} rows, not {limit}")
    check_days(since, until)
    cursors = Cursors(Query(X402Payment), _ORDERS, unit.store.secrets, unit.tenant)
    seen = None if after is None else cursors.decode(after)
    named = {
        "agent_address": agent,
        "payer_address": payer,
        "signature": signature,
        "token_mint": token,
        "status": status,
    }
    base = select(X402Payment).filter_by(**{name: value for name, value in named.items() if value is not None})
    rows: list[X402Payment] = []
    if seen is None or seen[0] is not None:
        rows += (await unit.execute(_dated(base, since, until, seen, limit + 1))).scalars()
    if since is None and until is None and len(rows) <= limit:
        rows += (await unit.execute(_undated(base, seen, limit + 1 - len(rows)))).scalars()
    return Page(rows[:limit], cursors.encode(rows[limit - 1]) if len(rows) > limit else None, None)


def _dated(
    base: Select[Any], since: dt.date | None, until: dt.date | None, seen: list[Any] | None, limit: int
) -> Select[Any]:
    at, key = X402Payment.block_time, X402Payment.id
    conditions: list[ColumnElement[bool]] = [at.is_not(None)]
    if since is not None:
        conditions.append(at >= dt.datetime.combine(since, dt.time.min, dt.UTC))
    if until is not None:
        conditions.append(at < dt.datetime.combine(until, dt.time.min, dt.UTC))
    if seen is not None:
        conditions.append(tuple_(at, key) < tuple_(literal(seen[0], at.type), literal(seen[1], key.type)))
    return base.where(*conditions).order_by(at.desc(), key.desc()).limit(limit)


def _undated(base: Select[Any], seen: list[Any] | None, limit: int) -> Select[Any]:
    undated = base.where(X402Payment.block_time.is_(None))
    if seen is not None and seen[0] is None:
        undated = undated.where(X402Payment.id < seen[1])
    return undated.order_by(X402Payment.id.desc()).limit(limit)
