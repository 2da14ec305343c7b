"""Health, metrics and status, with a database that is there, one that lacks something, and one that goes away."""

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from holdfast import Holdfast
from holdfast.http import create_app
from holdfast.index.rejected import Rejected, reject
from holdfast.rollup.buckets import Bucket
from holdfast.rollup.refresh import mark
from tests.apps.payments import payment
from tests.http.agents import agents_client
from tests.http.conftest import client_of
from tests.http.library import LibraryModel, Shelf
from tests.http.served import Line


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    """An empty library on each backend."""
    async with await Holdfast.open(database_url, metadata=LibraryModel.metadata, migrate=True) as hold:
        yield hold


@pytest.fixture
async def client(hold: Holdfast) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    app = create_app(hold)
    async with client_of(app) as client:
        yield client
    await app.state.live.close()


async def test_health_says_how_the_process_and_the_database_fare(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert body["status"] == body["parts"]["process"]["status"] == body["parts"]["database"]["status"] == "ok"
    assert 0 < body["parts"]["database"]["latency_ms"] < 5_000


async def test_the_database_is_described_without_its_password(hold: Holdfast, client: httpx.AsyncClient) -> None:
    body = (await client.get("/health/database")).json()
    assert body["dialect"] == hold.store.dialect
    assert body["pending_migrations"] == []
    assert body["position"] == str(await hold.journal.position())
    assert set(body["pools"]) == set(hold.store.engines())
    for pool in body["pools"].values():
        assert 0 <= pool["busy"] <= pool["connections"] <= pool["limit"]


def make_empty(url: str) -> None:
    """A database with nothing in it: on SQLite that is an empty file."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch()


async def test_what_the_database_lacks_is_told_with_what_to_do(database_url: str) -> None:
    make_empty(database_url)
    async with await Holdfast.open(database_url, metadata=LibraryModel.metadata, migrate=False) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            body = (await client.get("/health/database")).json()
            assert "table library_books is missing" in body["pending_migrations"]
            status = (await client.get("/v1/status")).json()
            assert status["ok"] is False
            (wrong,) = [finding for finding in status["findings"] if finding["state"] == "wrong"]
            assert wrong["check"] == "migrations"
            assert "holdfast migrate up" in wrong["do"]
            page = await client.get("/")
            assert page.status_code == 200
            assert "1 thing to mend" in page.text
            assert (await client.get("/metrics")).status_code == 200
        await app.state.live.close()


async def test_capture_that_is_not_whole_is_found(hold: Holdfast) -> None:
    async with hold.store.engine.begin() as connection:
        if hold.store.dialect == "sqlite":
            names = await connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'library_books' LIMIT 1"
            )
            await connection.exec_driver_sql(f'DROP TRIGGER "{names.scalar()}"')
        else:
            await connection.exec_driver_sql("ALTER TABLE library_books DISABLE TRIGGER USER")
    app = create_app(hold)
    async with client_of(app) as client:
        status = (await client.get("/v1/status")).json()
        (wrong,) = [finding for finding in status["findings"] if finding["state"] == "wrong"]
        assert (wrong["check"], status["ok"]) == ("capture", False)
        assert "library_books" in wrong["detail"]
        assert "to mend" in (await client.get("/")).text
    await app.state.live.close()


async def test_rejected_records_are_worth_knowing_and_not_an_alarm(hold: Holdfast, client: httpx.AsyncClient) -> None:
    async with hold.unit() as unit:
        record = Rejected(source="solana", file="<script>.json", place="line 7", reason="it is no transaction")
        await reject(unit, [record])
    status = (await client.get("/v1/status")).json()
    (note,) = [finding for finding in status["findings"] if finding["state"] == "note"]
    assert status["ok"] is True
    assert "line 7" in note["detail"]
    assert "no transaction" in note["detail"]
    page = (await client.get("/")).text
    assert "&lt;script&gt;.json" in page
    assert "<script>.json" not in page


async def test_the_journal_tells_what_changed_but_no_key_of_what_is_not_shown(
    hold: Holdfast, client: httpx.AsyncClient
) -> None:
    await client.get("/v1/journal")
    await asyncio.sleep(0.3)
    async with hold.unit(actor="ada") as unit:
        shelf = Shelf(room=7)
        unit.add(shelf)
    async with hold.unit() as unit:
        await unit.execute(
            text("INSERT INTO library_loans (reader, title) VALUES ('bob', 'Dulse')"),
        )
    async with asyncio.timeout(10):
        while len(changes := (await client.get("/v1/journal")).json()["changes"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [(c["table"], c["op"]) for c in changes] == [("library_loans", "insert"), ("library_shelves", "insert")]
    assert (changes[1]["key"], changes[1]["href"]) == (str(shelf.id), f"/v1/resources/shelves/{shelf.id}")
    assert (changes[0]["key"], changes[0]["href"]) == (None, None)
    assert "bob" not in str(changes)
    assert "ada" not in str(changes)


def sample(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found, f"{name} is not in\n{metrics}"
    return float(found.group(1))


async def test_metrics_count_requests_by_route_and_units_and_waiting_work(sqlite_url: str) -> None:
    async with agents_client(sqlite_url, [payment(0)]) as (hold, client):
        await client.get("/v1/resources/agents/agent0")
        await client.get("/v1/resources/agents/nobody")
        await client.get("/v1/resources/agents?x=1")
        await client.get("/nothing/at/all")
        await client.request("BREW", "/health")
        before = sample((await client.get("/metrics")).text, "holdfast_units_committed_total")
        async with hold.unit() as unit:
            (rollup,) = hold.rollups.rollups
            await mark(unit, rollup, [Bucket(dt.date(2026, 1, 1), ("mint", "agent"))])
        answer = await client.get("/metrics")
        told = answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    one = "/v1/resources/{name}/{key:path}"
    requests = "holdfast_http_requests_total"
    assert sample(told, f'{requests}{{method="GET",route="{one}",status="200"}}') == 1
    assert sample(told, f'{requests}{{method="GET",route="{one}",status="404"}}') == 1
    assert sample(told, f'{requests}{{method="GET",route="/v1/resources/{{name}}",status="422"}}') == 1
    assert sample(told, f'{requests}{{method="GET",route="none",status="404"}}') == 1
    assert sample(told, f'{requests}{{method="other",route="/health",status="405"}}') == 1
    assert sample(told, f'holdfast_http_request_seconds_count{{route="{one}"}}') == 2
    assert sample(told, "holdfast_units_committed_total") == before + 1
    assert sample(told, 'holdfast_rollup_dirty_buckets{rollup="x402_payments_daily"}') == 1
    assert sample(told, "holdfast_database_up") == 1
    assert sample(told, "holdfast_journal_tick") > 0
    assert sample(told, 'holdfast_database_connections{pool="read",state="idle"}') >= 1


async def test_two_applications_count_for_themselves(hold: Holdfast) -> None:
    async with client_of(create_app(hold)) as one, client_of(create_app(hold)) as other:
        await one.get("/health")
        assert 'route="/health"' in (await one.get("/metrics")).text
        assert 'route="/health"' not in (await other.get("/metrics")).text


async def test_a_database_that_goes_away_is_a_503_without_its_password_and_comes_back(postgres_url: str) -> None:
    line = Line(postgres_url.replace("holdfast@", "holdfast:hunter2@"))
    await line.mend()
    paths = ("/health", "/health/database", "/v1/resources/books", "/v1/journal", "/")
    async with await Holdfast.open(line.url, metadata=LibraryModel.metadata, migrate=True) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            assert [(await client.get(path)).status_code for path in paths] == [200] * len(paths)
            await line.cut()
            for path in paths:
                answer = await client.get(path)
                assert answer.status_code == 503, path
                assert "hunter2" not in answer.text
                assert "cannot be reached" in answer.text or "Connect" in answer.text
            assert (await client.get("/v1/resources/books")).headers["retry-after"] == "1"
            status = await client.get("/v1/status")
            assert (status.status_code, status.json()["ok"]) == (200, False)
            assert sample((await client.get("/metrics")).text, "holdfast_database_up") == 0
            assert (await client.get("/static/overview.css")).status_code == 200
            await line.mend()
            assert [(await client.get(path)).status_code for path in paths] == [200] * len(paths)
        await app.state.live.close()
    await line.cut()
