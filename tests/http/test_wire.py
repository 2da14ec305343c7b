"""What the server makes of two lengths before the application sees them, over a real socket."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.http.served import serve

HIDDEN = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


class Seen:
    """An application that notes what it is asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.app = Starlette(routes=[Route("/{path}", self._answer, methods=["GET", "POST"])])
        self.app.state.live = self

    async def close(self) -> None:
        """Nothing is open."""

    async def _answer(self, request: Request) -> PlainTextResponse:
        self.paths.append(request.url.path)
        return PlainTextResponse((await request.body()).decode())


async def said_to(url: str, request: str) -> bytes:
    """All that is answered until the server closes the connection, which it must do by itself."""
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@pytest.mark.parametrize("length", ["6", "48"])  # a proxy that goes by it would take the rest for another request
async def test_a_length_beside_a_transfer_encoding_counts_for_nothing_and_ends_the_connection(length: str) -> None:
    """RFC 9112, 6.1 and 6.3: the chunks are the body, and nothing behind it is read."""
    seen = Seen()
    async with serve(seen.app) as url:
        for one, other in (
            ("Transfer-Encoding: chunked", f"Content-Length: {length}"),
            (f"Content-Length: {length}", "Transfer-Encoding: chunked"),
        ):
            answer = await said_to(
                url, f"POST /first HTTP/1.1\r\nHost: x\r\n{one}\r\n{other}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{HIDDEN}"
            )
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            assert answer.endswith(b"\r\n\r\nabc")
            assert answer.count(b"HTTP/1.1 ") == 1
        assert seen.paths == ["/first", "/first"]


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 3\r\nContent-Length: 4",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked\r\nContent-Length: 3",
        "Transfer-Encoding : chunked\r\nContent-Length: 3",
    ],
)
async def test_what_leaves_the_length_open_is_refused(headers: str) -> None:
    seen = Seen()
    async with serve(seen.app) as url:
        answer = await said_to(url, f"POST /first HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\nabc{HIDDEN}")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert seen.paths == []
