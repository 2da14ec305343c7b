"""JSON answers: encoded once, tagged, and not sent again to who has them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode
REVALIDATE = {"Cache-Control": "private, no-cache"}  # keep it, but ask before using it


def answer(
    request: Request, value: Any, *, headers: dict[str, str] | None = None, version: int | None = None
) -> Response:
    """`value` as JSON with an ETag; 304 without a body where `If-None-Match` has it.

    Times become ISO 8601 with Z, UUIDs text; amounts must be strings already.

    Args:
        version: of the row that it shows, which the ETag begins with then.
    """
    return tagged(request, _encode(value), "application/json", headers, version)


def encoded(value: Any) -> bytes:
    """`value` as `answer` writes it."""
    return _encode(value)


def tag_of(body: bytes, version: int | None = None) -> str:
    """The ETag of a body: its digest, after the version of the row that it shows."""
    digest = hashlib.blake2b(body, digest_size=12).hexdigest()
    return f'"{digest}"' if version is None else f'"{version}.{digest}"'


def tagged(
    request: Request, body: bytes, media_type: str, headers: dict[str, str] | None = None, version: int | None = None
) -> Response:
    """`body` with an ETag made from it; 304 where the client has it."""
    tag = tag_of(body, version)
    headers = {"ETag": tag, **REVALIDATE, **(headers or {})}
    if _matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def fresh(value: Any, status: int = 200) -> Response:
    """`value` as JSON that nobody keeps: health and the like."""
    return Response(_encode(value), status, {"Cache-Control": "no-store"}, "application/json")


def _matches(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names `tag`, by weak comparison (RFC 9110, section 13.1.2)."""
    if header is None:
        return False
    return any(part.strip().removeprefix("W/") in ("*", tag) for part in header.split(","))
