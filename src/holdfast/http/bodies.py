"""Bodies of requests: of a type that is taken, JSON, an object, and no deeper than it may be."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from holdfast.errors import InvalidValue
from holdfast.http.problems import Refusal

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
DEEPEST = 32  # levels of objects and arrays within one another
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"?', re.S)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.S)

T = TypeVar("T")


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


async def typed(request: Request, kind: type[T]) -> T:
    """The body as an object of a type; nothing at all is taken for an empty object.

    Raises:
        Refusal: 400 and 415, as of `json_object`. InvalidValue: it is an object, and not of the type.
    """
    if not (data := await request.body()):
        data = b"{}"
    else:
        await json_object(request, (JSON,), "Accept-Post")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"the body is not what it must be: {error}") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, _fault(data, error)) from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be a JSON object, {…}")
    if depth_exceeds(value, DEEPEST):
        raise Refusal(400, f"the body is nested deeper than {DEEPEST} levels")
    return value


def _fault(data: bytes, error: Exception) -> str:
    """What is wrong with what is no JSON: where msgspec says that it ends too early, that may be the least of it."""
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        return f"the body is not UTF-8, at byte {wrong.start}"
    if isinstance(error, RecursionError) or _opens(text) > DEEPEST:
        return f"the body is nested deeper than {DEEPEST} levels"
    if _has_half_a_pair(text):
        return "the body is no JSON: it has half of a surrogate pair, as in \\ud800, which is no character"
    return f"the body is no JSON: {error}"[:300]


def _opens(text: str) -> int:
    """How many objects and arrays are open at once, at most; what stands in texts does not count."""
    deepest = level = 0
    for sign in _TEXT.sub("", text):
        level += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, level)
    return deepest


def _has_half_a_pair(text: str) -> bool:
    """Whether one half of a surrogate pair is written without the other."""
    expected = None  # where the second half must begin
    for found in _ESCAPE.finditer(text):
        code = int(found[1] or "0", 16)
        is_second = 0xDC00 <= code < 0xE000
        if expected not in (None, found.start()) or is_second != (expected is not None):
            return True
        expected = found.end() if 0xD800 <= code < 0xDC00 else None
    return expected is not None


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
