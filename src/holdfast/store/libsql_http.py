"""Requests to a libSQL server: its address, who asks, for how long an answer is waited for, what a refusal means."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

from sqlalchemy import URL

from holdfast.errors import MissingExtra
from holdfast.settings import Settings
from holdfast.store import hrana
from holdfast.store.urls import web_address

ANSWER = 120.0  # seconds to wait for an answer, unless statements have a limit of their own


def check_installed() -> None:
    """Raise `MissingExtra` when httpcore is not installed."""
    try:
        import httpcore  # noqa: F401
    except ImportError:
        raise MissingExtra("libSQL over HTTP needs httpcore: pip install 'holdfast[libsql]'") from None


class Channel:
    """One HTTP connection to one database.

    What fails is raised as a `sqlite3.Error`; from a ConnectionError when a later try may do.
    """

    def __init__(self, url: URL, settings: Settings) -> None:
        import httpcore

        secure = url.query.get("tls") != "0"
        self._url = web_address(url)
        self._headers = [(b"Content-Type", b"application/json"), *_headers(url, settings.database_auth_token)]
        answer = settings.statement_timeout or ANSWER
        patience = settings.connect_timeout
        self._limit = settings.statement_timeout
        self._timeouts = {"timeout": {"connect": patience, "read": answer, "write": answer, "pool": patience}}
        self._pool = httpcore.AsyncConnectionPool(ssl_context=_trusted() if secure else None, max_connections=1)

    async def post(self, body: bytes) -> bytes:
        """The answer to a pipeline."""
        import httpcore

        problem: Exception
        try:
            answer = await self._pool.request(
                "POST", f"{self._url}/v3/pipeline", headers=self._headers, content=body, extensions=self._timeouts
            )
        except httpcore.ReadTimeout:
            if self._limit:
                name = "LIBSQL_TOO_SLOW"
                raise hrana.named(sqlite3.OperationalError(f"no answer in {self._limit:g} s"), name) from None
            problem = TimeoutError(f"no answer in {ANSWER:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            problem = ConnectionError(str(error) or type(error).__name__)
        else:
            if answer.status == 200:
                return bytes(answer.content)
            problem = _refusal(answer.status, bytes(answer.content))
        raise _raised(problem)

    @asynccontextmanager
    async def stream(self, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer to a cursor, as it comes; leaving the block early ends the request."""
        import httpcore

        try:
            async with self._pool.stream(
                "POST", f"{self._url}/v3/cursor", headers=self._headers, content=body, extensions=self._timeouts
            ) as answer:
                if answer.status != 200:
                    raise _raised(_refusal(answer.status, bytes(await answer.aread())))
                yield answer.aiter_stream()
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise _raised(ConnectionError(str(error) or type(error).__name__))  # noqa: B904  it has a cause

    async def close(self) -> None:
        """End what runs, and the connection; the next request opens another."""
        await self._pool.aclose()


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads some hundred certificates, so once


def _headers(url: URL, token: str | None) -> list[tuple[bytes, bytes]]:
    headers = []
    namespace = url.query.get("namespace")
    if namespace:
        # The server takes the first label of the host for the namespace, and an address has none.
        host = str(url.host)
        is_address = ":" in host or host.replace(".", "").isdigit()
        headers.append((b"Host", f"{namespace}.{'localhost' if is_address else host}".encode()))
    if token:
        headers.append((b"Authorization", f"Bearer {token}".encode()))
    return headers


def _raised(problem: Exception) -> sqlite3.Error:
    """What is raised for `problem`: a lost connection is an error of SQLite's that was caused by it."""
    if isinstance(problem, sqlite3.Error):
        return problem
    lost = sqlite3.OperationalError(str(problem))
    lost.__cause__ = problem
    return lost


def _refusal(status: int, body: bytes) -> Exception:
    """What an answer other than 200 means: a `sqlite3.Error`, or a ConnectionError when a later try may do."""
    text = body.decode(errors="replace").strip()[:300]
    if status in (401, 403):
        return hrana.named(sqlite3.OperationalError(f"HTTP {status}"), "LIBSQL_AUTH")
    if status == 404:
        return hrana.named(sqlite3.OperationalError(text or "HTTP 404"), "LIBSQL_NO_DATABASE")
    if "STREAM_EXPIRED" in text or "baton" in text:
        return hrana.error(hrana.Problem("the transaction was idle for too long", "STREAM_EXPIRED"))
    if status == 413:
        return hrana.named(sqlite3.DataError("the request is larger than the server takes"), "LIBSQL_TOO_LARGE")
    if status < 500 and status not in (408, 429):
        return sqlite3.OperationalError(f"HTTP {status}: {text}")
    return ConnectionError(f"HTTP {status}: {text}")
