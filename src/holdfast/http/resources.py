"""`/v1/resources/…`: what the models expose. Nothing here is written for one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from sqlalchemy import func, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from holdfast.cache.derived import Derived, Source
from holdfast.errors import InvalidValue, NotFound, WrongTenant
from holdfast.hold import Holdfast
from holdfast.http import answers, parameters
from holdfast.http.access import Access
from holdfast.http.answers import answer
from holdfast.http.bodies import JSON, MERGE_PATCH
from holdfast.http.callers import Callers, Endpoint
from holdfast.http.exposed import Resource
from holdfast.http.finding import PATH, find, not_found
from holdfast.http.identity import Identity
from holdfast.http.problems import Refusal
from holdfast.http.values import UUID_KIND
from holdfast.http.writes import Writes
from holdfast.model import Model
from holdfast.store import Unit

MOST_INCLUDED = 10_000  # related rows in one answer, a relationship
_ONE = "/{key}"


class Resources:
    """The endpoints over all exposed models of one `Holdfast`."""

    def __init__(self, hold: Holdfast, resources: dict[str, Resource], callers: Callers) -> None:
        self.hold = hold
        self.resources = resources
        self.access = Access(hold, callers)
        self._callers = callers
        self._writes = Writes(hold, self.access)
        self._shown: Derived[answers.Made] = Derived(hold.cache.peek)

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        return [
            Route(PATH + "/{name}/{key:path}", _AnyMethod(self._item)),
            Route(PATH + "/{name}", _AnyMethod(self._collection)),
            *self.access.closing([Route(PATH, self.index)], None),
        ]

    async def index(self, request: Request) -> Response:
        """Every resource with what can be asked of it."""
        parameters.read(request.scope["query_string"], ())
        root = request.scope.get("root_path", "")
        shown = [r for r in self.resources.values() if self.access.is_shown(r)]
        return answer(request, {"data": [_described(r, root, self.access) for r in shown]})

    async def _collection(self, request: Request) -> Response:
        resource = self._resource(request)
        taken: dict[str, Endpoint] = {"GET": self._list, "HEAD": self._list}
        if "create" in self.access.writes(resource):
            taken["POST"] = self._create
        return await self._answered(request, resource, taken, "", {"Accept-Post": JSON})

    async def _item(self, request: Request) -> Response:
        resource = self._resource(request)
        taken: dict[str, Endpoint] = {"GET": self._one, "HEAD": self._one}
        writes = self.access.writes(resource)
        if "update" in writes:
            taken["PATCH"] = self._update
        if "delete" in writes:
            taken["DELETE"] = self._delete
        return await self._answered(request, resource, taken, _ONE, {"Accept-Patch": f"{MERGE_PATCH}, {JSON}"})

    async def _answered(
        self, request: Request, resource: Resource, taken: dict[str, Endpoint], part: str, accepts: dict[str, str]
    ) -> Response:
        endpoint = taken.get(request.method)
        if endpoint is None:
            headers = {"Allow": ", ".join(taken)}
            if len(taken) > 2 and not {"POST", "PATCH"}.isdisjoint(taken):
                headers |= accepts
            raise HTTPException(405, headers=headers)
        return await self._callers.answered(request, endpoint, f"{PATH}/{resource.name}{part}")

    async def _list(self, request: Request) -> Response:
        """One page of a resource's rows."""
        resource = self._resource(request)
        given = parameters.pairs(request.scope["query_string"])
        try:
            query, options = resource.query(given)
        except InvalidValue:
            await self.access.refuse_unknown(request, resource)
            raise
        fields, include = options["fields"], options["include"] or ()
        who = await self.access.reader(request, resource, include)
        if fields is not None:
            query = query.select(*fields)
        try:
            async with self.hold.read(tenant=_tenant(who)) as unit:
                page = await unit[resource.model].page(
                    query, limit=options["limit"], after=options["after"], total=options["total"]
                )
                await _include(unit, resource, page.items, include)
        except WrongTenant:
            raise _nobody(resource) from None
        body: dict[str, Any] = {"data": [resource.show(row, fields, include) for row in page.items], "next": page.next}
        if options["total"]:
            body["total"] = page.total
        headers = {}
        if page.next is not None:
            following = urlencode([(n, v) for n, v in given if n != "after"] + [("after", page.next)])
            headers["Link"] = f'<{quote(request.scope["path"])}?{following}>; rel="next"'
        return answer(request, body, headers=headers)

    async def _one(self, request: Request) -> Response:
        """The row with an id, or with the value of the resource's key."""
        resource = self._resource(request)
        query: bytes = request.scope["query_string"]
        try:
            options = parameters.read(query, resource.single_parameters)
        except InvalidValue:
            await self.access.refuse_unknown(request, resource)
            raise
        include = options["include"] or ()
        tenant = _tenant(await self.access.reader(request, resource, include))
        key = request.path_params["key"]
        place = (resource.name, tenant, key)
        shown = None if query else self._shown.get(place)
        if shown is None:
            try:
                row, kept = await self._found(resource, key, tenant, include)
            except WrongTenant:
                raise _nobody(resource) from None
            shown = answers.made(
                {"data": resource.show(row, options["fields"], include)}, version=resource.version_of(row)
            )
            if not query and key == str(row.id):  # it may be written in other ways too, and each would be kept
                self._shown.keep(place, shown, [kept])
        return answers.sent(request, shown)

    async def _found(
        self, resource: Resource, key: str, tenant: str | None, include: Sequence[str]
    ) -> tuple[Any, Source | None]:
        """A row to be shown: from the cache where the declaration says so, and what is kept of it there; else as it is
        now."""
        if resource.expose.cached and not include and (row_id := _uuid(key)) is not None:
            row, kept = await self.hold.cache[resource.model].traced(row_id, tenant=tenant)
            if row is not None:
                return row, kept
            if resource.expose.key is None:
                raise not_found(resource, key)
        async with self.hold.read(tenant=tenant) as unit:
            found = await find(unit, resource, key)
            await _include(unit, resource, [found], include)
        return found, None

    async def _create(self, request: Request) -> Response:
        return await self._writes.create(request, self._resource(request))

    async def _update(self, request: Request) -> Response:
        return await self._writes.update(request, self._resource(request))

    async def _delete(self, request: Request) -> Response:
        return await self._writes.delete(request, self._resource(request))

    def _resource(self, request: Request) -> Resource:
        name = request.path_params["name"]
        resource = self.resources.get(name)
        if resource is None:
            if self.access.is_closed:
                raise NotFound(f"there is no resource {name[:64]!r}; {PATH} lists them for who has a key")
            known = ", ".join(r.name for r in self.resources.values() if self.access.is_shown(r)) or "none"
            raise NotFound(f"there is no resource {name[:64]!r}; there are {known}")
        return resource


class _AnyMethod:
    """An endpoint that is asked with any method, and says itself which it takes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def _tenant(who: Identity | None) -> str | None:
    return None if who is None else who.tenant


def _nobody(resource: Resource) -> Refusal:
    return Refusal(403, f"{resource.name} has no rows of those for whom this key acts")


def _uuid(text: str) -> UUID | None:
    try:
        found: UUID = UUID_KIND.read(text)
    except ValueError:
        return None
    return found


async def _include(unit: Unit, resource: Resource, rows: Sequence[Model], names: Sequence[str]) -> None:
    """Load relationships of `rows`; related rows are counted first, since nothing else bounds their number."""
    if not rows or not names:
        return
    model: Any = resource.model
    ids: list[UUID] = [row.id for row in rows]
    for name in names:
        related = select(model.id).join(getattr(model, name)).where(model.id.in_(ids)).limit(MOST_INCLUDED + 1)
        number = (await unit.execute(select(func.count()).select_from(related.subquery()))).scalar_one()
        if number > MOST_INCLUDED:
            elsewhere = f"{PATH}/{resource.includes[name].name}"
            raise InvalidValue(
                f"include={name} would load more than {MOST_INCLUDED} rows; use a smaller limit, or page {elsewhere}"
            )
    await unit[resource.model].get_many(ids, include=names)


def _described(resource: Resource, root: str, access: Access) -> dict[str, Any]:
    expose = resource.expose
    return {
        "name": resource.name,
        "href": f"{root}{PATH}/{resource.name}",
        "fields": list(resource.kinds),
        "filters": list(expose.filters),
        "sort": list(expose.sort),
        "include": list(resource.includes),
        "key": expose.key,
        "writes": list(access.writes(resource)),
        "writable": list(expose.writable) if access.writes(resource) else [],
        "needs_key": access.needs_key(resource),
    }
