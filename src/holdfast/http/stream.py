"""`/v1/stream`: server-sent events (the HTML standard, section 9.2), one stream a tab."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from holdfast.http import parameters
from holdfast.http.live import Event, Live

RETRY = 1_000  # milliseconds after which a browser comes again
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def route(live: Live) -> Route:
    """The route."""

    async def stream(request: Request) -> Response:
        parameters.read(request.scope["query_string"], ())
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type="text/event-stream")
        events = live.listen(request.headers.get("last-event-id"))
        first = await anext(events)  # here, so that a refusal is still an answer of its own
        return StreamingResponse(_written(first, events), headers=_HEADERS, media_type="text/event-stream")

    return Route("/v1/stream", stream)


async def _written(first: Event | None, events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY}\n".encode() + write(first)
    async for event in events:
        yield write(event)


def write(event: Event | None) -> bytes:
    """One event as it goes over the line; a heartbeat is a comment."""
    if event is None:
        return b":\n\n"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        event.id.encode(),
        event.name.encode(),
        msgspec.json.encode(event.data),
    )
