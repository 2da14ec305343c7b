"""A server of the benchmark of HTTP, which ends with its input: `… benchmarks.http_server SUBJECT URL PORT`

SUBJECT is `holdfast`, `by-hand`, `row-security` (`holdfast` under `HOLDFAST_ROW_SECURITY`), `exact` (each call counted
by itself), `redis` (limits, keys and rows in the Redis of `HOLDFAST_REDIS_URL`), `redis-exact` or `ceiling`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
import time
from typing import Any
from uuid import UUID

import msgspec
import structlog
from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.http_lamps import METADATA, Lamp
from holdfast import ALL, Holdfast
from holdfast.apps.accounts import Organization, User
from holdfast.apps.accounts.limits import hit
from holdfast.apps.accounts.usage import log_usage
from holdfast.guard.limits.headers import headers_of
from holdfast.guard.limits.window import EXACT
from holdfast.http import create_app
from holdfast.settings import Settings

_encode = msgspec.json.Encoder().encode
_LENGTH = 250  # bytes, of a lamp
_HEADERS = [(b"content-length", str(_LENGTH).encode()), *((b"x-header-%d" % number, b"x" * 24) for number in range(16))]
_START: Message = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
_BODY: Message = {"type": "http.response.body", "body": b"x" * _LENGTH}


def by_hand(hold: Holdfast) -> Starlette:
    """What somebody who has the library and needs this one address writes."""

    async def lamp(request: Request) -> Response:
        began = time.perf_counter()
        key = await hold.keys.verify(request.headers.get("x-api-key", ""), scope="lamps:read")
        user = await hold.cache[User].get(key.user_id, tenant=ALL)
        organization = await hold.cache[Organization].get(key.org_id, tenant=ALL)
        if user is None or not user.is_active or organization is None or not organization.is_active:
            return Response(status_code=401)
        counted = await hit(hold, user_id=key.user_id, org_id=key.org_id, tier=key.tier, organization=organization)
        if not counted.allowed:
            return Response(status_code=429, headers=headers_of(counted))
        row: Any = await hold.cache[Lamp].get(UUID(request.path_params["id"]), tenant=str(key.org_id))
        if row is None:
            return Response(status_code=404)
        shown = ("id", "created_at", "updated_at", "version", "org_id", "name", "range_nm")
        body = _encode({"data": {name: getattr(row, name) for name in shown}})
        tag = f'"{row.version}.{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", **headers_of(counted)}
        given = request.headers.get("if-none-match")
        response = (
            Response(status_code=304, headers=headers)
            if given == tag
            else Response(body, headers=headers, media_type="application/json")
        )
        log_usage(
            hold,
            user_id=key.user_id,
            org_id=key.org_id,
            api_key_id=key.id,
            endpoint="/v1/resources/lamps/{id}",
            method="GET",
            status=response.status_code,
            seconds=time.perf_counter() - began,
        )
        return response

    return Starlette(routes=[Route("/v1/resources/lamps/{id}", lamp)])


async def ceiling(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends as much as the others, and looks at nothing."""
    await send(_START)
    await send(_BODY)


async def main(subject: str, url: str, port: int) -> None:
    """Serve until the input ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = Settings(
        database_url=url,
        redis_url=os.environ["HOLDFAST_REDIS_URL"] if "redis" in subject else None,
        limits=f"pro={EXACT:_}/s" if "exact" in subject else "pro=10_000_000/min",
        redis_timeout=5.0,  # a machine that does other things too must not turn a late answer into a refusal
        row_security=subject == "row-security",
    )
    async with await Holdfast.open(settings=settings, metadata=METADATA, migrate=False) as hold:
        app: ASGIApp = ceiling
        if subject != "ceiling":
            app = by_hand(hold) if subject == "by-hand" else create_app(hold)
        server = Server(
            app, address="127.0.0.1", port=port, interface=Interfaces.ASGINL, log_enabled=False, websockets=False
        )
        serving = asyncio.ensure_future(server.serve())
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            break
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=10)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
