"""The overview page: answers first, then the figures. Rendered here, kept up to date by `static/overview.js`.

Everything on it is what `/v1/status`, `/v1/analytics/…` and `/v1/journal` answer. `/overview` is its changing part
alone: the script asks for it when the event stream says that something happened.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from holdfast.apps.agents import analytics
from holdfast.apps.agents.figures import Point, Ranking, Series, Summary, TokenFigures
from holdfast.apps.agents.tokens import Token
from holdfast.errors import HoldfastError
from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.answers import REVALIDATE, tagged
from holdfast.http.health import Health
from holdfast.http.pages import MEDIA_TYPE, Pages
from holdfast.operate import Report
from holdfast.shared import Coalesced
from holdfast.store import Unit

_CHARTED = 4  # tokens: a chart each, since amounts of different tokens share no axis
_RANKED = 10  # agents
_SHARED = 64  # tokens that views are shared for at a time
_TOKEN = parameters.text("token", "The mint of the token that agents are ranked in.")


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Volume by day in one token, without gaps: a day without payments is a zero."""

    token: Token
    total: str
    points: list[Point]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows. Figures are None where the database cannot be asked, or has no agents app."""

    status: Report
    place: str
    down: bool
    journal: dict[str, Any] | None = None
    summary: Summary | None = None
    series: Series | None = None
    charts: list[Chart] = []
    ranking: Ranking | None = None


class Overview:
    """The page over one `Holdfast`."""

    def __init__(self, hold: Holdfast, health: Health, pages: Pages, *, has_payments: bool) -> None:
        self.hold = hold
        self.health = health
        self.pages = pages
        self.has_payments = has_payments
        self._views: dict[str | None, Coalesced[View]] = {}

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        return [
            Route("/", self.page),
            Route("/overview", self.fragment),
        ]

    async def page(self, request: Request) -> Response:
        """The whole page; 503 where the database does not answer, but still a page."""
        return await self._render(request, "page.html")

    async def fragment(self, request: Request) -> Response:
        """Its changing part."""
        return await self._render(request, "overview.html")

    async def _render(self, request: Request, template: str) -> Response:
        token = parameters.read(request.scope["query_string"], (_TOKEN,))["token"]
        view = await self._shared(token).get()
        rendered = self.pages.rendered(template, {"view": view})
        if view.down:
            headers = {"Cache-Control": "no-store", "Retry-After": "1"}
            return Response(rendered, 503, headers, MEDIA_TYPE)
        return tagged(request, rendered, MEDIA_TYPE, REVALIDATE)

    def _shared(self, token: str | None) -> Coalesced[View]:
        """Tabs that are told of one change ask at once: they get one answer."""
        if len(self._views) >= _SHARED:
            self._views.clear()
        return self._views.setdefault(token, Coalesced(lambda: self._view(token)))

    async def _view(self, token: str | None) -> View:
        status = await self.health.examiner.examine()
        place = self.hold.store.place
        found: dict[str, Any] = {}
        down = any(finding.check == "database" and finding.state == "wrong" for finding in status.findings)
        lacking = any(finding.check == "migrations" and finding.state == "wrong" for finding in status.findings)
        if not down and not lacking:
            try:
                found["journal"] = await self.health.journal_now()
                if self.has_payments:
                    async with self.hold.store.read(confined=False) as unit:
                        found |= await _figures(unit, token)
            except HoldfastError:
                # It went away since it was examined; look again, so that the page says why.
                status = await self.health.examiner.examine()
                found, down = {}, True
        return View(status=status, place=place, down=down, **found)


async def _figures(unit: Unit, token: str | None) -> dict[str, Any]:
    summary = await analytics.summary(unit)
    if not summary.settled + summary.failed:
        return {"summary": summary}
    series = await analytics.volume(unit)
    ranking = await analytics.top_agents(unit, limit=_RANKED, token=token)
    charts = [_chart(series, figures) for figures in summary.volume[:_CHARTED]]
    return {"summary": summary, "series": series, "charts": charts, "ranking": ranking}


def _chart(series: Series, figures: TokenFigures) -> Chart:
    mint = figures.token.mint
    by_day = {point.start: point for point in series.data if point.token == mint}
    points = []
    day = series.data[0].start if series.data else None  # the same for all, so that their axes are
    while day is not None and series.until is not None and day < series.until:
        following = day + dt.timedelta(days=1)
        nothing = Point(start=day, end=following, token=mint, volume="0", settled=0, failed=0, success_rate=None)
        points.append(by_day.get(day, nothing))
        day = following
    total = str(sum(int(point.volume) for point in points))
    return Chart(token=figures.token, total=total, points=points)
