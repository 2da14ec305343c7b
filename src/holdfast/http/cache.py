"""`/cache` and `/admin/cache/…`: how the cache of this process is used and how fast it is, and emptying it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from holdfast.cache.report import CacheReport, Figures, Span
from holdfast.errors import HoldfastError
from holdfast.hold import Holdfast
from holdfast.http import formats, parameters, problems
from holdfast.http.answers import fresh
from holdfast.http.bodies import typed
from holdfast.http.local import only_here
from holdfast.http.pages import Pages
from holdfast.logs import get_logger
from holdfast.operate import RedisReport
from holdfast.operate.clearing import Clear, clear
from holdfast.operate.performance import TESTS, Performance, Test, measure_performance

log = get_logger("holdfast.http")

SPANS: tuple[Span, ...] = get_args(Span)
SPAN = parameters.choice("span", "The last hour by the minute, two days by the hour, or all since the start.", SPANS)


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tests to run."""

    tests: tuple[Test, ...] = TESTS


class Tested(msgspec.Struct, frozen=True):
    """How the last run of the tests fares: what is done now, what it found, why it ended early."""

    state: Literal["none", "running", "done", "failed"]
    doing: str | None = None
    error: str | None = None
    result: Performance | None = None


class Cleared(msgspec.Struct, frozen=True):
    """What was asked for, and how many values were removed from Redis by a pattern, or keys in an emergency."""

    cleared: str
    removed_from_redis: int | None


ADMINISTERED = (Clear, Cleared, Run, Tested, CacheReport, RedisReport)
"""What these endpoints take and answer, for the API description."""


class CacheAdmin:
    """The endpoints and the page, for this machine alone."""

    def __init__(self, hold: Holdfast, pages: Pages) -> None:
        self.hold = hold
        self.pages = pages
        self.tested = Tested("none")
        self._run: asyncio.Task[None] | None = None

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        return [
            Route("/cache", only_here(self.page)),
            Route("/cache/part", only_here(self.part)),
            Route("/admin/cache/metrics", only_here(self.metrics)),
            Route("/metrics/redis", only_here(self.redis)),
            Route("/admin/cache/clear", only_here(self.clear), methods=["POST"]),
            Route("/admin/cache/test/performance", only_here(self.results), methods=["GET"]),
            Route("/admin/cache/test/performance", only_here(self.run), methods=["POST"], name="run"),
        ]

    async def close(self) -> None:
        """End the tests, if they run."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)

    async def metrics(self, request: Request) -> Response:
        """What was counted, and what to look at."""
        return fresh(self.hold.cache.report(_span(request)))

    async def redis(self, request: Request) -> Response:
        """How the servers of Redis fare, with what is wrong and what to do; 404 where none is configured."""
        parameters.read(request.scope["query_string"], ())
        report = await self.hold.redis_report()
        if report is None:
            return problems.problem(request, 404, "no Redis is configured; HOLDFAST_REDIS_URL names one")
        return fresh(report)

    async def clear(self, request: Request) -> Response:
        """End values."""
        asked = await typed(request, Clear)
        removed = await clear(self.hold.cache, self.hold.flush_redis, asked)
        log.info("cache_cleared", by=asked.given[0])
        return fresh(Cleared(asked.given[0], removed))

    async def results(self, request: Request) -> Response:
        """What the tests found the last time, or how far they are."""
        parameters.read(request.scope["query_string"], ())
        return fresh(self.tested)

    async def run(self, request: Request) -> Response:
        """Begin the tests: 202, and 409 while they run."""
        asked = await typed(request, Run)
        if self.tested.state == "running":
            return problems.problem(request, 409, "the tests run already; GET this address for how far they are")
        self.tested = Tested("running", doing="health")
        self._run = asyncio.create_task(self._test(asked.tests), name="cache performance")
        return fresh(self.tested, 202)

    async def _test(self, tests: tuple[Test, ...]) -> None:
        def doing(what: str) -> None:
            self.tested = Tested("running", doing=what)

        try:
            found = await measure_performance(self.hold.cache, self.hold.store, tests, progress=doing)
            self.tested = Tested("done", result=found)
        except HoldfastError as error:
            self.tested = Tested("failed", error=str(error))
        except BaseException as error:
            self.tested = Tested("failed", error=type(error).__name__)
            raise

    async def page(self, request: Request) -> Response:
        """The whole page."""
        return self._render(request, "cache_page.html")

    async def part(self, request: Request) -> Response:
        """Its changing part."""
        return self._render(request, "cache.html")

    def _render(self, request: Request, template: str) -> Response:
        report = self.hold.cache.report(_span(request))
        values: dict[str, Any] = {"report": report, "tested": self.tested, "spans": SPANS, "limit": _SHOWN, **_CHARTED}
        return self.pages.answer(request, template, values)


_SHOWN = 20  # rows of a table
_CHARTED: dict[str, Callable[[Figures], Any]] = {
    "show_reads": lambda figures: f"{figures.reads:,}",
    "height_reads": lambda figures: figures.reads,
    "show_rate": lambda figures: formats.percent(figures.hit_rate),
    "height_rate": lambda figures: round(100 * (figures.hit_rate or 0.0), 2),
    "show_load": lambda figures: formats.milliseconds(figures.load_milliseconds),
    "height_load": lambda figures: figures.load_milliseconds or 0.0,
}


def _span(request: Request) -> Span:
    return parameters.read(request.scope["query_string"], (SPAN,))["span"] or "hour"
