"""The overview page in a browser: its figures are the database's, it follows by itself, anyone can use it."""

import asyncio
import re
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from holdfast import Holdfast
from holdfast.apps.agents import X402Payment
from holdfast.http import create_app
from tests.apps.payments import USDC, ledger, payment
from tests.http.browser import OTHER, raw, rows, shown, write
from tests.http.conftest import client_of
from tests.http.library import LibraryModel
from tests.http.served import Line, serve


@pytest.fixture
async def hold(sqlite_url: str) -> AsyncIterator[Holdfast]:
    """Sixty-one payments, with the rollups followed."""
    async with ledger(sqlite_url, rows()) as hold:
        async with hold.unit() as unit:
            hostile = "<img src=x onerror=alert(1)>\"'&"
            await unit.execute("UPDATE agents SET name = :name WHERE address = 'agent1'", {"name": hostile})
        await hold.follow()
        yield hold


@pytest.fixture
async def url(hold: Holdfast) -> AsyncIterator[str]:
    """Its application on a socket."""
    async with serve(create_app(hold)) as url:
        yield url


async def test_the_figures_are_those_of_the_database(browser: Browser, url: str, sqlite_url: str) -> None:
    with raw(sqlite_url) as database:
        agents = database.execute("SELECT count(*) FROM agents").fetchone()[0]
        ended = dict(database.execute("SELECT status, count(*) FROM x402_payments GROUP BY status"))
        volumes: dict[str, int] = {}
        for mint, amount in database.execute("SELECT token_mint, amount FROM x402_payments WHERE status = 'settled'"):
            volumes[mint] = volumes.get(mint, 0) + int(amount)
    async with shown(browser, url) as shows:
        await shows.open()
        assert await shows.figure("agents") == str(agents)
        assert await shows.figure("settled") == str(ended["settled"])
        rate = 100 * ended["settled"] / sum(ended.values())
        assert abs(float((await shows.figure("success-rate")).removesuffix(" %")) - rate) < 0.006
        for mint, decimals in ((USDC, 6), (OTHER, 6), ("HugeMint1", 0)):
            text = await shows.page.locator(f'[data-figure="volume"][data-token="{mint}"]').inner_text()
            assert Fraction(text.replace(",", "")) * 10**decimals == volumes[mint]
            table = shows.page.locator(f'[data-chart="{mint}"] tbody tr td:nth-child(2)')
            days = [Fraction(cell.replace(",", "")) for cell in await table.all_text_contents()]
            assert sum(days) * 10**decimals == volumes[mint]
        ranked = await shows.page.locator("#agents tbody tr").all_inner_texts()
        assert len(ranked) == 4
        position = await shows.figure("position")
        assert re.fullmatch(r"\d+-\d+-\d+", position)


async def test_every_figure_is_in_the_page_before_any_script_runs(browser: Browser, url: str) -> None:
    async with shown(browser, url, java_script_enabled=False) as shows:
        await shows.page.goto(url)
        assert await shows.figure("agents") == "3"
        assert await shows.page.locator("#volume table").count() == 3
        assert await shows.page.get_by_text("Everything is all right").count() == 1


async def test_a_raw_write_changes_the_page_by_itself(browser: Browser, url: str, sqlite_url: str) -> None:
    async with shown(browser, url) as shows:
        await shows.open()
        before = int(await shows.figure("settled"))
        await shows.page.evaluate("window.untouched = true")
        await write(
            sqlite_url,
            "INSERT INTO x402_payments (signature, instruction, inner_instruction, block_time, status,"
            " agent_address, payer_address, recipient_address, amount, token_mint, token_decimals,"
            " confidence, reason) VALUES ('raw', 0, -1, '2026-02-04 00:00:00.000000', 'settled', 'agent9',"
            f" 'p', 'r', printf('%078d', 987654321012), '{USDC}', 6, 1.0, 'raw SQL')",
            "UPDATE agents SET name = 'Renamed by raw SQL' WHERE address = 'agent0'",
        )
        await expect(shows.page.locator('[data-figure="settled"]')).to_have_text(str(before + 1), timeout=15_000)
        await expect(shows.page.locator("#agents")).to_contain_text("987,654.321012", timeout=15_000)
        await expect(shows.page.locator("#agents")).to_contain_text("Renamed by raw SQL")
        await expect(shows.page.locator("#changes")).to_contain_text("x402_payments")
        await expect(shows.page.locator("#volume tbody").first).to_contain_text("2026-02-04")
        assert await shows.page.evaluate("window.untouched") is True


async def test_what_a_person_opened_and_where_the_keyboard_is_outlast_a_change(
    browser: Browser, url: str, sqlite_url: str
) -> None:
    async with shown(browser, url) as shows:
        await shows.open()
        await shows.page.locator("#volume summary").first.click()
        link = shows.page.locator("#agents tbody a").first
        await link.focus()
        await write(
            sqlite_url,
            "UPDATE x402_payments SET amount = printf('%078d', 5000000) WHERE signature = 'signature0'",
            "UPDATE agents SET name = 'Other' WHERE address = 'agent0'",
        )
        await expect(shows.page.locator("#agents")).to_contain_text("Other", timeout=15_000)
        await asyncio.sleep(1)
        assert await shows.page.locator("#volume details").first.get_attribute("open") is not None
        assert await shows.page.evaluate("document.activeElement.closest('#agents') !== null")


async def test_names_from_outside_are_only_text(browser: Browser, url: str) -> None:
    async with shown(browser, url) as shows:
        await shows.open()
        name = "<img src=x onerror=alert(1)>\"'&"
        assert name in await shows.page.locator("#agents").inner_text()
        assert await shows.page.locator("main img").count() == 0


async def test_the_policy_of_the_page_stops_what_would_be_injected(browser: Browser, url: str) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.injected = 1\">');"
        "const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s)"
    )
    await page.wait_for_timeout(300)
    assert await page.evaluate("window.injected") is None
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
async def test_it_is_legible_and_accessible_on_wide_and_narrow_screens(
    browser: Browser, url: str, width: int, scheme: Any
) -> None:
    async with shown(browser, url, viewport={"width": width, "height": 844}, color_scheme=scheme) as shows:
        await shows.open()
        assert await shows.page.evaluate("document.documentElement.scrollWidth") == width
        ground = await shows.page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) > 382
        assert light is (scheme == "light")
        assert await shows.page.locator(".plot canvas").count() == 3
    async with shown(
        browser, url, viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True
    ) as shows:
        await shows.open()
        found = await Axe().run(shows.page)
        assert [violation["id"] for violation in found.response["violations"]] == []


async def test_everything_can_be_reached_with_the_keyboard(browser: Browser, url: str) -> None:
    async with shown(browser, url) as shows:
        await shows.open()
        reached: list[str] = []
        for _ in range(60):
            await shows.page.keyboard.press("Tab")
            reached.append(
                await shows.page.evaluate(
                    "(e => e === document.body ? 'end' : `${e.className} ${e.tagName} ${e.textContent.trim()}`)"
                    "(document.activeElement)"
                )
            )
            outlined = await shows.page.evaluate(
                "(e => e === document.body || getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"
            )
            assert outlined, reached[-1]
            if reached[-1] == "end":
                break
        text = "\n".join(reached)
        for words in ("Skip to the figures", "plot DIV", "SUMMARY Table of USDC", "A USDC", "A Zero", "A OpenAPI"):
            assert words in text
        plot = shows.page.locator(".plot").first
        await plot.focus()
        for key, day in (
            ("ArrowRight", "2026-01-25"),
            ("ArrowRight", "2026-01-26"),
            ("End", "2026-02-03"),
            ("Home", "2026-01-25"),
        ):
            await shows.page.keyboard.press(key)
            await expect(shows.page.locator(".readout").first).to_contain_text(day)


async def test_another_token_can_be_ranked(browser: Browser, url: str) -> None:
    async with shown(browser, url) as shows:
        await shows.open()
        await shows.page.locator(".tabs a").nth(1).click()
        await expect(shows.page.locator("#live")).to_have_attribute("data-state", "live")
        assert OTHER in shows.page.url
        assert await shows.page.locator(".tabs a[aria-current]").inner_text() == "Other…1111"


async def test_nothing_moves_for_who_wants_no_motion(browser: Browser, url: str, sqlite_url: str) -> None:
    async with shown(browser, url, reduced_motion="reduce") as shows:
        await shows.open()
        before = int(await shows.figure("settled"))
        await write(
            sqlite_url,
            "UPDATE x402_payments SET status = 'settled'",
        )
        await expect(shows.page.locator('[data-figure="settled"]')).not_to_have_text(str(before), timeout=15_000)
        assert await shows.page.evaluate("document.getAnimations().length") == 0


async def test_an_empty_database_says_what_to_do_and_then_fills(browser: Browser, sqlite_url: str) -> None:
    async with ledger(sqlite_url, []) as hold:
        await hold.follow()
        async with serve(create_app(hold)) as url, shown(browser, url) as shows:
            await shows.open()
            await expect(shows.page.locator("#empty")).to_contain_text("holdfast index solana FILE")
            async with hold.unit() as unit:
                await unit[X402Payment].add_many([payment(1, amount=2_500_000)])
            await expect(shows.page.locator('[data-figure="volume"]')).to_have_text("2.5", timeout=15_000)
            assert await shows.page.locator("#empty").count() == 0
            assert await shows.page.locator(".plot canvas").count() == 1


async def test_without_the_agents_app_the_page_still_answers(browser: Browser, sqlite_url: str) -> None:
    async with (
        await Holdfast.open(sqlite_url, metadata=LibraryModel.metadata, migrate=True) as hold,
        serve(create_app(hold, title="The library")) as url,
        shown(browser, url) as shows,
    ):
        await shows.open()
        assert await shows.page.title() == "The library"
        sections = await shows.page.locator("main section").evaluate_all("all => all.map(e => e.id)")
        assert sections == ["answer", "journal", "changes"]


async def test_a_lost_stream_is_said_and_taken_up_again(browser: Browser, hold: Holdfast) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    async with serve(create_app(hold)) as url:
        await page.goto(url)
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    await expect(page.locator("#banner")).to_contain_text("may be old", timeout=15_000)
    await expect(page.locator("#live")).to_have_attribute("data-state", "stale")
    assert await page.locator('[data-figure="settled"]').count() == 1
    async with serve(create_app(hold), port=int(url.rstrip("/").rpartition(":")[2])):
        await expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=20_000)
        await expect(page.locator("#banner")).to_be_hidden()
        await context.close()


async def test_a_database_that_goes_away_is_said_first_and_the_page_recovers(
    browser: Browser, postgres_url: str
) -> None:
    line = Line(postgres_url)
    await line.mend()
    async with ledger(line.url, rows()) as hold:
        await hold.follow()
        async with serve(create_app(hold)) as url:
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(url)
            await expect(page.locator("#answer")).to_contain_text("Everything is all right")
            await expect(page.locator("#live")).to_have_attribute("data-state", "live")
            await page.wait_for_timeout(1_500)
            await line.cut()
            await expect(page.locator("#answer")).to_contain_text("The database does not answer", timeout=15_000)
            assert await page.locator('[data-figure="settled"]').count() == 1, "the last figures stay"
            answer = await page.goto(url)
            assert answer is not None
            assert answer.status == 503
            await expect(page.locator("#answer")).to_contain_text("recovers by itself")
            await line.mend()
            await expect(page.locator("#answer")).to_contain_text("Everything is all right", timeout=20_000)
            await expect(page.locator('[data-figure="settled"]')).to_be_visible()
            await context.close()
    await line.cut()


async def test_many_tabs_that_are_told_of_one_change_get_one_look_up(hold: Holdfast) -> None:
    app = create_app(hold)
    looked = 0
    examine = app.state.live.examiner.examine

    async def counted() -> Any:
        nonlocal looked
        looked += 1
        return await examine()

    app.state.live.examiner.examine = counted
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get("/overview") for _ in range(30)))
    await app.state.live.close()
    assert {answer.status_code for answer in answers} == {200}
    assert looked <= 3


def test_what_is_carried_along_has_its_licence_beside_it() -> None:
    vendor = Path(__file__).parents[2] / "src/holdfast/http/static/vendor"
    listed = (vendor / "README.md").read_text()
    for folder in (f for f in vendor.iterdir() if f.is_dir()):
        assert (folder / "LICENSE").read_text().strip()
        assert f"`{folder.name}`" in listed
