"""`/v1/resources/…`: what the models expose, read-only. Nothing here is written for one model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from sqlalchemy import func, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast.errors import InvalidValue, NotFound
from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.answers import answer
from holdfast.http.exposed import Resource
from holdfast.http.values import UUID_KIND
from holdfast.model import Model
from holdfast.store import Query, Unit

PATH = "/v1/resources"
MOST_INCLUDED = 10_000  # related rows in one answer, a relationship


class Resources:
    """The endpoints over all exposed models of one `Holdfast`."""

    def __init__(self, hold: Holdfast, resources: dict[str, Resource]) -> None:
        self.hold = hold
        self.resources = resources

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(PATH, self.index),
            Route(PATH + "/{name}", self.list),
            Route(PATH + "/{name}/{key:path}", self.one),
        ]

    async def index(self, request: Request) -> Response:
        """Every resource with what can be asked of it."""
        parameters.read(request.scope["query_string"], ())
        return answer(
            request,
            {
                "data": [
                    _described(r, request.scope.get("root_path", "")) for r in self.resources.values() if not r.tenanted
                ]
            },
        )

    async def list(self, request: Request) -> Response:
        """One page of a resource's rows."""
        resource = self._resource(request)
        given = parameters.pairs(request.scope["query_string"])
        query, options = resource.query(given)
        fields, include = options["fields"], options["include"] or ()
        if fields is not None:
            query = query.select(*fields)
        async with self.hold.read() as unit:
            page = await unit[resource.model].page(
                query, limit=options["limit"], after=options["after"], total=options["total"]
            )
            await _include(unit, resource, page.items, include)
        body: dict[str, Any] = {"data": [resource.show(row, fields, include) for row in page.items], "next": page.next}
        if options["total"]:
            body["total"] = page.total
        headers = {}
        if page.next is not None:
            following = urlencode([(n, v) for n, v in given if n != "after"] + [("after", page.next)])
            headers["Link"] = f'<{quote(request.scope["path"])}?{following}>; rel="next"'
        return answer(request, body, headers=headers)

    async def one(self, request: Request) -> Response:
        """The row with an id, or with the value of the resource's key."""
        resource = self._resource(request)
        options = parameters.read(request.scope["query_string"], resource.single_parameters)
        include = options["include"] or ()
        async with self.hold.read() as unit:
            row = await _find(unit, resource, request.path_params["key"])
            await _include(unit, resource, [row], include)
        return answer(request, {"data": resource.show(row, options["fields"], include)})

    def _resource(self, request: Request) -> Resource:
        name = request.path_params["name"]
        resource = self.resources.get(name)
        if resource is None:
            known = ", ".join(r.name for r in self.resources.values() if not r.tenanted) or "none"
            raise NotFound(f"there is no resource {name[:64]!r}; there are {known}")
        if resource.tenanted:
            # Without a key nobody knows whose rows the caller may see, and showing all of them is the one wrong answer.
            raise HTTPException(
                403, f"the rows of {name} belong to tenants; they are not shown to a caller who is not known"
            )
        return resource


async def _find(unit: Unit, resource: Resource, text: str) -> Model:
    conditions: list[Any] = []
    model: Any = resource.model
    by = "id, a UUID" if resource.expose.key is None else f"id or {resource.expose.key}"
    for name, kind in (("id", UUID_KIND), (resource.expose.key, resource.key_kind)):
        with contextlib.suppress(ValueError):  # what a column cannot hold, no row has
            if name is not None and kind is not None:
                conditions.append(getattr(model, name) == kind.read(text))
    for condition in conditions:
        row: Model | None = await unit[resource.model].first(Query(resource.model).where(condition))
        if row is not None:
            return row
    raise NotFound(f"{resource.name} has no row {text[:80]!r}; rows are asked for by {by}")


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


def _described(resource: Resource, root: str) -> dict[str, Any]:
    expose = resource.expose
    return {
        "name": resource.name,
        "href": f"{root}{PATH}/{resource.name}",
        "fields": list(resource.kinds),
        "filters": list(expose.filters),
        "sort": list(expose.sort),
        "include": list(resource.includes),
        "key": expose.key,
    }
