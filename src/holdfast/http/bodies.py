"""Bodies of requests: of a type that is taken, JSON, an object, and no deeper than it may be."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from starlette.requests import Request

from holdfast.http.problems import Refusal

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
DEEPEST = 32  # levels of objects and arrays within one another


async def json_object(request: Request, media_types: Collection[str], accept: str) -> tuple[bytes, dict[str, Any]]:
    """The body as it came, and as an object.

    Args:
        media_types: that are taken.
        accept: the header of a 415 that says so, `Accept-Patch` or `Accept-Post`.

    Raises:
        Refusal: 400, it is no JSON, no object, or too deep; 415, it is of another type.
    """
    data = await request.body()
    given = request.headers.get("content-type", "")
    media_type, _, parameters = given.partition(";")
    charset = parameters.partition("charset=")[2].strip().strip('"').lower()
    if media_type.strip().lower() not in media_types or charset not in ("", "utf-8", "utf8"):
        taken = ", ".join(media_types)
        raise Refusal(
            415, f"the body must be {' or '.join(media_types)}, in UTF-8, not {given[:60]!r}", {accept: taken}
        )
    return data, _object(data)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        raise Refusal(400, f"the body is nested deeper than {DEEPEST} levels") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the body is no JSON: {error}"[:300]) from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be a JSON object, {…}")
    if depth_exceeds(value, DEEPEST):
        raise Refusal(400, f"the body is nested deeper than {DEEPEST} levels")
    return value


def depth_exceeds(value: Any, most: int) -> bool:
    """Whether objects and arrays lie in one another more than `most` deep."""
    level = [value]
    for _ in range(most):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [part for part in one.values() if isinstance(part, dict | list)]
            elif isinstance(one, list):
                inner += [part for part in one if isinstance(part, dict | list)]
        if not inner:
            return False
        level = inner
    return True
