"""JSON answers: encoded once, tagged, and not sent again to who has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode
REVALIDATE = {"Cache-Control": "private, no-cache"}  # keep it, but ask before using it


class Made(NamedTuple):
    """A JSON answer that was made before, to be sent to whoever asks for the same.

    Attributes:
        body: as it is sent.
        tag: its ETag.
        headers, unchanged: of a 200, and of a 304.
    """

    body: bytes
    tag: str
    headers: tuple[tuple[bytes, bytes], ...]
    unchanged: tuple[tuple[bytes, bytes], ...]


class _Sent(Response):
    """A response whose headers are known already; Starlette's own would encode them each time."""

    def __init__(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = list(headers)


def made(value: Any, *, version: int | None = None) -> Made:
    """What `answer` sends for `value`, without further headers."""
    body = _encode(value)
    tag = tag_of(body, version)
    unchanged = tuple((name.lower().encode(), text.encode()) for name, text in ({"ETag": tag} | REVALIDATE).items())
    size = (b"content-length", str(len(body)).encode())
    return Made(body, tag, (*unchanged, size, (b"content-type", b"application/json")), unchanged)


def sent(request: Request, answer: Made) -> Response:
    """What was made, with its ETag; 304 without a body where `If-None-Match` has it."""
    if any(name == b"if-none-match" for name, _ in request.scope["headers"]) and _matches(
        request.headers.get("if-none-match"), answer.tag
    ):
        return _Sent(304, b"", answer.unchanged)
    return _Sent(200, answer.body, answer.headers)


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
