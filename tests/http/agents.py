"""The agents app behind an application, with the payments of `tests.apps.payments`."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from holdfast import Holdfast
from holdfast.http import create_app
from tests.apps.payments import invented, ledger
from tests.http.conftest import client_of

ROWS = invented(200)


@contextlib.asynccontextmanager
async def agents_client(
    url: str, rows: list[dict[str, Any]] | None = None
) -> AsyncIterator[tuple[Holdfast, httpx.AsyncClient]]:
    """A `Holdfast` with payments, whose rollup is up to date, and a client of its application."""
    async with ledger(url, ROWS if rows is None else rows) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            yield hold, client
        await app.state.live.close()
