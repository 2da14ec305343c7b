"""A database that dies under the units: each fails clearly, nothing committed is lost, and the next ones succeed."""

import asyncio
import signal
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from holdfast.errors import HoldfastError, Unavailable
from holdfast.store import Store
from tests.backends import settings_for
from tests.store.killable import KillablePostgres
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture(scope="module")
def server() -> Iterator[KillablePostgres]:
    with KillablePostgres() as server:
        yield server


@pytest.fixture
async def store(server: KillablePostgres) -> Any:
    async with opened(server.url, Base.metadata, connect_timeout=2, start_timeout=20) as store:
        async with store.unit() as unit:
            await unit.execute("TRUNCATE makers, parts CASCADE")
        yield store


async def grown(things: Collection[Any], by: int) -> None:
    """Return when there are so many more of them."""
    wanted = len(things) + by
    async with asyncio.timeout(30):
        while len(things) < wanted:  # noqa: ASYNC110 (what adds to them is under test and knows of no event)
            await asyncio.sleep(0.01)


async def in_thread(work: Any, *arguments: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT])
async def test_writers_over_a_killed_server_lose_nothing_and_go_on_by_themselves(
    server: KillablePostgres, store: Store, how: signal.Signals
) -> None:
    """Each unit writes a maker and two parts: all three are there, or none."""
    committed: set[str] = set()
    errors: list[BaseException] = []
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            name, number = f"{writer}-{number:05}", number + 1
            try:
                async with store.unit() as unit:
                    maker = await unit[Maker].add(Maker(name=name))
                    await unit[Part].add_many([{"title": name, "maker_id": maker.id} for _ in range(2)])
                committed.add(name)
            except HoldfastError as error:
                errors.append(error)
                await asyncio.sleep(0.02)

    async def read() -> None:
        while not stop.is_set():
            try:
                async with store.read() as unit:
                    await unit[Maker].count()
            except HoldfastError as error:
                errors.append(error)
                await asyncio.sleep(0.02)

    workers = [asyncio.create_task(write(n)) for n in range(6)] + [asyncio.create_task(read()) for _ in range(3)]
    for _ in range(2):
        await grown(committed, 60)
        await in_thread(server.kill, how)
        await grown(errors, 20)
        await in_thread(server.start)
    await grown(committed, 60)
    stop.set()
    await asyncio.gather(*workers)
    assert {type(error) for error in errors} == {Unavailable}
    assert all("cannot be reached" in str(error) for error in errors), {str(error) for error in errors}
    async with store.read() as unit:
        makers = set((await unit.execute(select(Maker.name))).scalars())
        titles = (await unit.execute(select(Part.title))).scalars().all()
    assert committed <= makers
    assert sorted(titles) == sorted(name for name in makers for _ in range(2))
    # The outcome of a COMMIT whose answer was lost is unknown: at most one a writer and death.
    assert len(makers - committed) <= 12


async def test_idle_connections_of_a_server_that_was_restarted_are_replaced_unnoticed(
    server: KillablePostgres, store: Store
) -> None:
    async def one(number: int) -> None:
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name=f"{number}"))
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in range(5)))
    await in_thread(server.kill, signal.SIGQUIT)
    await in_thread(server.start)
    await asyncio.gather(*(one(number) for number in range(5, 10)))
    async with store.read() as unit:
        assert await unit[Maker].count() == 10


async def test_a_connection_that_the_server_ends_in_the_middle_of_a_unit_undoes_it(
    server: KillablePostgres, store: Store
) -> None:
    told: list[str] = []

    async def tell() -> None:
        told.append("told")

    with pytest.raises(Unavailable, match="cannot be reached"):
        async with store.unit() as unit:
            unit.after_commit(tell)
            await unit[Maker].add(Maker(name="gone"))
            pid = (await unit.execute("SELECT pg_backend_pid()")).scalar_one()
            async with store.unit() as other:
                await other.execute("SELECT pg_terminate_backend(:pid)", {"pid": pid})
            await unit[Maker].add(Maker(name="gone too"))
    async with store.read() as unit:
        assert await unit[Maker].count() == 0
    assert told == []


async def test_a_connection_that_is_lost_before_commit_is_no_commit(server: KillablePostgres, store: Store) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="gone"))
            pid = (await unit.execute("SELECT pg_backend_pid()")).scalar_one()
            async with store.unit() as other:
                await other.execute("SELECT pg_terminate_backend(:pid)", {"pid": pid})
            await asyncio.sleep(0.05)
    async with store.read() as unit:
        assert await unit[Maker].count() == 0


async def test_a_start_waits_for_a_server_that_comes_up_in_time(server: KillablePostgres, store: Store) -> None:
    await in_thread(server.kill)
    starting = asyncio.create_task(store.start())
    await asyncio.sleep(0.5)
    assert not starting.done()
    await in_thread(server.start)
    await asyncio.wait_for(starting, 20)
    assert await store.ping() > 0


async def test_a_start_without_a_server_ends_within_its_time(server: KillablePostgres) -> None:
    await in_thread(server.kill)
    try:
        store = Store(settings_for(server.url, start_timeout=0.7))
        began = time.monotonic()
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.start()
        assert 0.2 < time.monotonic() - began < 2
        with pytest.raises(HoldfastError):
            await store.ping()
        await store.close()
    finally:
        await in_thread(server.start)


async def test_a_server_that_turns_read_only_and_back_is_written_again_without_a_restart(
    server: KillablePostgres, store: Store
) -> None:
    async def turn(on: str) -> None:
        async with store.raw() as connection:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {on}")
            await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.3)

    await turn("on")
    with pytest.raises(Unavailable, match=r"is read-only .*name another database"):
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name="refused"))
    async with store.read() as unit:
        assert await unit[Maker].count() == 0
    await turn("off")
    async with store.unit() as unit:
        await unit[Maker].add(Maker(name="after"))


@pytest.mark.parametrize("user", ["guarded", "nobody_of_this_name"])
async def test_a_refused_login_is_told_at_once(server: KillablePostgres, user: str) -> None:
    hba = server.data / "pg_hba.conf"
    hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    async with opened(server.url) as store, store.unit() as unit:
        await unit.execute("DROP ROLE IF EXISTS guarded")
        await unit.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        await unit.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(0.2)
    url = server.url.replace("holdfast@", f"{user}:wrong@")
    async with opened(url, start_timeout=20) as store:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"refuses the login .*; check user and password") as refused:
            await store.start()
        assert time.monotonic() - began < 5
        assert "wrong" not in str(refused.value)
    if user == "guarded":
        async with opened(url.replace("wrong", "right")) as store:
            await store.start()
