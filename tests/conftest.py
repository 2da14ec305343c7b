"""Fixtures that every room's tests share: real servers, started once a session, and fresh databases."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.async_api import Browser, async_playwright

from devservers import (
    PgbouncerServer,
    PostgresServer,
    RedisCluster,
    RedisServer,
    SqldServer,
    ensure_pgbouncer,
    ensure_sqld,
    find_chromium,
    start_pgbouncer,
    start_postgres,
    start_redis,
    start_redis_cluster,
    start_replica,
    start_sqld,
)
from holdfast.cache import answers
from tests.backends import BACKENDS, POOLED

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile("holdfast", deadline=None, print_blob=True)
settings.load_profile("holdfast")

# A read waits for the journal for a part of its bound, and then goes without what is kept. A machine that stands still
# for a second is no fault of the cache's: here it waits on. Tests of that patience set it themselves.
answers.RENEWAL = 10.0

# The tests start some hundred processes: those need not compile the house anew, each for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is configured for somebody's application must not reach the tests.
for name in list(os.environ):
    if name.startswith(("HOLDFAST_", "DATABASE_", "REDIS_", "TURSO_")) and not name.startswith("HOLDFAST_TEST_"):
        del os.environ[name]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the session (one per worker under xdist); `host`, `port`, `url` of the superuser."""
    with start_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def replica_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming replica of the session's PostgreSQL."""
    with start_replica(postgres_server) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """`postgresql://holdfast@127.0.0.1:PORT/DB` of an empty database, dropped after the test."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: PostgresServer) -> Iterator[PgbouncerServer]:
    """One pgbouncer for the session, which hands each transaction any connection to the PostgreSQL of the session."""
    ensure_pgbouncer()
    with start_pgbouncer(postgres_server, connections=20) as server:
        yield server


@pytest.fixture
def pgbouncer_url(pgbouncer_server: PgbouncerServer, postgres_server: PostgresServer) -> Iterator[str]:
    """`postgresql://…` of an empty database behind pgbouncer; open it with the setting `pooler="transaction"`."""
    name = postgres_server.create_database()
    yield f"{pgbouncer_server.database_url(name)}?{POOLED}"
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def sqld_server() -> Iterator[SqldServer]:
    """One sqld for the session (one per worker under xdist), with namespaces."""
    ensure_sqld()
    with start_sqld() as server:
        yield server


@pytest.fixture
def sqld_url(sqld_server: SqldServer) -> Iterator[str]:
    """`libsql+http://127.0.0.1:PORT?namespace=…` of an empty database, dropped after the test."""
    with sqld_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the session (one per worker under xdist)."""
    with start_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """`redis://127.0.0.1:PORT/0`, emptied before the test."""
    redis_server.clear()
    return redis_server.url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """One Redis Cluster of three primaries and their replicas for the session (one per worker under xdist)."""
    with start_redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster_url(redis_cluster: RedisCluster) -> str:
    """`redis+cluster://127.0.0.1:PORT,…`, emptied before the test."""
    redis_cluster.clear()
    return redis_cluster.url


@pytest.fixture(params=("redis", "redis_cluster"))
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """An empty Redis of one server, and one of several."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """`sqlite:///…/holdfast.db` in the test's own folder; the file does not exist yet."""
    return f"sqlite:///{tmp_path / 'holdfast.db'}"


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium; `page = await browser.new_page()`."""
    async with async_playwright() as playwright:
        # Chromium's sandbox refuses root and most containers; the tests open only pages of our own.
        chromium = await playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield chromium
        await chromium.close()
