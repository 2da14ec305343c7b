"""What the analytics of x402 payments answer with. Amounts are base units of one token, as strings; days are UTC."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

from holdfast.apps.agents.tokens import Token

Period = Literal["day", "week", "month", "total"]
Measure = Literal["volume", "payments"]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Payments that settled and attempts that failed."""

    settled: int
    failed: int
    success_rate: float | None  # settled / (settled + failed); None for 0 / 0: neither good nor bad


class Point(Counted, frozen=True, kw_only=True):
    """One token in one calendar bucket; the bucket is None for all days together."""

    start: dt.date | None
    end: dt.date | None  # the first day that is not in it
    token: str  # mint
    volume: str  # base units


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Volume by period and token, oldest first."""

    period: Period
    since: dt.date | None = msgspec.field(name="from")
    until: dt.date | None = msgspec.field(name="to")
    tokens: list[Token]
    data: list[Point]


class Rate(Counted, frozen=True, kw_only=True):
    """How many payments settled, over all tokens: payments may be counted together, amounts may not."""

    start: dt.date | None
    end: dt.date | None


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Success rate by period, oldest first."""

    period: Period
    since: dt.date | None = msgspec.field(name="from")
    until: dt.date | None = msgspec.field(name="to")
    data: list[Rate]


class Ranked(Counted, frozen=True, kw_only=True):
    """One agent in a ranking."""

    rank: int
    address: str
    name: str | None
    is_verified: bool
    volume: str | None  # base units of the ranking's token; None where it is over several


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that earn most, in one token, or are paid most often."""

    by: Measure
    token: Token | None
    since: dt.date | None = msgspec.field(name="from")
    until: dt.date | None = msgspec.field(name="to")
    data: list[Ranked]


class TokenFigures(Counted, frozen=True, kw_only=True):
    """One token over all days."""

    token: Token
    volume: str  # base units


class Summary(Counted, frozen=True, kw_only=True):
    """Everything in a few figures."""

    agents: int
    agents_paid: int  # those with a settled payment
    undated: int  # payments whose time is not known; they belong to no day and are in no other figure
    first_day: dt.date | None
    last_day: dt.date | None
    tokens: int  # how many; `volume` has the most used ones
    volume: list[TokenFigures]
