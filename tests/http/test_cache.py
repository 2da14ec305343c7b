"""The cache over HTTP: for this machine alone; figures, emptying, tests of its performance, and a page to look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from jsonschema import Draft202012Validator
from playwright.async_api import Browser, expect
from prometheus_client.parser import text_string_to_metric_families

from holdfast import Holdfast, Load
from holdfast.http import create_app
from tests.backends import settings_for
from tests.http.browser import shown
from tests.http.conftest import client_of
from tests.http.library import LibraryModel
from tests.http.served import serve


@pytest.fixture(params=("sqlite", "postgres+redis"))
async def hold(request: pytest.FixtureRequest) -> AsyncIterator[Holdfast]:
    database, _, redis = request.param.partition("+")
    redis_url = request.getfixturevalue("redis_url") if redis else None
    settings = settings_for(request.getfixturevalue(f"{database}_url"), redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=LibraryModel.metadata, migrate=True) as hold:
        yield hold


@pytest.fixture
async def client(hold: Holdfast) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(hold)
    async with client_of(app) as client:
        yield client
    await app.state.live.close()


async def one(load: Load) -> str:
    load.tags("shelf:1")
    return "x"


async def test_what_was_counted_is_told_and_has_the_described_shape(hold: Holdfast, client: httpx.AsyncClient) -> None:
    with hold.cache.counted_as("GET /shelf"):
        for _ in range(3):
            await hold.cache.get_or_load("shelf:1:books", one)
    answer = await client.get("/admin/cache/metrics")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    report = answer.json()
    [template] = report["templates"]
    assert (template["name"], template["reads"], template["hits"], template["misses"]) == ("shelf:1:*", 3, 2, 1)
    assert (report["endpoints"][0]["name"], report["endpoints"][0]["reads"]) == ("GET /shelf", 3)
    assert report["tags"][0]["name"] == "shelf:*"
    assert report["redis"] == ("ok" if hold.settings.redis_url else "none")
    assert report["memory"]["entries"] == 1
    assert sum(moment["figures"]["reads"] for moment in report["moments"]) == 3
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/admin/cache/metrics"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(report)] == []
    assert list(validator.iter_errors({**report, "moments": [{"at": "then"}]}))


async def test_prometheus_reads_the_same_counts(hold: Holdfast, client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await hold.cache.get_or_load("shelf:1:books", one)
    text = (await client.get("/metrics")).text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["holdfast_cache_reads_total", "shelf:1:*", "memory"] == 2
    assert found["holdfast_cache_reads_total", "shelf:1:*", "none"] == 1
    assert found["holdfast_cache_loads_total", "shelf:1:*", "ok"] == 1
    assert found["holdfast_cache_entries",] == 1
    assert (("holdfast_redis_up",) in found) is bool(hold.settings.redis_url)


async def test_reads_of_an_endpoint_of_ours_are_counted_by_its_route(hold: Holdfast) -> None:
    app = create_app(hold)

    async def reading(request: Any) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse(await hold.cache.get_or_load("shelf:1:books", one))

    app.router.add_route("/shelf/{number}", reading)
    async with client_of(app) as client:
        for number in range(3):
            assert (await client.get(f"/shelf/{number}")).status_code == 200
    [endpoint] = hold.cache.report().endpoints
    assert (endpoint.hits, endpoint.misses) == (2, 1)
    await app.state.live.close()


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"tags": ["shelf:1"]}, {"other"}),
        ({"keys": ["shelf:1:books"]}, {"other"}),
        ({"everything": True}, set()),
    ],
)
async def test_values_end_when_they_are_cleared(
    hold: Holdfast, client: httpx.AsyncClient, body: dict[str, Any], left: set[str]
) -> None:
    async def plain(load: Load) -> str:
        return "y"

    await hold.cache.get_or_load("shelf:1:books", one)
    await hold.cache.get_or_load("other", plain)
    answer = await client.post("/admin/cache/clear", json=body)
    assert answer.json() == {"cleared": next(iter(body)), "removed_from_redis": None}
    assert set(await hold.cache.get_many(["shelf:1:books", "other"])) == left


async def test_keys_like_a_pattern_are_cleaned_up(hold: Holdfast, client: httpx.AsyncClient) -> None:
    await hold.cache.renew()  # what is set before the journal is known is in this process alone
    for number in range(5):
        await hold.cache.set(f"a:{number}", 1)
    await hold.cache.set("b:1", 1)
    answer = await client.post("/admin/cache/clear", json={"matching": "a:*"})
    assert answer.json() == {"cleared": "matching", "removed_from_redis": 5 if hold.settings.redis_url else 0}


async def test_redis_is_emptied_of_what_is_ours_in_an_emergency(hold: Holdfast, client: httpx.AsyncClient) -> None:
    for number in range(3):
        await hold.cache.set(f"a:{number}", 1)
    answer = await client.post("/admin/cache/clear", json={"redis": True})
    assert answer.json() == {"cleared": "redis", "removed_from_redis": 3 if hold.settings.redis_url else 0}


async def test_how_redis_fares_is_told(hold: Holdfast, client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics/redis")
    if not hold.settings.redis_url:
        assert (answer.status_code, "HOLDFAST_REDIS_URL" in answer.json()["detail"]) == (404, True)
        return
    [server] = answer.json()["servers"]
    assert server["memory_used"] > 0
    assert server["commands"] > 0
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/metrics/redis"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(answer.json())] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "one of tags, keys, matching, everything, redis"),
        ({"tags": ["a"], "everything": True}, "['tags', 'everything']"),
        ({"tag": ["a"]}, "unknown field"),
        ({"tags": ["a\nb"]}, "is no tag"),
        ({"keys": [""]}, "is no key"),
    ],
)
async def test_what_cannot_be_cleared_is_refused(
    hold: Holdfast, client: httpx.AsyncClient, body: Any, words: str
) -> None:
    await hold.cache.get_or_load("k", one)
    answer = await client.post("/admin/cache/clear", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert await hold.cache.get("k") == "x"


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
        ("127.0.0.1", {"CF-Connecting-IP": "192.0.2.7"}),
        ("127.0.0.1", {"Origin": "https://example.org"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}),
        ("::ffff:192.0.2.7", {}),
    ],
)
async def test_nobody_else_may_ask(hold: Holdfast, address: str, headers: dict[str, str]) -> None:
    await hold.cache.get_or_load("k", one)
    app = create_app(hold)
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test", headers=headers) as client:
        for path in (
            "/cache",
            "/cache/part",
            "/admin/cache/metrics",
            "/admin/cache/test/performance",
            "/metrics/redis",
        ):
            assert (await client.get(path)).status_code == 403, path
        for path in ("/admin/cache/clear", "/admin/cache/test/performance"):
            answer = await client.post(path, json={"everything": True})
            assert answer.status_code == 403, path
    assert await hold.cache.get("k") == "x"
    await app.state.live.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_may(hold: Holdfast, address: str) -> None:
    app = create_app(hold)
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        assert (await client.get("/admin/cache/metrics")).status_code == 200
    await app.state.live.close()


async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/admin/cache/clear", content=b'{"everything": true}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]
    assert (await client.post("/admin/cache/clear", json=[])).status_code == 400


async def test_the_tests_of_performance_run_once_at_a_time_and_leave_their_results(
    hold: Holdfast, client: httpx.AsyncClient
) -> None:
    path = "/admin/cache/test/performance"
    assert (await client.get(path)).json()["state"] == "none"
    begun = await client.post(path, json={"tests": ["health", "basic"]})
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    again = await client.post(path)
    assert again.status_code == 409
    async with asyncio.timeout(60):
        while (tested := (await client.get(path)).json())["state"] == "running":  # noqa: ASYNC110  it is asked over HTTP
            await asyncio.sleep(0.05)
    assert tested["state"] == "done", tested
    result = tested["result"]
    levels = {check["level"]: check["ok"] for check in result["health"]}
    assert levels == dict.fromkeys(levels, True)
    assert ("redis" in levels) is bool(hold.settings.redis_url)
    for timing in result["basic"]:
        assert timing["count"] == 100
        assert 0 < timing["median"] <= timing["p95"] <= timing["p99"] <= timing["slowest"]
    assert (result["concurrent"], result["stress"], result["breaking_point"]) == (None, None, None)
    wrong = await client.post(path, json={"tests": ["speed"]})
    assert wrong.status_code == 422
    assert hold.cache.report().total.reads == 0  # the tests are no part of the sums


async def test_the_page_shows_what_was_counted_and_follows_it(browser: Browser, hold: Holdfast) -> None:
    async with serve(create_app(hold)) as url, shown(browser, url) as shows:
        await shows.page.goto(f"{url}cache")
        await expect(shows.page.get_by_text("Nothing has been read yet")).to_be_visible()
        for _ in range(4):
            await hold.cache.get_or_load("<b>:1", one)
        await expect(shows.page.locator("#templates tbody th")).to_have_text("<b>:*", timeout=15_000)
        # It may be told of the first read before there is a second.
        await expect(shows.page.locator('[data-figure="reads"]')).to_have_text("4", timeout=15_000)
        assert await shows.figure("hit-rate") == "75 %"
        await expect(shows.page.locator("[data-chart] canvas").first).to_be_visible()
        found = await Axe().run(shows.page)
        assert found.violations_count == 0, found.generate_report()
        await shows.page.get_by_role("link", name="Since the start").click()
        assert await shows.figure("reads") == "4"


async def test_an_alert_is_the_first_thing_on_the_page(hold: Holdfast, client: httpx.AsyncClient) -> None:
    async def broken(load: Load) -> None:
        raise OSError("no")

    for _ in range(3):
        with pytest.raises(OSError, match="no"):
            await hold.cache.get_or_load("broken:1", broken)
    page = (await client.get("/cache")).text
    assert "1 thing to mend in the cache" in page
    assert "100% of 3 loads failed" in page
