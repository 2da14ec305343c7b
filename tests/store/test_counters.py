"""Buffered counters: exact totals, one statement, nothing twice."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Holdfast
from holdfast.errors import ConfigurationError, InvalidValue, Unavailable
from holdfast.model import KeyedModel, Model, Policy, Timestamps, Versioned
from holdfast.store import ALL, Counters, Store, Unit
from holdfast.store.counters import _BY_KEY, _from_arrays, merged
from tests.backends import settings_for
from tests.logs import capture_logs
from tests.store.conftest import statements
from tests.store.opening import opened

LONG = 3600.0


class Base(Model):
    __abstract__ = True
    metadata = MetaData()


class Token(Timestamps, Versioned, Base):
    __tablename__ = "tokens"
    __policy__ = Policy(tenant="owner")
    owner: Mapped[str]
    usage_count: Mapped[int] = mapped_column(default=0, server_default="0")
    failures: Mapped[int | None] = mapped_column("failed")
    last_used_at: Mapped[dt.datetime | None]


class Visit(KeyedModel):
    __tablename__ = "visits"
    metadata = Base.metadata
    page: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    usage_count: Mapped[int] = mapped_column(default=0)


async def tokens(store: Store, number: int) -> list[UUID]:
    rows = [Token(owner=f"o{n % 3}") for n in range(number)]
    async with store.unit(tenant=ALL) as unit:
        unit.add(*rows)
    return sorted(row.id for row in rows)


async def read(store: Store) -> dict[UUID, Token]:
    async with store.read(tenant=ALL) as unit:
        return {row.id: row for row in await unit[Token].list()}


@pytest.fixture
async def store(database_url: str) -> Any:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def test_many_tasks_and_threads_lose_nothing(store: Store) -> None:
    ids = await tokens(store, 20)
    counters, other = Counters(store, interval=0.02, size=10), Counters(store, interval=0.03)

    async def use(counters: Counters, start: int) -> None:
        for n in range(200):
            counters.add(Token, ids[(start + n) % 20])
            if n % 20 == 0:
                await asyncio.sleep(0.002)

    def use_from_a_thread() -> None:
        for n in range(500):
            counters.add(Token, ids[n % 20], "failures", by=2)

    async with counters, other:
        threads = [threading.Thread(target=use_from_a_thread) for _ in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(use(one, start) for start in range(8) for one in (counters, other)))
        for thread in threads:
            await asyncio.to_thread(thread.join)
    rows = await read(store)
    assert sum(row.usage_count for row in rows.values()) == 16 * 200
    assert sum(row.failures or 0 for row in rows.values()) == 3 * 500 * 2
    assert (counters.waiting, counters.dropped) == (0, 0)


async def test_one_statement_a_table_writes_what_came_and_edits_nothing_else(store: Store) -> None:
    ids = await tokens(store, 30)
    before = await read(store)
    late, early = dt.datetime(2026, 3, 2, tzinfo=dt.UTC), dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    counters = Counters(store, interval=LONG)
    for token in ids:
        counters.add(Token, token)
        counters.add(Token, str(token), by=4)
    counters.touch(Token, ids[0], at=late)
    counters.touch(Token, ids[0], at=early)
    with statements(store) as sent:
        await counters.flush()
        await counters.flush()
    assert len([statement for statement in sent if statement.startswith("UPDATE tokens")]) == 1
    counters.touch(Token, ids[0], at=early)
    counters.touch(Token, ids[1])
    counters.add(Token, ids[2], by=-2)
    await counters.close()
    rows = await read(store)
    assert [rows[token].usage_count for token in ids] == [5, 5, 3] + [5] * 27
    assert rows[ids[0]].last_used_at == late
    assert rows[ids[2]].last_used_at is None
    now = dt.datetime.now(dt.UTC)
    assert now - dt.timedelta(minutes=1) < (rows[ids[1]].last_used_at or late) <= now
    for token in ids:
        assert (rows[token].updated_at, rows[token].version) == (before[token].updated_at, before[token].version)
    with pytest.raises(ConfigurationError, match="closed"):
        counters.add(Token, ids[0])


async def test_keys_of_several_columns_and_rows_that_are_gone(store: Store) -> None:
    async with store.unit() as unit:
        unit.add(Visit(page="/", day=1), Visit(page="/", day=2))
    counters = Counters(store, interval=LONG)
    counters.add(Visit, ("/", 2), by=3)
    counters.add(Visit, {"page": "/gone", "day": 1})
    with capture_logs() as logged:
        await counters.flush()
    assert "counted_rows_are_gone" in str(logged)
    async with store.read() as unit:
        assert sorted((row.day, row.usage_count) for row in await unit[Visit].list()) == [(1, 0), (2, 3)]
    assert counters.waiting == 0


async def test_a_flush_that_fails_is_put_back_and_not_doubled(store: Store) -> None:
    [token] = await tokens(store, 1)
    counters = Counters(store, interval=LONG)
    counters.add(Token, token, by=5)

    async def refuse(unit: Any) -> None:
        raise Unavailable("the database is gone")

    store.hooks.before_commit.append(refuse)
    with pytest.raises(Unavailable):
        await counters.flush()
    counters.add(Token, token, by=2)
    assert counters.waiting == 1
    store.hooks.before_commit.clear()
    await counters.close()
    assert (await read(store))[token].usage_count == 7


async def test_an_unknown_outcome_of_commit_is_not_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    [token] = await tokens(store, 1)
    counters = Counters(store, interval=LONG)
    commit = store._commit

    async def commit_and_lose_the_answer(unit: Any) -> None:
        await commit(unit)
        raise ConnectionResetError("reset by peer")

    counters.add(Token, token, by=5)
    monkeypatch.setattr(store, "_commit", commit_and_lose_the_answer)
    with capture_logs() as logged:
        await counters.flush()
    assert "lost during COMMIT" in str(logged)
    monkeypatch.undo()
    counters.add(Token, token)
    await counters.close()
    assert (await read(store))[token].usage_count == 6
    assert counters.dropped == 1


async def test_a_value_that_no_column_takes_costs_its_own_row_only(postgres_url: str) -> None:
    async with opened(postgres_url, Base.metadata) as store:
        ids = await tokens(store, 9)
        counters = Counters(store, interval=LONG)
        for token in ids:
            counters.add(Token, token)
        counters.add(Token, ids[4], by=2**63 - 1)
        await counters.flush()
        rows = await read(store)
        assert [rows[token].usage_count for token in ids] == [1, 1, 1, 1, 0, 1, 1, 1, 1]
        assert (counters.dropped, counters.waiting) == (1, 0)


async def test_memory_is_bounded(store: Store) -> None:
    counters = Counters(store, interval=LONG, size=3, capacity=5)
    for _ in range(4):
        for n in range(8):
            counters.add(Visit, ("/", n))
    assert (counters.waiting, counters.dropped) == (5, 12)


async def test_what_cannot_be_counted_is_refused_at_once(store: Store) -> None:
    counters = Counters(store)
    for wrong, told in (
        (lambda: counters.add(Token, uuid4(), "nothing"), "no column 'nothing'"),
        (lambda: counters.add(Token, uuid4(), "owner"), "whole numbers"),
        (lambda: counters.add(Token, uuid4(), "last_used_at"), "whole numbers"),
        (lambda: counters.touch(Token, uuid4(), "usage_count"), "times"),
        (lambda: counters.add(Token, "no key"), "is no key of Token"),
        (lambda: counters.add(Token, uuid4(), by=0.5), "whole number"),  # type: ignore[arg-type]
        (lambda: counters.add(Visit, ("/", 1), "day"), "whole numbers"),
        (lambda: counters.touch(Token, uuid4(), at=dt.datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001
    ):
        with pytest.raises(InvalidValue, match=told):
            wrong()
    for options in ({"interval": 0}, {"size": 0}, {"size": 10, "capacity": 5}):
        with pytest.raises(ConfigurationError, match="interval"):
            Counters(store, **options)
    assert counters.waiting == 0


async def test_the_journal_sees_them(database_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=Base.metadata) as hold:
        [token] = await tokens(hold.store, 1)
        position = await hold.journal.make_tick()
        hold.counters.add(Token, token)
        await hold.counters.flush()
        upto = await hold.journal.make_tick()
        changes = [change async for page in hold.journal.read(position, upto) for change in page.changes]
    assert [(change.op, change.table, change.actor) for change in changes] == [("update", "tokens", "counters")]


@given(st.lists(st.integers(-9, 9)), st.randoms())
def test_merging_is_the_same_in_any_order(changes: list[int], random: Any) -> None:
    def total(values: list[int]) -> Any:
        found: Any = 0
        for value in values:
            found = merged(found, value)
        return found

    shuffled = list(changes)
    random.shuffle(shuffled)
    assert total(changes) == total(shuffled) == sum(changes)


CHILD = """
import asyncio, sys
from uuid import UUID
from holdfast.store import Counters, Store
from tests.backends import settings_for
from tests.store.test_counters import Token

async def main(url, token):
    counters = Counters(Store(settings_for(url)), interval=0.2)
    counters.start()
    for _ in range(100):
        counters.add(Token, token)
    while counters.waiting:
        await asyncio.sleep(0.01)
    await counters.flush()
    counters._interval = 3600
    for _ in range(50):
        counters.add(Token, token)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(sys.argv[1], UUID(sys.argv[2])))
"""


def test_a_killed_process_loses_the_last_interval_and_no_more(database_url: str) -> None:
    async def prepare() -> UUID:
        async with opened(database_url, Base.metadata) as store:
            return (await tokens(store, 1))[0]

    async def total(token: UUID) -> int:
        async with opened(database_url) as store:
            return (await read(store))[token].usage_count

    token = asyncio.run(prepare())
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, database_url, str(token)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    assert asyncio.run(total(token)) == 100


async def test_rows_of_a_large_table_are_found_by_their_keys(postgres_url: str) -> None:
    async with opened(postgres_url, Base.metadata) as store:
        async with store.unit(tenant=ALL) as unit:
            await unit.execute("INSERT INTO visits (page, day) SELECT 'p' || n, n FROM generate_series(1, 20000) n")
            await unit.execute("ANALYZE visits")
        keys = [(f"p{n}", n) for n in range(1, 20_000, 40)]
        lock, change = _from_arrays(Visit.__table__, ("page", "day"), ("usage_count",))  # type: ignore[arg-type]
        pages, days = [page for page, _ in keys], [day for _, day in keys]
        arrays = {"key_0_": pages, "key_1_": days, "new_usage_count_": [1] * len(keys)}

        async def plan(unit: Unit, statement: Any) -> str:
            compiled = statement.compile(dialect=store.engine.dialect)
            given = compiled.construct_params(arrays)
            taken = tuple(given[name] for name in compiled.positiontup)
            found = await (await unit.connection()).exec_driver_sql(f"EXPLAIN {compiled}", taken)
            return "\n".join(row[0] for row in found)

        async with store.unit(tenant=ALL) as unit:
            assert "Seq Scan on visits" in await plan(unit, lock)  # what PostgreSQL would rather do
            await unit.execute(_BY_KEY)
            for statement in (lock, change):
                assert "Seq Scan" not in await plan(unit, statement)
        counters = Counters(store, interval=LONG)
        for key in keys:
            counters.add(Visit, key)
        await counters.flush()
        async with store.read(tenant=ALL) as unit:
            assert (await unit.execute("SELECT count(*) FROM visits WHERE usage_count = 1")).scalar_one() == len(keys)
            assert (await unit.execute("SHOW enable_hashjoin")).scalar_one() == "on"  # as long as the transaction
        await counters.close()
