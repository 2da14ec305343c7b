"""`run` begins a unit again when it lost against another, and only then."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import Conflict, InvalidValue, NotFound, StoreError, Unavailable
from holdfast.store import Store, Unit, sqlite
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part


@pytest.fixture
async def on_postgres(postgres_url: str) -> Any:
    async with opened(postgres_url, Base.metadata) as store:
        yield store


async def two_parts(store: Store) -> list[Any]:
    async with store.unit() as unit:
        parts = [await unit[Part].add(Part(title=title, stock=0)) for title in "ab"]
    return [part.id for part in parts]


async def test_units_that_deadlock_are_run_again_until_both_are_done(on_postgres: Store) -> None:
    first, second = await two_parts(on_postgres)
    runs: list[str] = []
    both_hold_one = asyncio.Barrier(2)

    def work(name: str, one: Any, other: Any) -> Any:
        async def move(unit: Unit) -> str:
            runs.append(name)
            await unit.execute("UPDATE parts SET stock = stock + 1 WHERE id = :id", {"id": one})
            if len(runs) <= 2:
                await both_hold_one.wait()
            await unit.execute("UPDATE parts SET stock = stock + 1 WHERE id = :id", {"id": other})
            return name

        return move

    done = await asyncio.gather(
        on_postgres.run(work("up", first, second)), on_postgres.run(work("down", second, first))
    )
    assert done == ["up", "down"]
    assert 3 <= len(runs) <= 5  # one of them lost; on a busy machine it may be overtaken, and lose again
    async with on_postgres.read() as unit:
        assert [part.stock for part in await unit[Part].list()] == [2, 2]


async def test_without_run_a_deadlock_is_an_error_that_names_run(on_postgres: Store) -> None:
    first, second = await two_parts(on_postgres)
    both_hold_one = asyncio.Barrier(2)

    async def move(one: Any, other: Any) -> None:
        async with on_postgres.unit() as unit:
            await unit.execute("UPDATE parts SET stock = stock + 1 WHERE id = :id", {"id": one})
            await both_hold_one.wait()
            await unit.execute("UPDATE parts SET stock = stock + 1 WHERE id = :id", {"id": other})

    outcome = await asyncio.gather(move(first, second), move(second, first), return_exceptions=True)
    (lost,) = [error for error in outcome if error is not None]
    assert type(lost) is StoreError
    assert "lost against a concurrent one" in str(lost)
    assert "hold.run" in str(lost)


async def test_serialization_failures_are_run_again_so_that_no_increment_is_lost(on_postgres: Store) -> None:
    key, _ = await two_parts(on_postgres)
    runs = 0

    async def increment(unit: Unit) -> None:
        nonlocal runs
        runs += 1
        part = await unit[Part].get(key)
        await asyncio.sleep(0.01)
        await unit[Part].update(key, stock=part.stock + 1)

    await asyncio.gather(
        *(on_postgres.run(increment, attempts=50, isolation="repeatable read", actor="ada") for _ in range(8))
    )
    async with on_postgres.read() as unit:
        assert (await unit[Part].get(key)).stock == 8
    assert runs > 8


async def test_a_failure_at_commit_is_run_again_too(on_postgres: Store) -> None:
    """Write skew: each reads what the other writes, and PostgreSQL notices at COMMIT."""
    await two_parts(on_postgres)
    told: list[int] = []
    both_have_read = asyncio.Barrier(2)
    runs = 0

    async def copy(unit: Unit) -> None:
        nonlocal runs
        runs += 1
        total = sum(part.stock for part in await unit[Part].list())
        if runs <= 2:
            await both_have_read.wait()
        await unit[Part].add(Part(title="sum", stock=total + 1))

        async def tell() -> None:
            told.append(total)

        unit.after_commit(tell)

    await asyncio.gather(*(on_postgres.run(copy, isolation="serializable") for _ in range(2)))
    assert runs == 3
    assert told == [0, 1]  # one after the other, and each told once


async def test_isolation_of_one_unit_is_not_left_to_the_next(on_postgres: Store) -> None:
    async with on_postgres.unit(isolation="serializable") as unit:
        assert (await unit.execute("SHOW transaction_isolation")).scalar_one() == "serializable"
    async with on_postgres.unit() as unit:
        assert (await unit.execute("SHOW transaction_isolation")).scalar_one() == "read committed"
        assert (await unit.execute("SHOW transaction_read_only")).scalar_one() == "off"
    async with on_postgres.read() as unit:
        assert (await unit.execute("SHOW transaction_read_only")).scalar_one() == "on"


async def test_isolation_on_sqlite_is_serializable_anyway(sqlite_url: str) -> None:
    """Units that read and then write take turns: none reads what another is about to change."""

    async def add_one(unit: Unit) -> None:
        maker = await unit[Maker].get(number)
        await asyncio.sleep(0.01)
        await unit[Maker].update(number, name=str(int(maker.name) + 1))

    async with opened(sqlite_url, Base.metadata) as store:
        async with store.unit(isolation="serializable") as unit:
            maker = await unit[Maker].add(Maker(name="0"))
            number = maker.id
        await asyncio.gather(*(store.run(add_one, isolation="serializable") for _ in range(8)))
        async with store.read() as unit:
            assert (await unit[Maker].get(number)).name == "8"


async def test_a_sqlite_file_that_another_program_writes_to_is_waited_for(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    async with opened(sqlite_url, Base.metadata) as store:
        other = hold_the_file(store.file)
        with pytest.raises(Unavailable, match="is locked by another writer for too long"):
            async with store.unit():
                raise AssertionError("the block is not entered")
        asyncio.get_running_loop().call_later(0.4, other.rollback)
        assert await store.run(write_one, attempts=30) == "written"
        other.close()
        async with store.read() as unit:
            assert await unit[Maker].count() == 1


async def test_a_file_that_stays_locked_is_given_up_after_the_attempts(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    async with opened(sqlite_url, Base.metadata) as store:
        other = hold_the_file(store.file)
        with pytest.raises(Unavailable, match="locked"):
            await store.run(write_one, attempts=3)
        other.close()


def hold_the_file(file: Path | None) -> sqlite3.Connection:
    assert file is not None
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


async def write_one(unit: Unit) -> str:
    await unit[Maker].add(Maker(name="m"))
    return "written"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), InvalidValue("v"), NotFound("n"), Conflict("c"), Unavailable("u"), StoreError("s")]
)
async def test_other_errors_are_not_run_again(store: Store, error: Exception) -> None:
    runs = 0

    async def work(unit: Unit) -> None:
        nonlocal runs
        runs += 1
        raise error

    with pytest.raises(type(error)) as raised:
        await store.run(work)
    assert raised.value is error
    assert runs == 1


async def test_a_taken_key_is_not_run_again(store: Store) -> None:
    runs = 0

    async def work(unit: Unit) -> None:
        nonlocal runs
        runs += 1
        await unit[Maker].add_many([{"name": "twice"}, {"name": "twice"}])

    with pytest.raises(Conflict):
        await store.run(work)
    assert runs == 1


async def test_no_attempt_at_all_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="at least 1, not 0"):
        await store.run(write_one, attempts=0)
