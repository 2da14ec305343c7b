"""`create_app`: the ASGI face of one `Holdfast`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Scope

from holdfast.errors import HoldfastError
from holdfast.guard.keys.access import OPERATE
from holdfast.hold import Holdfast
from holdfast.http import analytics, openapi, parameters, problems, stream
from holdfast.http.addresses import networks_of
from holdfast.http.answers import answer
from holdfast.http.api_keys import ApiKeysOverHttp
from holdfast.http.cache import CacheAdmin
from holdfast.http.cache_metrics import CacheCollector
from holdfast.http.callers import Callers
from holdfast.http.cors import Cors, origins_of
from holdfast.http.edge import Edge
from holdfast.http.exposed import Resource, resources_of
from holdfast.http.health import Health
from holdfast.http.live import Live
from holdfast.http.metrics import Metrics
from holdfast.http.overview import Overview
from holdfast.http.pages import Pages
from holdfast.http.privacy import PrivacyOverHttp
from holdfast.http.resources import Resources
from holdfast.http.webhooks import Webhooks


def create_app(
    hold: Holdfast, *, title: str = "Holdfast", open_on_startup: bool = False, hosts: Collection[str] = ()
) -> Starlette:
    """An ASGI application over `hold`: serve it alone, or mount it in another (`app.mount("/data", create_app(hold))`).

    Args:
        hold: an open one, unless `open_on_startup`.
        title: what the page and the API description are called.
        open_on_startup: connect, migrate (in development), follow the journal when the server starts, and close when it
            ends. For servers that import an application; a mounted application is not told when its host starts.
        hosts: the names that it answers to ("localhost"); others get 421. Any name where none is given. On loopback
            name them: else a page whose name resolves to this machine could read what is here (DNS rebinding).

    The event streams end with the server's lifespan. Where that does not reach this application (it is mounted, or the
    server waits for its connections first), `await app.state.live.close()` before the server stops.

    Raises:
        ModelError: an `Expose` cannot be carried out over HTTP. ConfigurationError: `HOLDFAST_CORS_ORIGINS`,
            `HOLDFAST_TRUSTED_PROXIES`, `HOLDFAST_KEY_GUESSES` or one of those of API keys cannot be.
    """
    origins, proxies = origins_of(hold.settings.cors_origins), networks_of(hold.settings.trusted_proxies)
    metrics = Metrics(hold.store)
    metrics.registry.register(CacheCollector(hold.cache))
    examiner = hold.examiner()
    live = Live(hold, examiner)
    health = Health(hold, examiner, live, metrics)
    resources = resources_of(hold.models)
    callers = Callers(hold)
    exposed = Resources(hold, resources, callers)
    access = exposed.access
    payments = analytics.payments_resource(resources)
    endpoints = analytics.endpoints(payments) if payments is not None else ()
    pages = Pages(title, hold.store.place, _links(r for r in resources.values() if not access.needs_key(r)))
    overview = Overview(hold, health, pages, has_payments=payments is not None)
    cache = CacheAdmin(hold, pages)
    keys, privacy, webhooks = ApiKeysOverHttp(hold, callers), PrivacyOverHttp(hold, callers), Webhooks(hold)
    document = openapi.describe(
        title,
        version("holdfast"),
        resources.values(),
        access,
        endpoints,
        has_api_keys=keys.is_there,
        has_privacy=privacy.is_there,
        webhooks=webhooks.providers,
    )

    async def description(request: Request) -> Response:
        parameters.read(request.scope["query_string"], ())
        # Of a mounted application the addresses begin where it is mounted.
        return answer(request, {**document, "servers": [{"url": request.scope.get("root_path") or "/"}]})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            if open_on_startup:
                await hold.start(follow=True)
            yield
        finally:
            await live.close()
            await cache.close()
            metrics.close()
            if open_on_startup:
                await hold.close()

    routes: list[BaseRoute] = [
        *exposed.routes(),  # first: they are asked most, and the router tries one after the other
        *access.closing(overview.routes(), OPERATE),
        *cache.routes(),
        *pages.routes(),
        *health.liveness(),
        *access.closing(health.routes(), OPERATE),
        *keys.routes(),
        *privacy.routes(),
        *webhooks.routes(),
        *access.closing([endpoint.route(hold) for endpoint in endpoints], analytics.SCOPE, knows=True),
        *access.closing([stream.route(live)], OPERATE),
        *access.closing([Route("/openapi.json", description)], None),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(
                Edge,
                route_of=_route_of(routes),
                observe=metrics.observe,
                counted=hold.cache.statistics,
                hosts=hosts,
                proxies=proxies,
            ),
            *([Middleware(Cors, origins=origins)] if origins else []),
        ],
        exception_handlers={
            HTTPException: problems.of_http_exception,
            HoldfastError: problems.of_holdfast_error,
            problems.Refusal: problems.of_refusal,
        },
        lifespan=lifespan,
    )
    app.state.live = live
    return app


def _links(resources: Iterable[Resource]) -> dict[str, str]:
    """What is shown as data too, by name."""
    links = {resource.name: f"v1/resources/{resource.name}" for resource in resources}
    return links | {"status": "v1/status", "journal": "v1/journal", "health": "health/database", "metrics": "metrics"}


def _route_of(routes: list[BaseRoute]) -> Callable[[Scope], str]:
    """Names the route that took a request by its template, so that counters have few labels."""
    templates: dict[Any, str] = {}
    for route in routes:
        if isinstance(route, Route):
            templates[route.endpoint] = route.path
        elif isinstance(route, Mount):
            templates[route.app] = route.path + "/*"
    return lambda scope: templates.get(scope.get("endpoint"), "none")
