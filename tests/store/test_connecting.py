"""Connecting to what is not there, does not answer, or is something else: a clear error in bounded time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devservers.process import free_port
from holdfast.errors import ConfigurationError, HoldfastError, StoreError, Unavailable
from holdfast.store import Store
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Base, Maker


@asynccontextmanager
async def listener(answer: bytes | None) -> AsyncIterator[int]:
    """A port of a server that says `answer` and hangs up, or takes the connection and never says a word."""
    over = asyncio.Event()
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # who was taken just now is served, and then nobody is left
        await asyncio.gather(*serving)


async def start_of(url: str, **settings: Any) -> tuple[HoldfastError, float]:
    """The error of a start, and the seconds it took."""
    store = Store(settings_for(url, **settings))
    began = time.monotonic()
    with pytest.raises(HoldfastError) as refused:
        await store.start()
    took = time.monotonic() - began
    await store.close()
    return refused.value, took


async def test_a_port_that_nobody_listens_on_is_tried_again_for_the_time_of_a_start() -> None:
    error, took = await start_of(f"postgresql://u@127.0.0.1:{free_port()}/db", start_timeout=0.6)
    assert isinstance(error, Unavailable)
    assert "cannot be reached" in str(error)
    assert 0.1 < took < 2


async def test_a_start_of_no_time_tries_once() -> None:
    error, took = await start_of(f"postgresql://u@127.0.0.1:{free_port()}/db", start_timeout=0)
    assert isinstance(error, Unavailable)
    assert took < 1


async def test_a_host_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error, took = await start_of("postgresql://u@no-such-host.invalid/db", start_timeout=0.5)
    assert isinstance(error, Unavailable)
    assert "no-such-host.invalid" in str(error)
    assert took < 5


@pytest.mark.parametrize("connect_timeout", [0.2, 30])
async def test_a_server_that_never_answers_does_not_hold_up_a_start(connect_timeout: float) -> None:
    async with listener(None) as port:
        url = f"postgresql://u@127.0.0.1:{port}/db"
        error, took = await start_of(url, start_timeout=0.8, connect_timeout=connect_timeout)
    assert isinstance(error, Unavailable)
    assert took < 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR\r\n", b"\0" * 64, b"E\0\0\0\4"])
async def test_a_server_of_another_kind_is_a_clear_error(answer: bytes) -> None:
    async with listener(answer) as port:
        error, took = await start_of(f"postgresql://u@127.0.0.1:{port}/db", start_timeout=0.5, connect_timeout=0.4)
    assert isinstance(error, StoreError)
    assert took < 2


async def test_a_database_that_does_not_exist_is_told_at_once(postgres_url: str) -> None:
    error, took = await start_of(postgres_url.rpartition("/")[0] + "/not_there", start_timeout=20)
    assert isinstance(error, Unavailable)
    assert "does not exist" in str(error)
    assert "createdb" in str(error)
    assert took < 5


async def test_settings_in_the_url_reach_the_server(postgres_url: str) -> None:
    async with opened(f"{postgres_url}?application_name=seaweed&sslmode=prefer") as store:
        async with store.unit() as unit:
            assert (await unit.execute("SHOW application_name")).scalar_one() == "seaweed"
        async with store.raw() as connection:
            assert await connection.fetchval("SHOW application_name") == "seaweed"


async def test_a_url_that_asks_for_what_the_server_has_not_is_a_clear_error(postgres_url: str) -> None:
    error, _ = await start_of(f"{postgres_url}?sslmode=require", start_timeout=0.3)
    assert isinstance(error, StoreError)
    assert "SSL" in str(error)
    error, _ = await start_of(f"{postgres_url}?no_such_setting=1", start_timeout=0.3)
    assert isinstance(error, StoreError)
    assert "no_such_setting" in str(error)
    error, _ = await start_of(f"{postgres_url}?sslmode=sometimes", start_timeout=0.3)
    assert isinstance(error, StoreError | ConfigurationError)
    assert "sometimes" in str(error)


async def test_a_statement_that_takes_longer_than_the_limit_is_ended(postgres_url: str) -> None:
    async with opened(postgres_url, statement_timeout=0.1) as store:
        for opening in (store.unit, store.read):
            with pytest.raises(StoreError, match=r"took too long .* see HOLDFAST_STATEMENT_TIMEOUT"):
                async with opening() as unit:
                    await unit.execute("SELECT pg_sleep(5)")
        async with store.raw() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "0"


async def test_units_wait_for_a_connection_and_not_for_ever(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1, pool_max=2, pool_timeout=0.1) as store, store.unit(), store.unit():
        with pytest.raises(Unavailable, match=r"no connection .* became free in time; raise HOLDFAST_"):
            async with store.unit():
                raise AssertionError("the block is not entered")


async def test_more_connections_than_the_server_has_are_a_clear_error(postgres_url: str) -> None:
    async with opened(postgres_url) as store, store.unit() as unit:
        name = (await unit.execute("SELECT current_database()")).scalar_one()
        await unit.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        await unit.execute("CREATE ROLE limited LOGIN")
    try:
        error, _ = await start_of(postgres_url.replace("holdfast@", "limited@"), start_timeout=0.3)
        assert isinstance(error, Unavailable)
        assert "too many connections" in str(error)
    finally:
        async with opened(postgres_url) as store, store.unit() as unit:
            await unit.execute("DROP ROLE limited")


def not_a_database(folder: Path) -> Path:
    file = folder / "notes.db"
    file.write_text("This is a letter, and no database. " * 100)
    return file


def a_folder(folder: Path) -> Path:
    file = folder / "folder.db"
    file.mkdir()
    return file


def torn(folder: Path) -> Path:
    file = folder / "torn.db"
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (not_a_database, "is no usable SQLite database .*restore it from a backup"),
        (torn, "is no usable SQLite database"),
        (a_folder, "cannot be opened .*does the folder exist, may this user write there"),
        (lambda folder: folder / "nowhere" / "holdfast.db", "cannot be opened .*does the folder exist"),
    ],
)
async def test_a_file_that_is_no_database_is_told_at_once(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    store = Store(settings_for(f"sqlite:///{make(tmp_path)}", start_timeout=20))
    began = time.monotonic()
    for attempt in (store.start, store.ping):
        with pytest.raises(StoreError, match=told):
            await attempt()
    for opening in (store.unit, store.read):
        with pytest.raises(StoreError, match=told):
            async with opening() as unit:
                await unit.execute("SELECT count(*) FROM sqlite_master")
    await store.close()
    assert time.monotonic() - began < 10


async def test_a_driver_connection_that_cannot_be_made_is_told_too(tmp_path: Path, postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path / 'nowhere' / 'a.db'}", postgres_url.rpartition("/")[0] + "/not_there"):
        store = Store(settings_for(url))
        with pytest.raises(Unavailable, match=r"cannot be opened|does not exist"):
            async with store.raw():
                raise AssertionError("the block is not entered")
        await store.close()


async def test_a_store_on_no_file_yet_makes_it_when_first_used(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    store = Store(settings_for(f"sqlite:///{file}"))
    assert not file.exists()
    await store.start()
    assert file.exists()
    async with store.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="m"))
    await store.close()
