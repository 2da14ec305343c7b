"""The event stream: what is told, to how many, and how it ends."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holdfast import Holdfast
from holdfast.http import create_app
from tests.apps.payments import ledger, payment
from tests.http.library import LibraryModel, Shelf
from tests.http.served import Line, serve


class Events:
    """What comes over one stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, *names: str, within: float = 10.0) -> tuple[str, dict[str, Any], str]:
        """The next event, or the next of these names: its name, data and id."""
        event: dict[str, str] = {}
        async with asyncio.timeout(within):
            async for line in self._lines:
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif "event" in event and (not names or event["event"] in names):
                    return event["event"], json.loads(event["data"]), event["id"]
                else:
                    event = {}
        raise AssertionError(f"the stream ended before {names}")


@contextlib.asynccontextmanager
async def listening(url: str, **headers: str) -> AsyncIterator[Events]:
    """An open stream."""
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"{url}v1/stream", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Events(answer.aiter_lines())


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    """An empty library on each backend."""
    async with await Holdfast.open(database_url, metadata=LibraryModel.metadata, migrate=True) as hold:
        yield hold


async def test_a_commit_is_told_to_every_listener_with_its_tables(hold: Holdfast) -> None:
    async with serve(create_app(hold)) as url, listening(url) as one, listening(url) as other:
        assert (await one.next())[:2] == ("hello", {"resumed": False, "database": "up"})
        await other.next("hello")
        async with hold.unit() as unit:
            unit.add(Shelf(room=1), Shelf(room=2))
        for events in (one, other):
            _, data, _ = await events.next("journal")
            assert (data["changes"], data["tables"]) == (2, {"library_shelves": 2})
            assert data["position"] == str(await hold.journal.position())


async def test_a_raw_write_by_another_program_is_told_within_a_second(sqlite_url: str) -> None:
    def write() -> None:
        with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as raw, raw:
            raw.execute("UPDATE x402_payments SET amount = printf('%078d', 77)")

    async with ledger(sqlite_url, [payment(0)]) as hold:
        await hold.follow()
        async with serve(create_app(hold)) as url, listening(url) as events:
            await events.next("hello")
            began = time.monotonic()
            await asyncio.to_thread(write)  # not here: whoever holds the lock may need this loop to give it up
            _, data, _ = await events.next("journal")
            assert data["tables"] == {"x402_payments": 1}
            _, _, _ = await events.next("rollups")
            assert time.monotonic() - began < 5  # a busy machine's second; usually a tenth of one


async def test_a_listener_that_comes_again_gets_what_it_missed(hold: Holdfast) -> None:
    async with serve(create_app(hold)) as url:
        async with listening(url) as events:
            await events.next("hello")
            async with hold.unit() as unit:
                unit.add(Shelf(room=1))
            _, _, last = await events.next("journal")
        async with hold.unit() as unit:
            unit.add(Shelf(room=2))
        await asyncio.sleep(1)
        async with listening(url, **{"Last-Event-ID": last}) as events:
            assert (await events.next())[1]["resumed"] is True
            assert (await events.next("journal"))[1]["tables"] == {"library_shelves": 1}
        async with listening(url, **{"Last-Event-ID": "of another life"}) as events:
            assert (await events.next())[1]["resumed"] is False


async def test_a_bulk_load_is_few_events(hold: Holdfast) -> None:
    async with serve(create_app(hold)) as url, listening(url) as events:
        await events.next("hello")
        for start in range(0, 2_000, 100):
            async with hold.unit() as unit:
                await unit[Shelf].add_many([Shelf(room=start + i) for i in range(100)])
        told, count = 0, 0
        while told < 2_000:
            told += (await events.next("journal"))[1]["changes"]
            count += 1
        assert told == 2_000
        assert count <= 15


async def test_there_are_only_so_many_listeners(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.http.live.MOST_LISTENERS", 2)
    app = create_app(hold)
    async with serve(app) as url:
        async with listening(url) as one, listening(url) as other:
            await one.next("hello")
            await other.next("hello")
            async with httpx.AsyncClient() as client:
                refused = await client.get(f"{url}v1/stream")
            assert refused.status_code == 503
            assert "2 streams are open already" in refused.json()["detail"]
        async with asyncio.timeout(10):
            while app.state.live.listeners:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # a place is given back when its listener has gone
        async with listening(url) as events:
            await events.next("hello")


async def test_a_quiet_stream_has_a_heartbeat(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.http.live.HEARTBEAT", 0.05)
    async with (
        serve(create_app(hold)) as url,
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"{url}v1/stream") as answer,
    ):
        beats = 0
        async with asyncio.timeout(10):
            async for line in answer.aiter_lines():
                beats += line == ":"
                if beats == 3:
                    break
        assert beats == 3


async def test_a_stream_ends_in_time_and_is_taken_up_again(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.http.live.LIFETIME", 0.2)
    monkeypatch.setattr("holdfast.http.live.HEARTBEAT", 0.1)
    async with serve(create_app(hold)) as url, httpx.AsyncClient(timeout=20) as client:
        async with client.stream("GET", f"{url}v1/stream") as answer:
            text = "".join([part async for part in answer.aiter_text()])
        assert "event: hello" in text
        assert "retry: 1000" in text


async def test_open_streams_do_not_hold_up_the_end_of_the_server(hold: Holdfast) -> None:
    app = create_app(hold)
    async with contextlib.AsyncExitStack() as stack:
        async with serve(app) as url:
            events = await stack.enter_async_context(listening(url))
            await events.next("hello")
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert app.state.live.listeners == 0


async def test_the_coming_and_going_of_the_database_is_told(postgres_url: str) -> None:
    line = Line(postgres_url)
    await line.mend()
    async with (
        await Holdfast.open(line.url, metadata=LibraryModel.metadata, migrate=True) as hold,
        serve(create_app(hold)) as url,
        listening(url) as events,
    ):
        await events.next("hello")
        await line.cut()
        assert (await events.next("status"))[1] == {"database": "down"}
        await line.mend()
        assert (await events.next("status"))[1] == {"database": "up"}
        async with hold.unit() as unit:
            unit.add(Shelf(room=1))
        assert (await events.next("journal", within=20))[1]["tables"] == {"library_shelves": 1}
    await line.cut()
