"""Figures of x402 payments: volume, success rate, the agents that earn most.

All of it is read from the daily rollup (`x402_payments_daily`), so that its cost grows with days × tokens × agents,
not with payments. Days are UTC; `until` is the first day that is not meant any more. Amounts are base units of one
token; amounts of different tokens are never added up. Only settled payments are volume; a failed one is an attempt.
Every answer is bounded: what would be longer is an `InvalidValue` that says how to narrow it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Label, Select, cast, func, select

from holdfast.apps.agents.figures import (
    Measure,
    Period,
    Point,
    Ranked,
    Ranking,
    Rate,
    Rates,
    Series,
    Summary,
    TokenFigures,
)
from holdfast.apps.agents.models import Agent, X402Payment
from holdfast.apps.agents.tokens import tokens_of
from holdfast.errors import InvalidValue, ModelError
from holdfast.model import exact_sum
from holdfast.rollup import Rollup
from holdfast.store import Unit

PERIODS: tuple[Period, ...] = ("day", "week", "month", "total")
MEASURES: tuple[Measure, ...] = ("volume", "payments")

MOST_POINTS = 10_000  # of a series
MOST_ROWS = 50_000  # of days and tokens, read for a series by week or month
MOST_TOKENS = 100  # in a summary
MOST_AGENTS = 100  # in a ranking
FIRST_DAY, LAST_DAY = dt.date(1970, 1, 1), dt.date(2999, 12, 31)
_USUAL = {"day": 90, "week": 53 * 7, "month": 3 * 366}  # days that are meant where `since` is not given

_ROLLUP = X402Payment.__policy__.aspect(Rollup)
if _ROLLUP is None:
    raise ModelError("X402Payment has no Rollup, from which its figures are read")
_DAILY = _ROLLUP.results()
_SETTLED = cast(func.coalesce(func.sum(_DAILY.c.settled), 0), BigInteger).label("settled")
_FAILED = cast(func.coalesce(func.sum(_DAILY.c.failed), 0), BigInteger).label("failed")


async def volume(
    unit: Unit,
    period: Period = "day",
    *,
    token: str | None = None,
    agent: str | None = None,
    since: dt.date | None = None,
    until: dt.date | None = None,
) -> Series:
    """Volume and counts by period and token.

    Without `until` the last day with figures is the last that is meant; without `since` the usual span before it
    (90 days, 53 weeks, 36 months; everything for "total").

    Raises:
        InvalidValue: the range is empty, or the series would have more than 10,000 points.
    """
    since, until = await _range(unit, period, since, until)
    groups = [*_by_day(period), _DAILY.c.token_mint]
    conditions = _where(token, agent, since, until)
    statement = select(*groups, await _volume(unit, conditions), _SETTLED, _FAILED).where(*conditions)
    sums: dict[tuple[dt.date | None, str], list[int]] = {}
    for row in await _rows(unit, period, statement.group_by(*groups).order_by(*groups)):
        found = sums.setdefault((_begin(period, row), row.token_mint), [0, 0, 0])
        found[0] += row.volume
        found[1] += row.settled
        found[2] += row.failed
    keys = sorted(sums, key=lambda key: (key[0] or dt.date.min, key[1]))
    points = [
        Point(token=mint, volume=str(sums[start, mint][0]), **_days(period, start), **_counted(*sums[start, mint][1:]))
        for start, mint in keys
    ]
    tokens = await tokens_of(unit, [mint for _, mint in keys])
    return Series(period=period, since=since, until=until, tokens=list(tokens.values()), data=points)


async def success_rates(
    unit: Unit,
    period: Period = "total",
    *,
    token: str | None = None,
    agent: str | None = None,
    since: dt.date | None = None,
    until: dt.date | None = None,
) -> Rates:
    """Payments that settled and failed by period, over all tokens or one. The range is as in `volume`."""
    since, until = await _range(unit, period, since, until)
    groups = _by_day(period)
    statement = select(*groups, _SETTLED, _FAILED).where(*_where(token, agent, since, until))
    sums: dict[dt.date | None, list[int]] = {}
    for row in await _rows(unit, period, statement.group_by(*groups).order_by(*groups)):
        found = sums.setdefault(_begin(period, row), [0, 0])
        found[0] += row.settled
        found[1] += row.failed
    rates = [Rate(**_days(period, start), **_counted(*found)) for start, found in sums.items()]
    return Rates(period=period, since=since, until=until, data=rates)


async def top_agents(
    unit: Unit,
    *,
    by: Measure = "volume",
    limit: int = 10,
    token: str | None = None,
    since: dt.date | None = None,
    until: dt.date | None = None,
) -> Ranking:
    """The agents with most volume in one token, or most settled payments; equal ones by payments, then address.

    A ranking by volume without a token is in the one that is used most, and says which.

    Raises:
        InvalidValue: the limit is not 1 to 100, or the range is empty.
    """
    if not 1 <= limit <= MOST_AGENTS:
        raise InvalidValue(f"a ranking has 1 to {MOST_AGENTS} agents, not {limit}")
    if since is not None or until is not None:
        since, until = await _range(unit, "total", since, until)
    if by == "volume" and token is None:
        token = await _most_used(unit, since, until)
    conditions = _where(token, None, since, until)
    volumes = [await _volume(unit, conditions)] if token is not None else []
    groups = select(_DAILY.c.agent_address, _SETTLED, _FAILED, *volumes).where(*conditions)
    groups = groups.group_by(_DAILY.c.agent_address)
    first = [volume.desc() for volume in volumes] if by == "volume" else []
    paid = groups.having(func.sum(_DAILY.c.settled) > 0)
    rows = (await unit.execute(paid.order_by(*first, _SETTLED.desc(), _DAILY.c.agent_address).limit(limit))).all()
    known: dict[str, Any] = {}
    if rows:
        named = select(Agent.address, Agent.name, Agent.is_verified)
        named = named.where(Agent.address.in_([row.agent_address for row in rows]))
        known = {agent.address: agent for agent in await unit.execute(named)}
    ranked = []
    for rank, row in enumerate(rows, start=1):
        agent = known.get(row.agent_address)
        ranked.append(
            Ranked(
                rank=rank,
                address=row.agent_address,
                name=None if agent is None else agent.name,
                is_verified=agent is not None and agent.is_verified,
                volume=str(row.volume) if token is not None else None,
                **_counted(row.settled, row.failed),
            )
        )
    facts = None if token is None else (await tokens_of(unit, [token]))[token]
    return Ranking(by=by, token=facts, since=since, until=until, data=ranked)


async def summary(unit: Unit) -> Summary:
    """Agents, payments, and volume by token over all days."""
    agents = (await unit.execute(select(func.count()).select_from(Agent))).scalar_one()
    undated = select(func.count()).select_from(X402Payment).where(X402Payment.block_time.is_(None))
    paid = select(_DAILY.c.agent_address).group_by(_DAILY.c.agent_address).having(func.sum(_DAILY.c.settled) > 0)
    counts = select(_SETTLED, _FAILED, func.count(_DAILY.c.token_mint.distinct()).label("tokens"))
    totals = (await unit.execute(counts)).one()
    by_token = select(_DAILY.c.token_mint, await _volume(unit, []), _SETTLED, _FAILED).group_by(_DAILY.c.token_mint)
    used = (func.sum(_DAILY.c.settled) + func.sum(_DAILY.c.failed)).desc()
    rows = (await unit.execute(by_token.order_by(used, _DAILY.c.token_mint).limit(MOST_TOKENS))).all()
    tokens = await tokens_of(unit, [row.token_mint for row in rows])
    first, last = await _bounds(unit)
    return Summary(
        agents=agents,
        agents_paid=(await unit.execute(select(func.count()).select_from(paid.subquery()))).scalar_one(),
        **_counted(totals.settled, totals.failed),
        undated=(await unit.execute(undated)).scalar_one(),
        first_day=first,
        last_day=last,
        tokens=totals.tokens,
        volume=[
            TokenFigures(
                token=tokens[row.token_mint],
                volume=str(row.volume),
                **_counted(row.settled, row.failed),
            )
            for row in rows
        ],
    )


def _counted(settled: int, failed: int) -> dict[str, Any]:
    rate = settled / (settled + failed) if settled + failed else None
    return {"settled": settled, "failed": failed, "success_rate": rate}


async def _bounds(unit: Unit) -> tuple[dt.date | None, dt.date | None]:
    """The first and the last day with figures; two statements, each one end of the primary key."""
    ends = [(await unit.execute(select(f(_DAILY.c.day)))).scalar() for f in (func.min, func.max)]
    first, last = (None if end is None else end.date() for end in ends)
    return first, last


def check_days(*days: dt.date | None) -> None:
    """Raise `InvalidValue` for a day that no payment can have; it also keeps sums of days inside the calendar."""
    for day in days:
        if day is not None and not FIRST_DAY <= day <= LAST_DAY:
            raise InvalidValue(f"the day {day} is outside {FIRST_DAY} to {LAST_DAY}")


async def _range(
    unit: Unit, period: Period, since: dt.date | None, until: dt.date | None
) -> tuple[dt.date | None, dt.date | None]:
    check_days(since, until)
    if since is not None and until is not None and since >= until:
        raise InvalidValue(f"the range from {since} to {until} has no day in it: its end is exclusive")
    if until is None:
        _, last = await _bounds(unit)
        if last is None:
            return since, None
        until = max(last, since or last) + dt.timedelta(days=1)
    if since is None and period != "total":
        since = _first_day(period, max(until - dt.timedelta(days=_USUAL[period]), FIRST_DAY))
    return since, until


def _first_day(period: Period, day: dt.date) -> dt.date:
    """The first day of the bucket that `day` is in."""
    if period == "week":
        return day - dt.timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _begin(period: Period, row: Any) -> dt.date | None:
    return None if period == "total" else _first_day(period, row.day.date())


def _days(period: Period, start: dt.date | None) -> dict[str, Any]:
    if start is None:
        return {"start": None, "end": None}
    if period == "month":
        return {"start": start, "end": (start + dt.timedelta(days=31)).replace(day=1)}
    return {"start": start, "end": start + dt.timedelta(days=7 if period == "week" else 1)}


def _by_day(period: Period) -> list[Column[Any]]:
    """Weeks and months are added up from days here: the database reads days in the order of its key."""
    return [] if period == "total" else [_DAILY.c.day]


async def _rows(unit: Unit, period: Period, statement: Select[Any]) -> Sequence[Any]:
    most = MOST_ROWS if period in ("week", "month") else MOST_POINTS
    rows = (await unit.execute(statement.limit(most + 1))).all()
    if len(rows) > most:
        raise InvalidValue(f"this series has more than {most} points; name a token, or a shorter range")
    return rows


def _where(
    token: str | None, agent: str | None, since: dt.date | None, until: dt.date | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if token is not None:
        conditions.append(_DAILY.c.token_mint == token)
    if agent is not None:
        conditions.append(_DAILY.c.agent_address == agent)
    if since is not None:
        conditions.append(_DAILY.c.day >= dt.datetime.combine(since, dt.time.min, dt.UTC))
    if until is not None:
        conditions.append(_DAILY.c.day < dt.datetime.combine(until, dt.time.min, dt.UTC))
    return conditions


async def _volume(unit: Unit, conditions: list[ColumnElement[bool]]) -> Label[int]:
    """The sum of volumes, always exact: on SQLite by the machine's integers where they must suffice.

    Amounts of any size are kept there as text and added limb by limb, which takes ten times as long.
    """
    column = _DAILY.c.volume
    if unit.store.dialect == "sqlite":
        bound = select(func.max(column).label("most"), func.count().label("number")).where(*conditions)
        found = (await unit.execute(bound)).one()
        if (found.most or 0) * found.number < 2**63:
            return func.coalesce(func.sum(cast(column, BigInteger)), 0, type_=BigInteger()).label("volume")
    return exact_sum(column).label("volume")


async def _most_used(unit: Unit, since: dt.date | None, until: dt.date | None) -> str | None:
    used = select(_DAILY.c.token_mint).where(*_where(None, None, since, until)).group_by(_DAILY.c.token_mint)
    first = used.order_by(func.sum(_DAILY.c.settled).desc(), _DAILY.c.token_mint).limit(1)
    mint: str | None = (await unit.execute(first)).scalar()
    return mint
