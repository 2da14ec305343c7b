"""A page in a browser, and what it must never do: errors, requests elsewhere, breaches of its own policy."""

import asyncio
import contextlib
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.apps.payments import USDC, payment

NEW = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
OTHER = "OtherMint1111111111111111111111111111111111"


def rows() -> list[dict[str, Any]]:
    """Ten days of two tokens and four agents, one of them with a hostile name."""
    start = NEW - dt.timedelta(days=9)
    made = [
        payment(
            n,
            block_time=start + dt.timedelta(days=n % 10),
            amount=1_000_000 + 12_345 * n,
            agent_address=f"agent{n % 4}",
            token_mint=OTHER if n % 5 == 4 else USDC,
            status="failed" if n % 7 == 3 else "settled",
        )
        for n in range(60)
    ]
    return [*made, payment(99, block_time=NEW, amount=2**200 + 7, token_mint="HugeMint1", token_decimals=None)]


class Shown:
    """A page under test, and all that it did that it must not do."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.faults: list[str] = []
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._outside(request.url))

    def _outside(self, url: str) -> None:
        if not url.startswith(self.base):
            self.faults.append(f"request to {url}")

    async def open(self, path: str = "") -> None:
        await self.page.goto(self.base + path)
        await expect(self.page.locator("#live")).to_have_attribute("data-state", "live")

    async def figure(self, name: str) -> str:
        return (await self.page.locator(f'[data-figure="{name}"]').first.inner_text()).strip()


@contextlib.asynccontextmanager
async def shown(browser: Browser, base: str, **options: Any) -> AsyncIterator[Shown]:
    """A page in a context of its own; nothing it must not do may have happened."""
    context = await browser.new_context(**options)
    page = Shown(await context.new_page(), base)
    yield page
    assert page.faults == []
    await context.close()


@contextlib.contextmanager
def raw(url: str) -> Iterator[sqlite3.Connection]:
    """The database as another program sees it."""
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as connection, connection:
        yield connection


async def write(url: str, *statements: str) -> None:
    """Have another program write; in a thread, since whoever holds the file's lock may need this loop to let go."""

    def run() -> None:
        with raw(url) as connection:
            for statement in statements:
                connection.execute(statement)

    await asyncio.to_thread(run)
