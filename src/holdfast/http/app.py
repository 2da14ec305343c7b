"""`create_app`: the ASGI face of one `Holdfast`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Scope

from holdfast.errors import HoldfastError
from holdfast.hold import Holdfast
from holdfast.http import problems
from holdfast.http.edge import Edge
from holdfast.http.exposed import resources_of
from holdfast.http.metrics import Metrics
from holdfast.http.resources import Resources


def create_app(hold: Holdfast, *, title: str = "Holdfast", open_on_startup: bool = False) -> Starlette:
    """An ASGI application over `hold`: serve it alone, or mount it in another (`app.mount("/data", create_app(hold))`).

    Args:
        hold: an open one, unless `open_on_startup`.
        title: what the page and the API description are called.
        open_on_startup: connect, migrate (in development), follow the journal when the server starts, and close when it
            ends. For servers that import an application; a mounted application is not told when its host starts.

    Raises:
        ModelError: an `Expose` cannot be carried out over HTTP.
    """
    metrics = Metrics(hold.store)
    resources = resources_of(hold.models)
    routes: list[BaseRoute] = [*Resources(hold, resources).routes()]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Edge, route_of=_route_of(routes), observe=metrics.observe)],
        exception_handlers={HTTPException: problems.of_http_exception, HoldfastError: problems.of_holdfast_error},
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    return app


def _route_of(routes: list[BaseRoute]) -> Callable[[Scope], str]:
    """Names the route that took a request by its template, so that counters have few labels."""
    templates: dict[Any, str] = {}
    for route in routes:
        if isinstance(route, Route):
            templates[route.endpoint] = route.path
        elif isinstance(route, Mount):
            templates[route.app] = route.path + "/*"
    return lambda scope: templates.get(scope.get("endpoint"), "none")
