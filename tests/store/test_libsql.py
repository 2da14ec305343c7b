"""libSQL over HTTP: what is its own, beside all that it shares with SQLite."""

import asyncio
import base64
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from sqlalchemy import text

from devservers import SqldServer, ensure_sqld, start_sqld
from holdfast.errors import ConfigurationError, InvalidValue, StoreError, Unavailable
from holdfast.store import Store, Unit, hrana
from holdfast.store.libsql_http import Channel
from holdfast.store.urls import is_remote, parse_url
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part

TOKEN = "eyJhbGciOiJub25l.secret-of-the-house"


@pytest.fixture
async def store(sqld_url: str) -> AsyncIterator[Store]:
    async with opened(sqld_url, Base.metadata) as store:
        yield store


@contextmanager
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The bodies of the requests that are sent meanwhile."""
    sent: list[Any] = []
    post = Channel.post

    async def noted(self: Channel, body: bytes) -> bytes:
        sent.append(json.loads(body))
        return await post(self, body)

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "post", noted)
        yield sent


@pytest.mark.parametrize(
    ("written", "host", "port", "query"),
    [
        ("libsql://name-org.turso.io", "name-org.turso.io", None, {"tls": "1"}),
        ("libsql://127.0.0.1:8080?tls=0", "127.0.0.1", 8080, {"tls": "0"}),
        ("libsql+http://localhost:8080", "localhost", 8080, {"tls": "0"}),
        ("libsql+https://db.example", "db.example", None, {"tls": "1"}),
        ("libsql+http://10.0.0.1?namespace=shop-1", "10.0.0.1", None, {"tls": "0", "namespace": "shop-1"}),
    ],
)
def test_a_url_names_a_remote_database(written: str, host: str, port: int | None, query: dict[str, str]) -> None:
    url = parse_url(written)
    assert is_remote(url)
    assert (url.host, url.port, dict(url.query)) == (host, port, query)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("libsql://name.turso.io?authToken=" + TOKEN, "HOLDFAST_DATABASE_AUTH_TOKEN"),
        (f"libsql://ada:{TOKEN}@name.turso.io", "HOLDFAST_DATABASE_AUTH_TOKEN"),
        ("libsql://name.turso.io?tls=maybe", "tls=maybe"),
        ("libsql+http://name.turso.io?tls=1", "tls=1"),
        ("libsql://name.turso.io?mode=ro", "takes tls and namespace"),
        ("libsql://name.turso.io/some/path", "a host and no path"),
        ("libsql:///file.db", "a host and no path"),
        ("libsql://127.0.0.1:99999", "ports are 1 to 65535"),
        ("libsql://127.0.0.1?namespace=a.b", "namespace"),
        ("libsql://na\r\nme.turso.io", "a host and no path"),
        ("http://127.0.0.1:8080", "not a supported database"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused(written: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        Store(settings_for(written))
    assert TOKEN not in str(refused.value)


async def test_a_token_opens_the_database_and_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    ensure_sqld()
    keys = Keypair()
    public = _base64(bytes(keys.pubkey()))
    head, claims = _base64(b'{"alg":"EdDSA","typ":"JWT"}'), _base64(b'{"a":"rw"}')
    token = f"{head}.{claims}.{_base64(bytes(keys.sign_message(f'{head}.{claims}'.encode())))}"
    with start_sqld(auth_key=public) as server:
        url = server.database_url(server.create_database("shop"))
        async with opened(url, Base.metadata, database_auth_token=token) as store:
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name="m"))
            assert token not in repr(store.settings) + store.place + str(store.url)
        for wrong in (None, token[:-6], TOKEN):
            async with opened(url, database_auth_token=wrong) as store:
                with pytest.raises(Unavailable, match="HOLDFAST_DATABASE_AUTH_TOKEN") as refused:
                    await store.start()
                assert str(wrong) not in f"{refused.value!r} {refused.value.__cause__!r}"
    assert token not in caplog.text


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_databases_of_one_server_are_apart(sqld_server: SqldServer) -> None:
    with sqld_server.database() as one, sqld_server.database() as other:
        async with opened(one, Base.metadata) as first, opened(other, Base.metadata) as second:
            async with first.unit() as unit:
                await unit[Maker].add(Maker(name="m"))
            async with second.read() as unit:
                assert await unit[Maker].count() == 0


async def test_a_database_that_is_not_there_is_said_at_once(sqld_server: SqldServer) -> None:
    async with opened(sqld_server.database_url("nowhere"), start_timeout=20) as store:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"does not exist .*namespace="):
            await store.start()
        assert time.monotonic() - began < 5


async def test_what_answers_and_is_no_libsql_server_is_an_error(redis_url: str) -> None:
    async with opened(f"libsql+http://{redis_url.split('/')[2]}", start_timeout=0) as store:
        with pytest.raises(StoreError):
            await store.start()


async def test_a_unit_takes_a_round_trip_a_statement_and_one_to_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with requests(monkeypatch) as sent:
        async with store.unit():
            pass
        assert sent == []
        async with store.unit() as unit:
            await unit[Maker].add_many([{"name": f"{n}"} for n in range(1_000)])
        assert len(sent) == 2
        steps = sent[0]["requests"][0]["batch"]["steps"]
        assert [step["stmt"]["sql"] for step in steps[:2]] == ["PRAGMA foreign_keys=ON", "BEGIN IMMEDIATE"]
        assert len(steps) == 1_002
    async with store.read() as unit:
        assert await unit[Maker].count() == 1_000


async def test_a_row_that_is_refused_in_the_middle_undoes_the_others(store: Store) -> None:
    with pytest.raises(StoreError):
        async with store.unit() as unit:
            await unit.execute(
                "INSERT INTO reviews (id, stars, part_id) VALUES (:id, 1, 'x')", [{"id": f"{n % 7}"} for n in range(9)]
            )
    async with store.read() as unit:
        assert (await unit.execute("SELECT count(*) FROM reviews")).scalar_one() == 0


async def test_what_comes_after_a_failure_in_a_request_does_not_run(store: Store) -> None:
    insert = "INSERT INTO reviews (id, stars, part_id) VALUES (?, 1, ?)"
    async with store.raw() as connection:
        await connection.execute("INSERT INTO parts (id, title, created_at, updated_at) VALUES ('p', 't', 1, 1)")
        with pytest.raises(sqlite3.IntegrityError):
            await connection.executemany(insert, [("a", "p"), ("a", "p"), ("b", "p")])
        assert await connection.execute_fetchall("SELECT id FROM reviews") == [("a",)]
        await connection.execute("BEGIN NO SUCH WAY")
        with pytest.raises(sqlite3.OperationalError):
            await connection.execute(insert, ("c", "p"))
        await connection.rollback()
        assert await connection.execute_fetchall("SELECT count(*) FROM reviews") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM makers",
        "WITH one AS (SELECT 1) DELETE FROM makers",
        "/* SELECT */ DELETE FROM makers",
        "CREATE TABLE more (n)",
        "DROP TABLE parts",
    ],
)
async def test_a_reading_unit_writes_nothing(store: Store, statement: str) -> None:
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="m"))
    with pytest.raises(StoreError, match="read-only unit"):
        async with store.read() as unit:
            await unit.execute(statement)
    async with store.read() as unit:
        assert (await unit.execute("WITH n AS (SELECT count(*) AS c FROM makers) SELECT c FROM n")).scalar_one() == 1
        assert await unit[Part].count() == 0


@pytest.mark.parametrize("statement", ["ATTACH 'other.db' AS other", "VACUUM", "PRAGMA cache_size=9"])
async def test_what_the_server_does_not_take_is_said(store: Store, statement: str) -> None:
    with pytest.raises(StoreError, match="does not take this statement over HTTP"):
        async with store.unit() as unit:
            await unit.execute(statement)


async def test_values_come_back_as_they_were_sent(store: Store) -> None:
    values = [None, 0, -(2**63), 2**63 - 1, 0.1, -0.0, 1e308, "", "a\0b", "ä🌊", b"", b"\0\xff", True]
    async with store.read() as unit:
        marks = ", ".join(f":v{n}" for n in range(len(values)))
        row = (await unit.execute(f"SELECT {marks}", {f"v{n}": v for n, v in enumerate(values)})).one()
    assert [repr(v) for v in row] == [repr(v) for v in [*values[:-1], 1]]


@pytest.mark.parametrize("value", [2**63, float("inf"), "\ud800", object()])
async def test_a_value_that_cannot_be_sent_is_refused_and_the_unit_goes_on(store: Store, value: object) -> None:
    async with store.unit() as unit:
        with pytest.raises(InvalidValue):
            await unit.execute("SELECT :v", {"v": value})
        await unit[Maker].add(Maker(name="m"))
    async with store.read() as unit:
        assert await unit[Maker].count() == 1


async def test_statements_between_the_rows_of_a_stream_are_answered(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add_many([{"name": f"{n:04}"} for n in range(500)])
    seen = []
    async with store.unit() as unit:
        result = await unit.session.stream(text("SELECT name FROM makers ORDER BY name"))
        async for [name] in result:
            seen.append(name)
            if int(name) % 100 == 0:
                await unit.execute("UPDATE makers SET name = name || 'x' WHERE name = :n", {"n": name})
    assert seen == [f"{n:04}" for n in range(500)]


async def test_a_stream_that_is_left_early_leaves_the_unit_usable(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add_many([{"name": f"{n:05}"} for n in range(20_000)])
    async with store.unit() as unit:
        stream = unit[Maker].stream(batch=10)
        await anext(stream)
        await stream.aclose()
        await unit[Maker].add(Maker(name="more"))
    async with store.read() as unit:
        assert await unit[Maker].count() == 20_001


async def expire(unit: Unit) -> None:
    """What the server does after ten seconds without a request, though rows may still be coming."""
    raw = await (await unit.connection()).get_raw_connection()
    connection: Any = raw.driver_connection
    connection._baton = connection._baton[::-1]


async def test_a_read_that_took_too_long_to_say_goodbye_has_read(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Maker].add_many([{"name": f"m{n:05}"} for n in range(100)])
    async with store.read() as unit:
        assert len([row async for row in unit[Maker].stream(batch=10)]) == 100
        await expire(unit)
    assert store.read_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with store.read() as unit:
        assert await unit[Maker].count() == 100


async def test_a_write_that_took_too_long_is_told_of_and_leaves_no_connection_behind(store: Store) -> None:
    with pytest.raises(Unavailable, match="ended the transaction"):
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            await expire(unit)
    assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with store.unit() as unit:
        assert await unit[Maker].count() == 0


async def test_an_error_among_the_rows_of_a_stream_is_raised(store: Store) -> None:
    with pytest.raises(StoreError, match="malformed JSON"):
        async with store.read() as unit:
            result = await unit.session.stream(text('SELECT json(value) FROM json_each(\'["1", "{"]\')'))
            async for _ in result:
                pass


async def test_a_unit_that_is_cancelled_anywhere_leaves_no_lock(store: Store) -> None:
    """A lock that nobody holds would last until the server takes it away, after 5 s."""

    async def work() -> None:
        async with store.unit() as unit:
            for n in range(20):
                await unit.execute("UPDATE makers SET updated_at = :n", {"n": f"{n}"})

    for n in range(40):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.0007 * n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        began = time.monotonic()
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name=f"after {n}"))
        assert time.monotonic() - began < 2


async def test_a_unit_whose_first_statement_fails_leaves_no_lock(sqld_url: str) -> None:
    async with opened(sqld_url, Base.metadata) as store, opened(sqld_url) as other:
        with pytest.raises(StoreError):
            async with store.unit() as unit:
                await unit.execute("DELETE FROM nothing_of_the_kind")
        began = time.monotonic()
        async with other.unit() as unit:
            await unit[Maker].add(Maker(name="m"))
        assert time.monotonic() - began < 2


async def test_a_transaction_that_the_server_ended_keeps_nothing_and_says_so(sqld_url: str) -> None:
    """The lock of one who is silent is given to one who waits, after 5 s."""
    async with opened(sqld_url, Base.metadata) as store, opened(sqld_url) as other:
        with pytest.raises(Unavailable, match="ended the transaction"):
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name="slow"))
                async with other.unit() as quick:
                    await quick[Maker].add(Maker(name="quick"))
                for name in ("late", "later"):
                    with pytest.raises(Unavailable, match="ended the transaction"):
                        await unit.execute("UPDATE makers SET name = :name", {"name": name})
        async with store.read() as reading:
            assert [maker.name for maker in await reading[Maker].list()] == ["quick"]


async def test_a_statement_that_takes_too_long_is_ended(sqld_url: str) -> None:
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000) SELECT max(i) FROM n"
    async with opened(sqld_url, Base.metadata, statement_timeout=0.2) as store:
        with pytest.raises(StoreError, match="took too long"):
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name="gone"))
                await unit.execute(slow)
        async with store.unit() as unit:
            assert await unit[Maker].count() == 0


async def test_a_killed_server_fails_units_clearly_and_keeps_what_was_committed(tmp_path: Path) -> None:
    ensure_sqld()
    with start_sqld(data=tmp_path / "data") as first:
        url = first.database_url(first.create_database("shop"))
        async with opened(url, Base.metadata, start_timeout=0) as store:
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name="kept"))
            with pytest.raises(Unavailable, match="cannot be reached"):
                async with store.unit() as unit:
                    await unit[Maker].add(Maker(name="gone"))
                    await _kill(first)
                    await unit[Maker].add(Maker(name="gone too"))
            with pytest.raises(Unavailable, match="cannot be reached"):
                async with store.read() as unit:
                    await unit[Maker].count()
            with start_sqld(data=tmp_path / "data", port=first.port):
                async with store.read() as unit:
                    assert [maker.name for maker in await unit[Maker].list()] == ["kept"]
                async with store.unit() as unit:
                    await unit[Maker].add(Maker(name="more"))


async def test_a_server_that_goes_while_rows_are_streamed_is_told_of(tmp_path: Path) -> None:
    ensure_sqld()
    with start_sqld(data=tmp_path / "data") as server:
        url = server.database_url(server.create_database("shop"))
        async with opened(url, Base.metadata) as store:
            async with store.unit() as unit:
                await unit[Maker].add_many([{"name": f"{n:04d}" * 200} for n in range(20_000)])
            with pytest.raises(Unavailable, match="cannot be reached"):
                async with store.read() as unit:
                    stream = unit[Maker].stream(batch=10)
                    await anext(stream)
                    await _kill(server)
                    async for _ in stream:
                        pass


async def test_a_server_restarted_under_an_open_unit_keeps_nothing_of_it(tmp_path: Path) -> None:
    ensure_sqld()
    with start_sqld(data=tmp_path / "data") as first:
        url = first.database_url(first.create_database("shop"))
        async with opened(url, Base.metadata) as store:
            with pytest.raises(Unavailable):
                async with store.unit() as unit:
                    await unit[Maker].add(Maker(name="gone"))
                    await _kill(first)
                    with start_sqld(data=tmp_path / "data", port=first.port):
                        await unit[Maker].add(Maker(name="alone"))
            with start_sqld(data=tmp_path / "data", port=first.port):
                async with store.read() as unit:
                    assert await unit[Maker].count() == 0


async def _kill(server: SqldServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while server.alive():  # noqa: ASYNC110  a process, which sets no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("message", "code", "kind", "name"),
    [
        ("SQLite error: UNIQUE constraint failed: t.a", "SQLITE_CONSTRAINT", "IntegrityError", "…_CONSTRAINT_UNIQUE"),
        ("SQLite error: NOT NULL constraint failed: t.a", "SQLITE_CONSTRAINT", "IntegrityError", "…_NOTNULL"),
        ("SQLite error: cannot store TEXT", "SQLITE_CONSTRAINT_DATATYPE", "IntegrityError", "…_CONSTRAINT_DATATYPE"),
        ("SQLite error: database is locked", "SQLITE_BUSY", "OperationalError", "SQLITE_BUSY"),
        ("Transaction timed out", "TRANSACTION_TIMEOUT", "OperationalError", "LIBSQL_TRANSACTION_ENDED"),
        ("what is this", None, "OperationalError", "SQLITE_ERROR"),
    ],
)
def test_what_the_server_says_is_an_error_of_sqlites(message: str, code: str | None, kind: str, name: str) -> None:
    error = hrana.error(hrana.Problem(message, code))
    assert type(error).__name__ == kind
    assert error.sqlite_errorname.endswith(name.removeprefix("…"))
    assert not str(error).startswith("SQLite error")
