"""`/v1/analytics/…`: the figures of the agents app, one declaration an endpoint."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.apps.agents import X402Payment, analytics, figures
from holdfast.apps.agents.history import payments
from holdfast.http.endpoints import Endpoint
from holdfast.http.exposed import Resource
from holdfast.http.parameters import choice, count, day, text
from holdfast.store import Unit
from holdfast.store.repository import PAGE_LIMIT, PAGE_SIZE

PATH = "/v1/analytics"
SCOPE = "analytics:read"  # that a key needs where reads are closed

_FROM = day("from", "The first UTC day, inclusive.")
_TO = day("to", "The end of the range, a UTC day, exclusive.")
_TOKEN = text("token", "The mint of one token.")
_AGENT = text("agent", "The address of one agent.")


class PaymentsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Payments and failed attempts as `/v1/resources/x402-payments` shows them."""

    data: list[dict[str, Any]]
    next: str | None


def endpoints(resource: Resource) -> tuple[Endpoint, ...]:
    """The endpoints; `resource` is that of `X402Payment`, which says how a payment is shown."""

    async def history(unit: Unit, **values: Any) -> PaymentsPage:
        page = await payments(unit, **values)
        return PaymentsPage(data=[resource.show(row) for row in page.items], next=page.next)

    return (
        Endpoint(
            f"{PATH}/summary",
            "Agents, payments, success rate, and volume by token, over all days. Amounts are base units of the token.",
            (),
            figures.Summary,
            analytics.summary,
        ),
        Endpoint(
            f"{PATH}/volume",
            "Settled volume and counts by period and token, oldest first. Weeks begin on Monday. Without `to` the last"
            " day with figures is the last; without `from` the 90 days, 53 weeks or 36 months before it.",
            (choice("period", "The bucket.", analytics.PERIODS, default="day"), _TOKEN, _AGENT, _FROM, _TO),
            figures.Series,
            analytics.volume,
        ),
        Endpoint(
            f"{PATH}/top-agents",
            "The agents that earn most in one token (without `token`: the one that is used most), or, by payments,"
            " those that are paid most often.",
            (
                choice("by", "What ranks.", analytics.MEASURES, default="volume"),
                count("limit", "Agents.", most=analytics.MOST_AGENTS, default=10),
                _TOKEN,
                _FROM,
                _TO,
            ),
            figures.Ranking,
            analytics.top_agents,
        ),
        Endpoint(
            f"{PATH}/success-rate",
            "Settled and failed payments and settled / (settled + failed), null where there were none.",
            (choice("period", "The bucket.", analytics.PERIODS, default="total"), _TOKEN, _AGENT, _FROM, _TO),
            figures.Rates,
            analytics.success_rates,
        ),
        Endpoint(
            f"{PATH}/payments",
            "Payments and failed attempts, newest first, those whose time is not known last.",
            (
                _AGENT,
                text("payer", "The wallet that paid."),
                text("signature", "The transaction's signature."),
                _TOKEN,
                choice("status", "How it ended.", ("settled", "failed")),
                _FROM,
                _TO,
                count("limit", "Rows a page.", most=PAGE_LIMIT, default=PAGE_SIZE),
                text("after", "The `next` of the page before.", longest=16_384),
            ),
            PaymentsPage,
            history,
        ),
    )


def payments_resource(resources: dict[str, Resource]) -> Resource | None:
    """The resource of payments, where the agents app is among the models."""
    return next((r for r in resources.values() if r.model is X402Payment), None)
