"""What every request passes first: limits, an id, headers that protect a browser, the access log, the counters."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from holdfast.cache.statistics import Statistics
from holdfast.http import problems
from holdfast.http.addresses import Network, address_of
from holdfast.logs import get_logger
from holdfast.model import uuid7

LONGEST_QUERY = 24_576  # bytes; the cursor of a page may have 16,384
LONGEST_PATH = 2_048  # bytes
LARGEST_BODY = 65_536  # bytes; more than any request here, or webhook, has
# Where a server in front of this one reads another of two, it takes one request for two (RFC 9112, section 11.2).
_ONCE = frozenset((b"content-length", b"transfer-encoding", b"host", b"content-type"))
_LOOKED_AT = _ONCE | {b"x-request-id"}
_TWICE = b""  # no header's name
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
_PROTECTED = frozenset(name for name, _ in _PROTECTION)

Head = dict[bytes, bytes]

Observe = Callable[[str, str, int, float], None]  # method, route, status, seconds

_LOG = "holdfast.http"
log = get_logger(_LOG)


class _BodyTooLarge(Exception):
    """More came than `LARGEST_BODY`."""


class Edge:
    """ASGI middleware around everything else.

    Args:
        route_of: the template of the route that took a request, for the counters.
        observe: called once a request.
        counted: where the reads of the cache are counted by route.
        hosts: the names that it answers to; any where there are none.
        proxies: whose word is taken for where a request comes from.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        route_of: Callable[[Scope], str],
        observe: Observe,
        counted: Statistics,
        hosts: Collection[str] = (),
        proxies: tuple[Network, ...] = (),
    ) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.proxies = proxies
        self.route_of = route_of
        self.observe = observe
        self.counted = counted
        self._logger = logging.getLogger(_LOG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.proxies and scope.get("client"):
            peer, port = scope["client"]
            address = address_of(peer, scope["headers"], self.proxies)
            scope = {**scope, "client": (address, port if address == peer else 0)}
        head = _head(scope["headers"])
        request_id = _request_id(head)
        scope["holdfast.request_id"] = request_id
        written_id = request_id.encode()
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                given = {name for name, _ in headers}
                if given.isdisjoint(_PROTECTED):
                    headers += _PROTECTION
                else:
                    headers += [pair for pair in _PROTECTION if pair[0] not in given]
                headers.append((b"x-request-id", written_id))
            elif scope["method"] == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        bound = bind_contextvars(request_id=request_id)
        with self.counted.counting() as reads:
            try:
                refused = _refused(scope, head) or self._misdirected(head)
                if refused is not None:
                    await problems.problem(Request(scope), *refused)(scope, receive, sending)
                else:
                    await self.app(scope, _bounded(receive), sending)
            except Exception as error:
                if status:
                    raise  # the answer has begun: the server breaks the connection, so that nobody takes it for whole
                if isinstance(error, _BodyTooLarge):
                    response = problems.problem(Request(scope), 413, f"a body may have {LARGEST_BODY} bytes")
                else:
                    response = problems.of_failure(Request(scope), error)
                await response(scope, receive, sending)
            finally:
                seconds = time.perf_counter() - began
                route = self.route_of(scope)
                self.observe(scope["method"], route, status, seconds)
                if reads.reads or reads.bypassed:
                    self.counted.endpoints.add(f"{scope['method']} {route}", reads)
                if self._logger.isEnabledFor(logging.INFO):
                    # The query is left out: it may hold what should not be in a log.
                    log.info(
                        "request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4)
                    )
                reset_contextvars(**bound)

    def _misdirected(self, head: Head) -> tuple[int, str] | None:
        """A page elsewhere may have its own name resolve to this machine; the name is what gives it away."""
        if not self.hosts:
            return None
        host = _PORT.sub("", head.get(b"host", b"").decode("latin-1")).strip("[]")
        if host.lower() not in self.hosts:
            return 421, f"this service does not answer to the name {host[:80]!r}"
        return None


def _head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """What is looked at here; of what is given twice the first, and that it is under `_TWICE`."""
    head: Head = {}
    for name, value in headers:
        if name in _LOOKED_AT:
            if name not in head:
                head[name] = value
            elif name in _ONCE:
                head.setdefault(_TWICE, name)
    return head


def _request_id(head: Head) -> str:
    given = head.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return uuid7().hex


def _refused(scope: Scope, head: Head) -> tuple[int, str] | None:
    if len(scope["query_string"]) > LONGEST_QUERY:
        return 414, f"a query string may have {LONGEST_QUERY} bytes, not {len(scope['query_string'])}"
    if len(scope["path"].encode("utf-8", "replace")) > LONGEST_PATH:
        return 414, f"a path may have {LONGEST_PATH} bytes"
    if _TWICE in head:
        return 400, f"{head[_TWICE].decode()} is given twice; a request has one"
    if b"content-length" not in head:
        return None
    if b"transfer-encoding" in head:
        return 400, "Content-Length and Transfer-Encoding say different things of the body; give one of them"
    length = head[b"content-length"].decode("latin-1")
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
