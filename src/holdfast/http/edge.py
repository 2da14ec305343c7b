"""What every request passes first: limits, an id, headers that protect a browser, the access log, the counters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from holdfast.cache.statistics import Statistics
from holdfast.http import problems
from holdfast.logs import get_logger
from holdfast.model import uuid7

LONGEST_QUERY = 24_576  # bytes; the cursor of a page may have 16,384
LONGEST_PATH = 2_048  # bytes
LARGEST_BODY = 65_536  # bytes; more than any request here, or webhook, has
# Where a server in front of this one reads another of two, it takes one request for two (RFC 9112, section 11.2).
_ONCE = frozenset((b"content-length", b"transfer-encoding", b"host", b"content-type"))
_PORT = re.compile(r":[0-9]*\Z")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

PROTECTION = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_PROTECTION = [(name.lower().encode(), value.encode()) for name, value in PROTECTION.items()]

Observe = Callable[[str, str, int, float], None]  # method, route, status, seconds

log = get_logger("holdfast.http")


class _BodyTooLarge(Exception):
    """More came than `LARGEST_BODY`."""


class Edge:
    """ASGI middleware around everything else.

    Args:
        route_of: the template of the route that took a request, for the counters.
        observe: called once a request.
        counted: where the reads of the cache are counted by route.
        hosts: the names that it answers to; any where there are none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        route_of: Callable[[Scope], str],
        observe: Observe,
        counted: Statistics,
        hosts: Collection[str] = (),
    ) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.route_of = route_of
        self.observe = observe
        self.counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request_id = _request_id(request)
        scope["holdfast.request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                given = {name for name, _ in headers}
                headers.extend(pair for pair in _PROTECTION if pair[0] not in given)
                headers.append((b"x-request-id", request_id.encode()))
            elif scope["method"] == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        with bound_contextvars(request_id=request_id), self.counted.counting() as reads:
            try:
                refused = _refused(request) or self._misdirected(request)
                if refused is not None:
                    await problems.problem(request, *refused)(scope, receive, sending)
                else:
                    await self.app(scope, _bounded(receive), sending)
            except Exception as error:
                if status:
                    raise  # the answer has begun: the server breaks the connection, so that nobody takes it for whole
                if isinstance(error, _BodyTooLarge):
                    response = problems.problem(request, 413, f"a body may have {LARGEST_BODY} bytes")
                else:
                    response = problems.of_failure(request, error)
                await response(scope, receive, sending)
            finally:
                seconds = time.perf_counter() - began
                route = self.route_of(scope)
                self.observe(scope["method"], route, status, seconds)
                if reads.reads or reads.bypassed:
                    self.counted.endpoints.add(f"{scope['method']} {route}", reads)
                # The query is left out: it may hold what should not be in a log.
                log.info(
                    "request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4)
                )

    def _misdirected(self, request: Request) -> tuple[int, str] | None:
        """A page elsewhere may have its own name resolve to this machine; the name is what gives it away."""
        host = _PORT.sub("", request.headers.get("host", "")).strip("[]")
        if self.hosts and host.lower() not in self.hosts:
            return 421, f"this service does not answer to the name {host[:80]!r}"
        return None


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid7().hex


def _refused(request: Request) -> tuple[int, str] | None:
    scope: Any = request.scope
    if len(scope["query_string"]) > LONGEST_QUERY:
        return 414, f"a query string may have {LONGEST_QUERY} bytes, not {len(scope['query_string'])}"
    if len(scope["path"].encode("utf-8", "replace")) > LONGEST_PATH:
        return 414, f"a path may have {LONGEST_PATH} bytes"
    length = "0"
    seen = set()
    for name, value in scope["headers"]:
        if name in _ONCE:
            if name in seen:
                return 400, f"{name.decode()} is given twice; a request has one"
            seen.add(name)
            if name == b"content-length":
                length = value.decode("latin-1")
    if {b"content-length", b"transfer-encoding"} <= seen:
        return 400, "Content-Length and Transfer-Encoding say different things of the body; give one of them"
    if not (length.isascii() and length.isdigit()):
        return 400, f"Content-Length {length[:40]!r} is not a number of bytes"
    if int(length[:20]) > LARGEST_BODY:
        return 413, f"a body may have {LARGEST_BODY} bytes, not {length[:20]}"
    return None


def _bounded(receive: Receive) -> Receive:
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY:
            raise _BodyTooLarge
        return message

    return receiving
