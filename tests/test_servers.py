"""The development servers themselves: fresh, reachable on loopback only, and gone with their owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis as redis_client
from playwright.async_api import Browser

from devservers import PostgresServer, ServerError, find_redis, find_sqld

ROOT = Path(__file__).parent.parent


async def test_each_postgres_database_is_fresh_and_hostile_to_local_time(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert tables == 0
        assert await connection.fetchval("SHOW timezone") == "Asia/Kolkata"
        assert int(await connection.fetchval("SHOW max_prepared_transactions")) == 64
        await connection.execute("CREATE TABLE left_behind (id int)")
    finally:
        await connection.close()


async def test_a_database_with_a_prepared_transaction_and_an_open_connection_can_be_dropped(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.create_database()
    connection = await asyncpg.connect(postgres_server.database_url(name))
    await connection.execute("CREATE TABLE t (id int)")
    await connection.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s open'")
    postgres_server.drop_database(name)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await connection.execute("SELECT 1")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(postgres_server.database_url(name))


def test_redis_is_empty_at_the_start_of_a_test(redis_url: str) -> None:
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_redis_is_empty_again_for_the_next_one(redis_url: str) -> None:
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_sqlite_url_names_a_file_that_is_not_there_yet(sqlite_url: str) -> None:
    assert sqlite_url.startswith("sqlite:///")
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


async def test_a_browser_opens_a_page(browser: Browser) -> None:
    page = await browser.new_page()
    await page.set_content("<p id=moved></p><script>moved.textContent = 6 * 7</script>")
    assert await page.inner_text("#moved") == "42"


@pytest.mark.parametrize("backend", ["postgres", "redis", "sqld"])
def test_a_server_and_its_files_are_gone_when_its_owner_is_killed(backend: str) -> None:
    code = (
        f"import devservers, time; s = devservers.start_{backend}(); print(s.pid, s.folder, flush=True); time.sleep(99)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    assert Path(folder).is_dir()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 20
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.parametrize("find", [find_redis, find_sqld])
def test_a_missing_server_is_an_error_that_says_what_to_do(
    find: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("HOLDFAST_TEST_REDIS", "HOLDFAST_TEST_SQLD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("devservers.find.VENV", Path("/nonexistent"))
    with pytest.raises(ServerError, match="make servers"):
        find()
