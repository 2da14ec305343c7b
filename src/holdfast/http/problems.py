"""Errors as problem details (RFC 9457): what was wrong, with which value, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from holdfast.errors import Conflict, HoldfastError, InvalidValue, NotFound, Unavailable
from holdfast.logs import get_logger

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 1  # seconds until a database that is gone may be asked for again

log = get_logger("holdfast.http")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one part of a body; `pointer` is its JSON pointer, as a fragment: `#/title`."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The members of RFC 9457, section 3.1, the request's id, under which the log has more, and a body's faults."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: Sequence[Fault] | msgspec.UnsetType = msgspec.UNSET


class Refusal(Exception):
    """A request that is answered with a problem, on purpose.

    Attributes:
        status: of the answer.
        headers: of the answer.
        errors: what is wrong with which parts of the body.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[Fault] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.errors = errors


_STATUS: tuple[tuple[type[HoldfastError], int], ...] = (
    (InvalidValue, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)
_DETAILS = {
    404: "there is nothing at this address; /openapi.json lists what there is",
    405: "this address cannot be used with this method; the Allow header lists those it takes",
}


def problem(
    request: Request,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Fault] = (),
) -> Response:
    """A problem response."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.scope["path"],
        request_id=request.scope.get("holdfast.request_id", ""),
        errors=errors or msgspec.UNSET,
    )
    return Response(msgspec.json.encode(body), status, dict(headers or {}), MEDIA_TYPE)


def of_refusal(request: Request, error: Exception) -> Response:
    """The response for a request that was refused."""
    if not isinstance(error, Refusal):
        return of_failure(request, error)
    return problem(request, error.status, str(error), error.headers, error.errors)


def of_holdfast_error(request: Request, error: Exception) -> Response:
    """The response for an error that Holdfast raised on purpose.

    What the caller can act on is told as it is; of anything else only that it happened, since it may speak
    of the inside: the log has it, under the request's id.
    """
    for kind, status in _STATUS:
        if isinstance(error, kind):
            if status != 503:
                return problem(request, status, str(error))
            # Where the database is, and why it does not answer, is for the log.
            request_id = request.scope.get("holdfast.request_id")
            log.warning("unavailable", path=request.scope["path"], request_id=request_id, reason=str(error))
            told = "what this needs cannot be reached just now; try again"
            return problem(request, status, told, {"Retry-After": str(RETRY_AFTER)})
    return of_failure(request, error)


def of_failure(request: Request, error: Exception) -> Response:
    """The response for what should not have happened; the log gets it with its traceback."""
    log.error(
        "request_failed",
        path=request.scope["path"],
        request_id=request.scope.get("holdfast.request_id"),
        exc_info=error,
    )
    return problem(request, 500, "this request failed; the log has the reason under the request_id")


def _taken_elsewhere(request: Request) -> set[str]:
    """The methods that other routes of the same address take: the router speaks of the first one only."""
    app = request.scope.get("app")
    routes = [route for route in getattr(app, "routes", ()) if isinstance(route, Route) and route.methods]
    return {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


def of_http_exception(request: Request, error: Exception) -> Response:
    """The response for what routing refused: an unknown address, a method that is not taken."""
    if not isinstance(error, HTTPException):
        return of_failure(request, error)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        taken = {method.strip() for method in headers.get("Allow", "GET, HEAD").split(",")} | {"OPTIONS"}
        taken |= _taken_elsewhere(request)
        headers["Allow"] = ", ".join(sorted(taken))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    default = HTTPStatus(error.status_code).phrase
    detail = _DETAILS.get(error.status_code) if error.detail in ("", default) else error.detail
    return problem(request, error.status_code, detail or default, headers)
