"""`POST`, `PATCH` and `DELETE` of a resource, in one unit each: with who wrote it, for whom, in which request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from holdfast.errors import Conflict, InvalidValue, WrongTenant
from holdfast.guard.audit import Audited
from holdfast.guard.idempotency import Answers, InFlight, Kept, OtherRequest, checked_key, digest_of
from holdfast.hold import Holdfast
from holdfast.http import parameters
from holdfast.http.access import Access
from holdfast.http.answers import REVALIDATE, encoded, tag_of
from holdfast.http.bodies import JSON, MERGE_PATCH, json_object
from holdfast.http.exposed import Resource
from holdfast.http.finding import PATH, find
from holdfast.http.identity import Identity, origin_of, request_id_of
from holdfast.http.preconditions import matches
from holdfast.http.problems import RETRY_AFTER, Refusal
from holdfast.http.writing import merged
from holdfast.model import Model
from holdfast.store import Unit

KEY = "Idempotency-Key"


class Writes:
    """What callers write into the resources of one `Holdfast`."""

    def __init__(self, hold: Holdfast, access: Access) -> None:
        self._hold = hold
        self._access = access
        self._answers = Answers(hold.store)

    async def create(self, request: Request, resource: Resource) -> Response:
        """Make a row: 201 with its address and its ETag."""
        who = await self._access.writer(request, resource, "create")
        parameters.read(request.scope["query_string"], ())
        key = _idempotency_key(request)
        data, given = await json_object(request, (JSON,), "Accept-Post")
        values = resource.writing.created(given)
        asked = digest_of(request.method, request.scope["path"], data)

        async def work(unit: Unit) -> Kept:
            if key is not None and (kept := await self._answers.find(unit, who.caller, key, asked)) is not None:
                return _again(kept)
            row = await unit[resource.model].add(resource.model(**values))
            with unit.translated():
                await unit.session.refresh(row)  # as the database keeps it
            kept = _kept(request, resource, row)
            if key is not None:
                await self._answers.keep(unit, who.caller, key, asked, kept)
            return kept

        if key is None:
            kept = await self._run(request, resource, who, work)
        else:
            try:
                with self._answers.turn(who.caller, key):
                    kept = await self._run(request, resource, who, work)
            except InFlight as waits:
                raise Refusal(409, str(waits), {"Retry-After": str(RETRY_AFTER)}) from None
            except OtherRequest as other:
                raise Refusal(422, str(other)) from None
        return Response(kept.body, kept.status, {**REVALIDATE, **kept.headers}, JSON)

    async def update(self, request: Request, resource: Resource) -> Response:
        """Change a row by a merge patch: 200 with the row as it is then."""
        who = await self._access.writer(request, resource, "update")
        parameters.read(request.scope["query_string"], ())
        _must_match(request, resource)
        _, given = await json_object(request, (MERGE_PATCH, JSON), "Accept-Patch")
        values = resource.writing.changed(given)

        async def work(unit: Unit) -> tuple[bytes, str]:
            row: Any = await self._locked(unit, request, resource)
            changed = dict(values)
            for name in resource.writing.documents & values.keys():
                changed[name] = merged(getattr(row, name), given[name])
            if changed:
                row = await unit[resource.model].update(row.id, **changed)
            return _shown(resource, row)

        body, tag = await self._run(request, resource, who, work)
        return Response(body, 200, {**REVALIDATE, "ETag": tag}, JSON)

    async def delete(self, request: Request, resource: Resource) -> Response:
        """Delete a row, softly where its model is `SoftDeleted`: 204."""
        who = await self._access.writer(request, resource, "delete")
        parameters.read(request.scope["query_string"], ())
        _must_match(request, resource)

        async def work(unit: Unit) -> None:
            row: Any = await self._locked(unit, request, resource)
            await unit[resource.model].delete(row.id)

        await self._run(request, resource, who, work, deleting=True)
        return Response(status_code=204)

    async def _run(
        self,
        request: Request,
        resource: Resource,
        who: Identity,
        work: Callable[[Unit], Awaitable[Any]],
        *,
        deleting: bool = False,
    ) -> Any:
        """What `work` gives in a unit of who asks; what breaks a constraint is told by its fields."""
        request_id = request_id_of(request)
        is_audited = request_id is not None and resource.model.__policy__.aspect(Audited) is not None

        async def on_record(unit: Unit) -> Any:
            if is_audited:
                await self._hold.audit.origin(unit, origin_of(request), tenant=who.org_id)
            return await work(unit)

        try:
            return await self._hold.run(on_record, actor=str(who.user_id), tenant=who.tenant, request_id=request_id)
        except (InFlight, OtherRequest):
            raise
        except WrongTenant:
            raise Refusal(403, f"{resource.name} has no rows for whom this key acts") from None
        except (Conflict, InvalidValue) as error:
            refusal = resource.writing.conflict(error, deleting=deleting)
            if refusal is None:
                raise
            if request.headers.get("if-none-match", "").strip() == "*" and request.method == "POST":
                refusal.status = 412
            raise refusal from None

    async def _locked(self, unit: Unit, request: Request, resource: Resource) -> Model:
        """The row that is asked for, which nobody else changes until the unit ends, if it is as the caller expects.

        Raises:
            NotFound: there is none. Refusal: 412, it is not what he has seen.
        """
        row = await find(unit, resource, request.path_params["key"], lock=True)
        _, tag = _shown(resource, row)
        wanted = _one_header(request, "if-match")
        unwanted = _one_header(request, "if-none-match")
        if wanted is not None and not matches(wanted, tag, has_version=resource.versioned):
            raise Refusal(412, "the row is not any more what If-Match names; read it again", {"ETag": tag})
        if unwanted is not None and matches(unwanted, tag, has_version=resource.versioned, weak=True):
            raise Refusal(412, "the row is what If-None-Match names", {"ETag": tag})
        return row


def _again(kept: Kept) -> Kept:
    """An answer that was given before, which says so."""
    return Kept(kept.status, {**kept.headers, "Idempotency-Replayed": "true"}, kept.body)


def _kept(request: Request, resource: Resource, row: Any) -> Kept:
    body, tag = _shown(resource, row)
    place = f"{request.scope.get('root_path', '')}{PATH}/{resource.name}/{row.id}"
    return Kept(201, {"Location": place, "ETag": tag}, body)


def _shown(resource: Resource, row: Any) -> tuple[bytes, str]:
    """A row as it is read without parameters, and its ETag."""
    body = encoded({"data": resource.show(row)})
    return body, tag_of(body, resource.version_of(row))


def _must_match(request: Request, resource: Resource) -> None:
    if resource.expose.must_match and "if-match" not in request.headers:
        raise Refusal(428, "say which state of the row you have seen: send its ETag as If-Match")


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.getlist(KEY)
    if len(given) > 1:
        raise Refusal(400, f"{KEY} is given twice; give it once")
    return checked_key(given[0]) if given else None


def _one_header(request: Request, name: str) -> str | None:
    given = request.headers.getlist(name)
    return ", ".join(given) if given else None
