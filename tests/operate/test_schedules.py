"""Schedules: run once a turn, by one instance, recorded however they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast, Run, scheduled
from holdfast.apps.accounts import User
from holdfast.errors import ConfigurationError, NotFound
from holdfast.operate import Schedule, Schedules, registered
from tests.backends import settings_for
from tests.operate.conftest import Base, Done, make_due, opening

DAILY = "0 2 * * *"


async def nothing(hold: Any, run: Run) -> None:
    """Works."""


async def start(hold: Holdfast) -> None:
    """Register what is declared; nothing is due yet."""
    await hold.worker().once()


async def done(hold: Holdfast) -> list[str]:
    async with hold.read() as unit:
        return sorted(row.what for row in await unit[Done].list())


async def test_a_turn_is_run_once_and_recorded(hold: Holdfast) -> None:
    seen: list[Run] = []

    async def work(given: Any, run: Run) -> None:
        assert given is hold
        seen.append(run)
        async with run.unit() as unit:
            assert unit.actor == "schedule:nightly"
            unit.add(Done(what="nightly"))

    hold.schedule("nightly", work, cron=DAILY)
    await start(hold)
    assert seen == []
    await make_due(hold, "nightly", ago=3 * 86_400)
    ended = []
    await hold.worker(ended=ended.append).once()
    await hold.worker().once()
    assert [run.planned.hour for run in seen] == [2]
    assert await done(hold) == ["nightly"]
    [state] = await hold.schedules.states()
    assert (state.last_state, state.failures, state.run_by, state.last_error) == ("done", 0, None, None)
    assert state.next_at > await hold.schedules.now()
    assert ended == await hold.schedules.history("nightly")
    assert ended[0].instance.split(":")[1] == str(os.getpid())
    assert 0 <= ended[0].ended - ended[0].began < 60_000


def is_late(now: int) -> bool:
    """Whether the turn of the last full hour was missed, `now` in milliseconds: a minute is allowed."""
    return now % 3_600_000 > 60_000


async def test_missed_turns_are_caught_up_as_declared(hold: Holdfast) -> None:
    planned: dict[str, list[int]] = {"once": [], "all": [], "skip": []}

    for kind, runs in planned.items():

        async def work(hold: Any, run: Run, runs: list[int] = runs) -> None:
            runs.append(round(run.planned.timestamp()))

        hold.schedule(kind, work, every=3600, catch_up=kind)
    await start(hold)
    while True:
        before = await hold.schedules.now()
        hour, late = before // 3_600_000 * 3600, is_late(before)
        for kind, runs in planned.items():
            runs.clear()
            async with hold.unit() as unit:
                await unit.execute(
                    "UPDATE holdfast_schedules SET next_at = :at WHERE name = :name",
                    {"name": kind, "at": (hour - 3 * 3600) * 1000},
                )
        await hold.worker().once()
        after = await hold.schedules.now()
        if after // 3_600_000 * 3600 == hour and is_late(after) == late:
            break  # else a minute or an hour ended meanwhile, and either outcome is right
    hours = [hour - n * 3600 for n in (3, 2, 1, 0)]
    assert planned == {"once": [hour], "all": hours, "skip": [] if late else [hour]}
    assert {state.late for state in await hold.schedules.states()} == {0}
    assert (await hold.schedules.history("skip"))[0].state == ("skipped" if late else "done")


async def test_a_failure_is_recorded_without_secrets_waits_and_gives_way_after_its_attempts(hold: Holdfast) -> None:
    attempts: list[int] = []

    async def work(hold: Any, run: Run) -> None:
        attempts.append(run.attempt)
        raise ValueError("password=hunter2")

    hold.schedule("bad", work, cron=DAILY, attempts=3)
    hold.schedule("good", nothing, cron=DAILY)
    await start(hold)
    for name in ("bad", "good"):
        await make_due(hold, name)
    await hold.worker().once()  # and it does not try again at once
    assert attempts == [1]
    bad, good = await hold.schedules.states()
    assert (bad.last_state, bad.failures, good.last_state) == ("failed", 1, "done")
    assert 8_000 < bad.next_at - await hold.schedules.now() <= 10_000
    assert bad.last_error.startswith("ValueError in work, test_schedules.py:")
    finding = next(f for f in (await hold.examiner().examine()).findings if f.check == "schedules")
    assert (finding.state, "bad failed" in finding.detail) == ("wrong", True)
    for _ in range(2):
        async with hold.unit() as unit:
            await unit.execute("UPDATE holdfast_schedules SET not_before = 0 WHERE name = 'bad'")
        await hold.worker().once()
    assert attempts == [1, 2, 3]
    bad = (await hold.schedules.states())[0]
    assert bad.failures == 0
    assert bad.next_at > await hold.schedules.now() + 20_000
    assert "hunter2" not in str(await hold.schedules.history("bad"))


async def test_a_run_that_takes_too_long_is_ended(hold: Holdfast) -> None:
    async def work(hold: Any, run: Run) -> None:
        await asyncio.sleep(60)

    hold.schedule("slow", work, every=3600, timeout=0.1)
    run = await hold.run_schedule("slow")
    assert (run.state, run.error, run.by_hand) == ("failed", "took longer than its 0.1 s", True)


async def test_two_workers_never_run_a_turn_twice(database_url: str) -> None:
    running: dict[str, int] = {}
    ran: list[tuple[str, float]] = []

    async def work(hold: Any, run: Run) -> None:
        running[run.name] = running.get(run.name, 0) + 1
        assert running[run.name] == 1
        await asyncio.sleep(0.005)
        running[run.name] -= 1
        ran.append((run.name, run.planned.timestamp()))

    async with await opening(database_url) as one, await opening(database_url) as two:
        for hold in (one, two):
            for number in range(3):
                hold.schedule(f"s{number}", work, every=60, catch_up="all")
        await start(one)
        for number in range(3):
            await make_due(one, f"s{number}", ago=500)
        await asyncio.gather(one.worker().once(), two.worker().once(), one.worker().once())
        assert len(ran) == len(set(ran)) >= 3 * 9
        histories = [await one.schedules.history(f"s{number}") for number in range(3)]
    assert {run.state for runs in histories for run in runs} == {"done"}
    # The work that asserts has failed nowhere, so no two ran at a time.


async def test_who_lost_the_lease_records_no_success_and_keeps_no_unit(hold: Holdfast) -> None:
    taken_over = asyncio.Event()

    async def work(given: Any, run: Run) -> None:
        async with run.unit() as unit:
            unit.add(Done(what="kept before"))
        async with hold.unit() as unit:  # frozen past its lease, and another one came
            await unit.execute("UPDATE holdfast_schedules SET token = token + 1, until = until + 60000")
        taken_over.set()
        async with run.unit() as unit:
            unit.add(Done(what="written too late"))

    hold.schedule("nightly", work, cron=DAILY)
    await start(hold)
    await make_due(hold, "nightly")
    await hold.worker().once()
    assert taken_over.is_set()
    assert await done(hold) == ["kept before"]
    [state] = await hold.schedules.states()
    assert state.last_state is None
    [run] = await hold.schedules.history("nightly")
    assert (run.state, run.error) == ("abandoned", "another instance had taken the schedule by then")


async def test_work_whose_lease_is_lost_is_cancelled(hold: Holdfast) -> None:
    cancelled = asyncio.Event()

    async def work(given: Any, run: Run) -> None:
        async with hold.unit() as unit:
            await unit.execute("UPDATE holdfast_schedules SET token = token + 1")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    hold.schedules.ttl = 0.3
    hold.schedule("long", work, cron=DAILY)
    await start(hold)
    await make_due(hold, "long")
    async with asyncio.timeout(20):
        await hold.worker().once()
    assert cancelled.is_set()


async def test_a_worker_that_is_stopped_leaves_the_turn_to_the_next(hold: Holdfast) -> None:
    began = asyncio.Event()

    async def work(given: Any, run: Run) -> None:
        if not began.is_set():
            began.set()
            await asyncio.sleep(60)

    hold.schedule("long", work, cron=DAILY)
    await start(hold)
    await make_due(hold, "long")
    working = asyncio.create_task(hold.worker().run(drain=0.05))
    await began.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    [run] = await hold.schedules.history("long")
    assert (run.state, run.error) == ("cancelled", "the worker was stopped")
    await hold.worker().once()
    assert [run.state for run in await hold.schedules.history("long")] == ["done", "cancelled"]
    assert (await hold.schedules.states())[0].failures == 0


async def test_paused_ones_wait_and_resumed_ones_do_not_catch_up(hold: Holdfast) -> None:
    ran: list[str] = []

    async def work(given: Any, run: Run) -> None:
        ran.append(run.name)

    hold.schedule("hourly", work, every=3600, catch_up="all")
    await start(hold)
    await make_due(hold, "hourly", ago=10_000)
    await hold.schedules.pause("hourly")
    await hold.worker().once()
    assert ran == []
    assert (await hold.run_schedule("hourly")).state == "done"  # by hand it runs
    await hold.schedules.resume("hourly")
    await hold.worker().once()
    assert ran == ["hourly"]
    for verb in (hold.schedules.pause, hold.schedules.resume, hold.schedules.forget, hold.schedules.history):
        with pytest.raises(NotFound, match="there is no schedule 'none'"):
            await verb("none")
    with pytest.raises(NotFound, match="known: hourly"):
        await hold.run_schedule("none")
    await hold.schedules.forget("hourly")
    assert await hold.schedules.states() == []


async def test_another_rhythm_counts_from_now(database_url: str) -> None:
    async with await opening(database_url) as hold:
        hold.schedule("s", nothing, every=86_400)
        await start(hold)
        before = (await hold.schedules.states())[0]
    async with await opening(database_url) as hold:
        hold.schedule("s", nothing, every=60)
        await start(hold)
        [after] = await hold.schedules.states()
        assert (before.rhythm, after.rhythm) == ("every 86400 s", "every 60 s")
        assert 0 < after.next_at - await hold.schedules.now() <= 60_000


async def test_a_database_that_is_emptied_gets_its_schedules_again(hold: Holdfast) -> None:
    hold.schedule("s", nothing, cron=DAILY)
    working = asyncio.create_task(hold.worker().run())
    for _ in range(2):
        async with asyncio.timeout(20):
            while not await hold.schedules.states():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await hold.schedules.forget("s")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_the_history_is_bounded(hold: Holdfast) -> None:
    hold.schedule("s", nothing, cron=DAILY)
    await hold.run_schedule("s")
    async with hold.unit() as unit:
        await unit.execute("UPDATE holdfast_schedules SET token = 150")
    await hold.run_schedule("s")
    assert len(await hold.schedules.history("s")) == 1


async def test_the_process_own_clock_has_no_say(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    async def work(given: Any, run: Run) -> None:
        ran.append(run.planned.year)

    hold.schedule("s", work, cron=DAILY)
    await start(hold)
    await make_due(hold, "s")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    await hold.worker().once()
    assert ran[0] > 2020


def test_declarations_that_cannot_be_are_refused() -> None:
    def plain(hold: Any, run: Run) -> None: ...

    known = len(registered)
    for wrong, told in (
        (lambda: scheduled(DAILY)(plain), "async def"),
        (lambda: scheduled(DAILY, name="")(nothing), "no name"),
        (lambda: scheduled(DAILY, catch_up="never")(nothing), "catch_up"),
        (lambda: scheduled(DAILY, timeout=0)(nothing), "timeout"),
        (lambda: scheduled(DAILY, attempts=0)(nothing), "attempts"),
        (lambda: scheduled()(nothing), "not both"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            wrong()
    assert len(registered) == known
    mine = Schedules()

    async def other(hold: Any, run: Run) -> None: ...

    from holdfast.operate import Schedule

    mine.add(Schedule.checked("one", nothing, cron=DAILY))
    mine.add(Schedule.checked("one", nothing, cron=DAILY))  # its module is imported anew
    with pytest.raises(ConfigurationError, match="there is a schedule 'one' already"):
        mine.add(Schedule.checked("one", other, cron=DAILY))


CHILD = """
import asyncio, sys
from tests.operate.conftest import opening

async def work(hold, run):
    print("began", run.attempt, flush=True)
    await asyncio.sleep(600)

async def main(url):
    async with await opening(url) as hold:
        hold.schedules.ttl = 1.0
        hold.schedule("nightly", work, cron="0 2 * * *")
        await hold.worker().run()

asyncio.run(main(sys.argv[1]))
"""


def spawned(url: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    return subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True, env=environment)


async def test_a_killed_worker_is_followed_by_another_after_its_lease(database_url: str) -> None:
    async with await opening(database_url) as hold:
        hold.schedules.ttl = 1.0
        again = asyncio.Event()

        async def work(given: Any, run: Run) -> None:
            again.set()

        hold.schedule("nightly", work, cron=DAILY)
        await start(hold)
        await make_due(hold, "nightly")
        child = spawned(database_url)
        try:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == "began 1\n"
            await hold.worker().once()
            assert not again.is_set()  # the other one has it
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            child.communicate()
        working = asyncio.create_task(hold.worker().run())
        async with asyncio.timeout(20):
            await again.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        # Stopped as soon as the work had begun, at whatever it was doing then.
        states = [run.state for run in await hold.schedules.history("nightly")]
    assert states[0] in ("done", "cancelled")
    assert states[1] == "abandoned"


def test_what_is_about_models_is_done_where_they_are_kept() -> None:
    hold = Holdfast(settings_for("sqlite:///unused.db"), metadata=Base.metadata)

    async def work(hold: Any, run: Run) -> None: ...

    for name, models in (("theirs", (User,)), ("both", (Done, User)), ("ours", (Done,)), ("anybody's", ())):
        registered.add(Schedule.checked(name, work, every=60, models=models))
    try:
        names = {schedule.name for schedule in hold._runner(None)._schedules}
    finally:
        for name in ("theirs", "both", "ours", "anybody's"):
            registered._known.pop(name)
    assert names >= {"ours", "anybody's"}
    assert not names & {"theirs", "both", "accounts.retention"}
