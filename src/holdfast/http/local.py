"""What only this machine may ask for, until there are keys."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from holdfast.http import problems

Answer = Callable[[Request], Awaitable[Response]]

# What proxies add that say that they are one. There are others, which no header tells from a request of this machine.
_FORWARDED = ("forwarded", "x-real-ip", "via", "cf-connecting-ip", "true-client-ip", "x-client-ip", "x-request-start")
_FORWARDED_AS = "x-forwarded-"


def only_here(endpoint: Answer) -> Answer:
    """`endpoint` for requests of this machine alone: 403 for others, for what a proxy passes on, and for pages of other
    sites that a browser on this machine shows."""

    async def guarded(request: Request) -> Response:
        reason = _refused(request)
        return await endpoint(request) if reason is None else problems.problem(request, 403, reason)

    guarded.__name__, guarded.__doc__ = endpoint.__name__, endpoint.__doc__
    return guarded


def _refused(request: Request) -> str | None:
    host = request.client.host if request.client is not None else ""
    if not _is_loopback(host) or _is_forwarded(request):
        return "this address answers to requests from its own machine alone, and not through a proxy"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        return "this address does not answer to pages of other sites"
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "this address does not answer to pages of other sites"
    return None


def _is_forwarded(request: Request) -> bool:
    return any(name in _FORWARDED or name.startswith(_FORWARDED_AS) for name in request.headers)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
