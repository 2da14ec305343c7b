"""Which pages of other origins may ask: none, unless `HOLDFAST_CORS_ORIGINS` names them."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.errors import ConfigurationError

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?")
_PATHS = ("/v1/", "/openapi.json")  # what is of this machine alone, and its pages, are nobody else's
_TAKEN = b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, X-Request-ID"
_SHOWN = (
    b"ETag, Idempotency-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-RateLimit-Limit,"
    b" X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID, X-Manifest-SHA256"
)
_METHODS = b"GET, HEAD, POST, PATCH, DELETE"
_REMEMBERED = b"600"  # seconds for which a browser need not ask again


def origins_of(text: str) -> frozenset[str]:
    """The origins that a setting names, between commas.

    Raises:
        ConfigurationError: one is no origin; `*` is none, for what anybody's page may read is said page by page.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for origin in found:
        if _ORIGIN.fullmatch(origin) is None:
            raise ConfigurationError(
                f"HOLDFAST_CORS_ORIGINS names {origin[:80]!r}, which is no origin: write https://app.example, in lower"
                " case and without a path; * cannot be, name each"
            )
    return frozenset(found)


class Cors:
    """ASGI middleware that lets the pages of some origins ask, without cookies."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if not self._origins or not path.startswith(_PATHS):
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "").encode("latin-1")
        is_allowed = origin in self._origins
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in dict(scope["headers"])

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers.append((b"vary", b"Origin"))
                if is_allowed:
                    headers.append((b"access-control-allow-origin", origin))
                    headers.append((b"access-control-expose-headers", _SHOWN))
                    if is_preflight:
                        headers.append((b"access-control-allow-methods", _METHODS))
                        headers.append((b"access-control-allow-headers", _TAKEN))
                        headers.append((b"access-control-max-age", _REMEMBERED))
            await send(message)

        await self._app(scope, receive, sending)
