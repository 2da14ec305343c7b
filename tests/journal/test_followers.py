"""Followers get everything, in order, through failing handlers, lost leases and killed processes."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from holdfast.errors import ConfigurationError, JournalError, Unavailable
from holdfast.journal import EVERYTHING, Batch, Journal, Position, followers
from holdfast.journal.leases import Leases, LostLease
from holdfast.model import uuid7
from holdfast.store import Store, Unit
from tests.backends import settings_for
from tests.journal.conftest import Note, Taken, make_tables, until

ROOT = Path(__file__).parents[2]


async def states(log: Journal) -> list[str]:
    return [follower.state for follower in (await log.status()).followers]


async def add(store: Store, *numbers: int) -> list[Note]:
    notes = [Note(id=uuid7(), n=n) for n in numbers]
    async with store.unit() as unit:
        unit.add(*notes)
    return notes


@pytest.fixture
async def others(store: Store) -> AsyncIterator[Callable[[], Journal]]:
    """Makes more journals over the same database, as other processes would have."""
    made: list[tuple[Journal, Store]] = []

    def make() -> Journal:
        other = Store(settings_for(store.settings.database_url, poll_interval=0.05))
        made.append((Journal(other, lease=1.0), other))
        return made[-1][0]

    yield make
    for log, other in made:
        await log.close()
        await other.close()


@pytest.mark.parametrize("options", [{}, {"transactional": True}, {"durable": False}])
async def test_a_new_follower_is_told_to_rebuild_and_then_everything(
    store: Store, log: Journal, options: dict[str, bool]
) -> None:
    await add(store, 1)
    taken = Taken()
    await log.subscribe("f", taken, **options)  # type: ignore[arg-type]
    await until(lambda: taken.changes)
    assert [(c.table, c.op) for c in taken.changes] == [(EVERYTHING, "reset")]
    notes = await add(store, 2, 3)
    await log.wait_until(await log.make_tick(), "f")
    assert [c.key for c in taken.rows] == [str(note.id) for note in notes]


async def test_a_follower_may_begin_with_what_comes_next(store: Store, log: Journal) -> None:
    await add(store, 1)
    for name, durable in (("a", True), ("b", False)):
        taken = Taken()
        await log.subscribe(name, taken, durable=durable, start="now")
        await until(lambda name=name: log._followers[name][0].position is not None)
        notes = await add(store, 2)
        await log.wait_until(await log.make_tick(), name)
        assert [(c.op, c.key) for c in taken.changes] == [("insert", str(notes[0].id))]


async def test_raw_sql_wakes_followers_by_itself(store: Store, log: Journal) -> None:
    taken = Taken()
    await log.subscribe("f", taken, durable=False)
    await until(lambda: taken.changes)
    async with store.raw() as connection:
        await connection.execute("INSERT INTO notes (n) VALUES (1)")
    await until(lambda: taken.rows, 3)


async def test_a_follower_goes_on_where_it_stopped(store: Store, log: Journal, others: Callable[[], Journal]) -> None:
    taken = Taken()
    await log.subscribe("f", taken)
    await add(store, 1)
    await log.wait_until(await log.make_tick(), "f")
    await log.unsubscribe("f")
    notes = await add(store, 2)
    again, other = Taken(), others()
    await other.subscribe("f", again)
    await until(lambda: again.changes)
    assert [c.key for c in again.changes] == [str(notes[0].id)]


async def test_one_instance_runs_a_follower_and_another_takes_over(
    store: Store, log: Journal, others: Callable[[], Journal]
) -> None:
    first, second, other = Taken(), Taken(), others()
    await log.subscribe("f", first)
    await until(lambda: first.changes)
    await other.subscribe("f", second)
    await add(store, 1)
    await log.wait_until(await log.make_tick(), "f")
    await asyncio.sleep(0.5)
    assert len(first.rows) == 1
    assert second.changes == []
    await log.unsubscribe("f")
    notes = await add(store, 2)
    await until(lambda: second.changes)
    assert [c.key for c in second.changes] == [str(notes[0].id)]


async def test_a_holder_that_was_replaced_can_keep_nothing(store: Store, log: Journal) -> None:
    await log.make_tick()
    late, early = Leases(store, ttl=0.2), Leases(store, ttl=5)
    await late.register("f", Position(1, 0), max_lag_changes=None, max_lag_seconds=None)
    old = await late.acquire("f")
    assert old is not None
    assert await early.acquire("f") is None
    await asyncio.sleep(0.3)
    new = await early.acquire("f")
    assert new is not None
    with pytest.raises(LostLease):
        await late.checkpoint(old[0], Position(1, 9))
    with pytest.raises(LostLease):
        await late.renew(old[0])
    with pytest.raises(LostLease):
        async with store.unit() as unit:
            unit.add(Note(n=77))
            await late.checkpoint(old[0], Position(1, 9), unit)
    async with store.read() as unit:
        assert (await unit.execute("SELECT count(*) FROM notes")).scalar() == 0
    await early.checkpoint(new[0], Position(1, 3))


class Choosy(Taken):
    """A handler that cannot take some rows."""

    def __init__(self, *refused: str | None) -> None:
        super().__init__()
        self.refused = set(refused)
        self.calls = 0

    async def __call__(self, batch: Batch, unit: Unit | None = None) -> None:
        self.calls += 1
        for change in batch.changes:
            if change.key in self.refused:
                raise ValueError(f"cannot take {change.key}\0")
        await super().__call__(batch, unit)


@pytest.mark.parametrize("transactional", [False, True])
async def test_a_failing_change_is_parked_with_its_key_and_the_others_go_on(
    store: Store, log: Journal, transactional: bool
) -> None:
    good, bad = await add(store, 1, 2)
    handler = Choosy(str(bad.id))
    await log.subscribe("f", handler, transactional=transactional, start="now")
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 10")
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 11")
    await log.wait_until(await log.make_tick(), "f")
    assert [c.key for c in handler.rows] == [str(good.id)] * 2
    letters = await log.dead_letters("f")
    assert [(letter.change.key, letter.change.op) for letter in letters] == [(str(bad.id), "update")] * 2
    assert "cannot take" in letters[0].error
    assert "earlier change" in letters[1].error
    [status] = (await log.status()).followers
    assert (status.parked, status.state) == (2, "following")
    assert any("dead letters" in problem for problem in status.problems())


@pytest.mark.parametrize("transactional", [False, True])
async def test_dead_letters_are_taken_in_order_when_they_are_tried_again(
    store: Store, log: Journal, others: Callable[[], Journal], transactional: bool
) -> None:
    good, bad, worse = await add(store, 1, 2, 3)
    handler = Choosy(str(bad.id), str(worse.id))
    await log.subscribe("f", handler, transactional=transactional, start="now")
    for n in (10, 11):
        async with store.unit() as unit:
            await unit.execute("UPDATE notes SET n = :n", {"n": n})
    await log.wait_until(await log.make_tick(), "f")
    handler.refused.remove(str(bad.id))
    handler.changes.clear()
    await others().retry("f")  # as the command line does, from another process
    await until(lambda: log._followers["f"][0]._delivery._parked == {("notes", str(worse.id))})
    assert [c.key for c in handler.rows] == [str(bad.id)] * 2
    assert [c.seq for c in handler.rows] == sorted(c.seq for c in handler.rows)
    assert {letter.change.key for letter in await log.dead_letters("f")} == {str(worse.id)}
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 12")
    await log.wait_until(await log.make_tick(), "f")
    assert sorted(c.key for c in handler.rows[2:]) == sorted([str(good.id), str(bad.id)])
    assert len(await log.dead_letters("f")) == 3


async def test_skipped_dead_letters_are_gone_and_their_key_is_delivered_again(store: Store, log: Journal) -> None:
    [bad] = await add(store, 1)
    handler = Choosy(str(bad.id))
    await log.subscribe("f", handler, start="now")
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 10")
    await log.wait_until(await log.make_tick(), "f")
    handler.refused.clear()
    assert await log.skip("f", table="notes", key=str(bad.id)) == 1
    await until(lambda: not log._followers["f"][0]._delivery._parked)
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 11")
    await until(lambda: handler.rows)
    assert await log.dead_letters("f") == []


async def test_a_follower_that_is_not_durable_rebuilds_instead_of_parking(store: Store, log: Journal) -> None:
    handler = Choosy()
    await log.subscribe("f", handler, durable=False)
    await until(lambda: handler.changes)
    [bad] = await add(store, 1)
    handler.refused.add(str(bad.id))
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 10")
    await until(lambda: [c.op for c in handler.changes][-1:] == ["reset"] and len(handler.changes) > 1, 20)
    await add(store, 2)
    await until(lambda: handler.changes[-1].op == "insert")


async def test_what_the_database_refuses_is_not_the_changes_fault(store: Store, log: Journal) -> None:
    taken, failures = Taken(), [3]

    async def handler(batch: Batch, unit: Unit) -> None:
        if failures[0]:
            failures[0] -= 1
            raise Unavailable("the database went away")
        await taken(batch)

    await log.subscribe("f", handler, transactional=True, start="now")
    await add(store, 1)
    await until(lambda: taken.rows, 30)
    assert await log.dead_letters("f") == []


async def test_a_reset_that_fails_is_tried_for_ever(
    store: Store, log: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "LONGEST_PAUSE", 0.1)
    taken, failures = Taken(), [8]

    async def handler(batch: Batch) -> None:
        if failures[0]:
            failures[0] -= 1
            raise ValueError("not yet")
        await taken(batch)

    await log.subscribe("f", handler)
    await until(lambda: taken.changes, 30)
    assert taken.changes[0].op == "reset"
    assert await log.dead_letters("f") == []


async def test_a_follower_rebuilds_when_asked(store: Store, log: Journal, others: Callable[[], Journal]) -> None:
    handler = Choosy()
    await log.subscribe("f", handler)
    await until(lambda: handler.changes)
    [bad] = await add(store, 1)
    handler.refused.add(str(bad.id))
    async with store.unit() as unit:
        await unit.execute("UPDATE notes SET n = 2")
    await log.wait_until(await log.make_tick(), "f")
    handler.changes.clear()
    await others().rebuild("f")
    await until(lambda: any(c.op == "reset" for c in handler.changes))

    async def are_gone() -> bool:
        return not await log.dead_letters("f")

    await until(are_gone)


async def test_asking_for_a_follower_that_is_not_there_says_so(log: Journal) -> None:
    for ask in (log.retry, log.rebuild, log.forget, log.skip):
        with pytest.raises(JournalError, match="no durable follower 'nobody'"):
            await ask("nobody")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("", {}, "needs a name"),
        ("f", {"transactional": True, "durable": False}, "cannot be transactional"),
        ("f", {"start": "sometime"}, "'rebuild' or 'now'"),
        ("taken", {}, "already"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused(
    log: Journal, name: str, options: dict[str, Any], says: str
) -> None:
    await log.subscribe("taken", Taken(), durable=False)
    with pytest.raises(ConfigurationError, match=says):
        await log.subscribe(name, Taken(), **options)


async def test_events_and_tables_can_be_chosen(store: Store, log: Journal) -> None:
    taken = Taken()
    await log.subscribe("f", taken, tables=["parts", "told"], start="now")
    async with store.unit() as unit:
        unit.add(Note())
        await unit.emit("told")
        await unit.emit("untold")
    await log.wait_until(await log.make_tick(), "f")
    assert [(c.op, c.table) for c in taken.changes] == [("event", "told")]


async def test_a_checkpoint_moves_over_what_was_not_wanted(store: Store, log: Journal) -> None:
    await log.subscribe("f", Taken(), tables=["parts"], start="now")
    await add(store, 1)
    upto = await log.make_tick()
    await log.wait_until(upto, "f")
    await log.unsubscribe("f")
    [status] = (await log.status()).followers
    assert Position.parse(status.position) == upto
    assert (status.lag_changes, status.holder) == (0, None)


async def test_the_status_says_how_far_a_follower_lags(store: Store, log: Journal) -> None:
    await log.subscribe("f", Taken(), start="now")
    await log.unsubscribe("f")
    await add(store, 1, 2, 3)
    await asyncio.sleep(0.2)
    [status] = (await log.status()).followers
    assert status.lag_changes == 3
    assert 0.1 < status.lag_seconds < 60


@pytest.mark.parametrize("limit", [{"max_lag": 2}, {"max_lag_seconds": 0.1}])
async def test_a_follower_that_lags_more_than_it_may_loses_its_place_and_rebuilds(
    store: Store, log: Journal, limit: dict[str, Any]
) -> None:
    await log.subscribe("f", Taken(), start="now", **limit)
    await log.unsubscribe("f")
    await log._maintenance.once()
    assert (await log.status()).followers[0].state == "following"
    await add(store, 1, 2, 3)
    await asyncio.sleep(0.2)
    await log._maintenance.once()
    [status] = (await log.status()).followers
    assert status.state == "dropped"
    assert "lagged 3 changes" in status.problems()[0]
    taken = Taken()
    await log.subscribe("f", taken, start="now", **limit)
    await until(lambda: taken.changes)
    assert [c.op for c in taken.changes] == ["reset"]

    async def follows() -> bool:
        return await states(log) == ["following"]

    await until(follows)


async def test_a_forgotten_follower_is_not_waited_for(store: Store, log: Journal) -> None:
    await log.subscribe("f", Taken(), start="now")
    await log.unsubscribe("f")
    await log.forget("f")
    assert (await log.status()).followers == []


async def test_a_tail_gives_changes_as_they_come(store: Store, log: Journal) -> None:
    await add(store, 1)
    start = await log.make_tick()
    stream = log.tail(start)
    notes = await add(store, 2)
    change = await asyncio.wait_for(anext(stream), 5)
    assert change.key == str(notes[0].id)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.1)
    later = await add(store, 3)
    assert (await asyncio.wait_for(waiting, 5)).key == str(later[0].id)
    await stream.aclose()


async def test_a_tail_from_before_what_is_kept_begins_with_a_reset(store: Store, log: Journal) -> None:
    await log.make_tick()
    stream = log.tail(Position(0, 0))
    change = await asyncio.wait_for(anext(stream), 5)
    assert (change.op, change.table) == ("reset", EVERYTHING)
    await stream.aclose()


async def test_a_position_is_text_and_back(log: Journal) -> None:
    position = await log.make_tick()
    assert Position.parse(str(position)) == position
    with pytest.raises(JournalError, match="no journal position"):
        Position.parse("yesterday")


VICTIM = """
import asyncio, sys
from holdfast.journal import Journal
from holdfast.store import Store
from tests.backends import settings_for

async def main(url, transactional):
    store = Store(settings_for(url, poll_interval=0.02))
    log = Journal(store, lease=0.5)

    async def inside(batch, unit):
        for change in batch.changes:
            if change.op == "insert":
                await unit.execute("INSERT INTO effects (seq, n) VALUES (:seq, 1)", {"seq": change.seq})
        await asyncio.sleep(0.05)

    async def outside(batch):
        async with store.engine.begin() as connection:
            for change in batch.changes:
                if change.op == "insert":
                    await connection.exec_driver_sql(f"INSERT INTO effects (seq, n) VALUES ({change.seq}, 1)")
        await asyncio.sleep(0.05)

    handler = inside if transactional else outside
    await log.subscribe("victim", handler, tables=["notes"], transactional=transactional, start="now")
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(sys.argv[1], sys.argv[2] == "True"))
"""


@pytest.mark.parametrize("transactional", [True, False])
async def test_killing_a_follower_loses_nothing_and_repeats_no_transactional_effect(
    store: Store, log: Journal, transactional: bool
) -> None:
    async with store.engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE effects (seq BIGINT, n INTEGER)")
    command = [sys.executable, "-c", VICTIM, store.settings.database_url, str(transactional)]
    written: set[int] = set()
    # A lock that was held on sqld is taken from the dead after 5 s.
    rounds = 2 if store.is_remote else 6
    for round in range(rounds):
        victim = subprocess.Popen(  # noqa: ASYNC220  it starts at once and is waited for in a thread
            command, cwd=ROOT, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, stdout=subprocess.PIPE
        )
        try:
            assert victim.stdout is not None
            assert await asyncio.to_thread(victim.stdout.readline) == b"ready\n"
            for n in range(6):
                await add(store, round * 10 + n)
                await asyncio.sleep(0.03 * (round + 1) / 3)
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            assert victim.stdout is not None
            victim.stdout.close()
    await log.make_tick()
    async with store.read() as unit:
        written = {int(row.seq) for row in await unit.execute("SELECT seq FROM holdfast_journal")}

    done = Taken()

    async def finish(batch: Batch, unit: Unit) -> None:
        for change in batch.changes:
            await unit.execute("INSERT INTO effects (seq, n) VALUES (:seq, 1)", {"seq": change.seq})
        await done(batch)

    await log.subscribe("victim", finish, tables=["notes"], transactional=True)
    await log.wait_until(await log.make_tick(), "victim")
    async with store.read() as unit:
        effects = [int(row.seq) for row in await unit.execute("SELECT seq FROM effects ORDER BY seq")]
    assert set(effects) == written
    if transactional:
        assert len(effects) == len(written) == rounds * 6


async def test_followers_survive_a_database_that_cuts_their_connections(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url, poll_interval=0.05))
    await make_tables(store)
    log = Journal(store, lease=1.0)
    durable, local = Taken(), Taken()
    await log.subscribe("d", durable, start="now")
    await log.subscribe("l", local, durable=False, start="now")
    await until(lambda: log._followers["l"][0].position is not None)
    cut = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    for n in range(3):
        async with store.raw() as connection:
            await connection.execute(cut)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while True:
                try:
                    await add(store, n)
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
    # A unit whose commit was cut may have been committed, and a batch may come again: none may be missing.
    async with store.read() as unit:
        there = {str(row.id) for row in await unit.execute("SELECT id FROM notes")}
    await until(lambda: {c.key for c in durable.rows} == {c.key for c in local.rows} == there)
    await log.close()
    await store.close()


async def test_a_default_isolation_that_is_stricter_does_no_harm(postgres_url: str) -> None:
    store = Store(settings_for(postgres_url, poll_interval=0.05))
    await make_tables(store)
    async with store.engine.connect() as connection:
        name = (await connection.execute(text("SELECT current_database()"))).scalar()
        await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
        await connection.commit()
    await store.engine.dispose()
    log, taken = Journal(store), Taken()
    await log.subscribe("f", taken, transactional=True, start="now")
    await add(store, 1)
    await log.wait_until(await log.make_tick(), "f")
    assert len(taken.rows) == 1
    await log.close()
    await store.close()
