"""Who may read and write: resources as each model declares, and everything else by one setting."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from holdfast.hold import Holdfast
from holdfast.http.callers import Callers, Endpoint
from holdfast.http.exposed import Resource
from holdfast.http.identity import Identity, says_who
from holdfast.http.problems import Refusal


class Access:
    """Lets callers at resources, or refuses them.

    What is not closed is read by anybody; who says who he is is known there too, counted and logged, or refused. The
    rows of a tenant, what a declaration closes (`Expose(scope=…)`), and everything where `HOLDFAST_HTTP_READS` is
    `closed` are read with a key; and nothing is written without one.

    Attributes:
        is_closed: whether nothing is read without a key.
    """

    def __init__(self, hold: Holdfast, callers: Callers) -> None:
        self._callers = callers
        self.is_closed = hold.settings.http_reads == "closed"

    @property
    def knows_callers(self) -> bool:
        """Whether anybody can say who he is."""
        return self._callers.are_known

    def needs_key(self, resource: Resource) -> bool:
        """Whether reading a resource needs a key."""
        return self.is_closed or resource.tenanted or resource.expose.is_closed

    def is_shown(self, resource: Resource) -> bool:
        """Whether a resource is listed and described: somebody can read it."""
        return self._callers.are_known or not self.needs_key(resource)

    def writes(self, resource: Resource) -> tuple[str, ...]:
        """What can be done with a resource beside reading; nothing where nobody can say who he is."""
        return resource.expose.writes if self._callers.are_known else ()

    async def reader(self, request: Request, resource: Resource, include: Iterable[str] = ()) -> Identity | None:
        """Who reads a resource, and the related rows that are included; None where anybody may, and sees the same.

        Raises:
            Refusal: he may not, or what he says of himself is wrong. Unavailable: it is not known just now.
        """
        wanted = [resource, *(resource.includes[name] for name in include)]
        closed = [one for one in wanted if self.needs_key(one)]
        if not closed:
            if self._callers.are_known and says_who(request):
                await self._callers.who(request, None)
            return None
        if not self._callers.are_known:
            # Without a key nobody knows whose rows the caller may see, and showing all of them is the one wrong answer.
            whose = "belong to tenants" if closed[0].tenanted else "are not for everybody"
            raise Refusal(403, f"the rows of {closed[0].name} {whose}; they are not shown to a caller who is not known")
        who = await self._callers.who(request, closed[0].scope_of("read"))
        for one in closed[1:]:
            if not who.may(one.scope_of("read")):
                raise Refusal(403, f"to include rows of {one.name} a key needs the scope {one.scope_of('read')!r}")
        return who

    async def refuse_unknown(self, request: Request, resource: Resource) -> None:
        """Raise what `reader` does to nobody known, before what a resource takes is told to him."""
        if self.is_closed:
            await self.reader(request, resource)

    def closing(self, routes: Iterable[BaseRoute], scope: str | None, *, knows: bool = False) -> list[BaseRoute]:
        """Routes of what is no resource, with a key wanted where reads are closed.

        Args:
            scope: that the key must have; None for any key.
            knows: whether who says who he is is known, counted and logged where reads are open, too.
        """
        if not self.is_closed and not (knows and self.knows_callers):
            return list(routes)
        return [self._guarded(route, scope) if isinstance(route, Route) else route for route in routes]

    def _guarded(self, route: Route, scope: str | None) -> Route:
        endpoint: Endpoint = route.endpoint

        async def known(request: Request) -> Response:
            if self.is_closed:
                if not self.knows_callers:
                    raise Refusal(
                        403, "HOLDFAST_HTTP_READS is closed, and there are no API keys here that could open it"
                    )
                await self._callers.who(request, scope, browser=True)
            elif says_who(request):
                await self._callers.who(request, None)
            return await endpoint(request)

        known.__name__, known.__doc__ = endpoint.__name__, endpoint.__doc__
        return Route(route.path, self._callers.guarded(known, route.path), methods=route.methods, name=route.name)

    async def writer(self, request: Request, resource: Resource, operation: str) -> Identity:
        """Who writes.

        Raises:
            Refusal: he may not. Unavailable: it is not known just now.
        """
        return await self._callers.who(request, resource.scope_of(operation))
