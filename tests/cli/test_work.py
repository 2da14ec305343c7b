"""`holdfast work`: a worker, and looking after schedules."""

import signal
import time

from tests.cli.command import Shell, fetch, finish, reading

SCHEDULES = """
from holdfast import Holdfast, Run, scheduled

@scheduled("0 2 * * *")
async def nightly(hold: Holdfast, run: Run) -> None:
    pass

@scheduled(every=3600, name="broken")
async def _broken(hold: Holdfast, run: Run) -> None:
    raise RuntimeError("token=hidden")
"""
HANDLERS = """
from pathlib import Path
from holdfast import Event, Holdfast, Run, on, scheduled

class BellRang(Event, topic="bell_rang"):
    times: int

@scheduled("* * * * * *")
async def ring(hold: Holdfast, run: Run) -> None:
    async with run.unit() as unit:
        await unit.emit(BellRang(times=3))

@on(BellRang)
async def hear(event: BellRang, hold: Holdfast) -> None:
    Path("heard").write_text(f"{event.times} {hold.store.dialect}")
"""
DUE = "UPDATE holdfast_schedules SET next_at = 0, not_before = 0 RETURNING 1"


def test_schedules_of_a_module_are_run_listed_and_looked_after(shell: Shell, database_url: str) -> None:
    (shell.folder / "jobs.py").write_text(SCHEDULES)
    env = {"HOLDFAST_MODELS": "jobs", "HOLDFAST_DATABASE_URL": database_url}
    before = shell.run("work", **env)
    assert (before.code, "migrate up" in before.err) == (1, True)
    assert shell.run("migrate", "up", **env).code == 0
    assert "No schedules yet" in shell.run("work", "list", **env).out
    first = shell.run("work", "--once", **env)
    assert (first.code, first.out, first.err) == (0, "", "")
    fetch(database_url, DUE)
    done = shell.run("work", "--once", "--json", **env)
    assert done.code == 3
    assert {line["name"]: line["state"] for line in done.lines} == {"nightly": "done", "broken": "failed"}
    assert "hidden" not in done.out + done.err
    listed = shell.run("work", "list", **env)
    assert "every 3600 s" in listed.out
    assert "broken failed: RuntimeError in _broken, jobs.py:10" in listed.out
    assert [line["last_state"] for line in shell.run("work", "list", "--json", **env).lines] == ["failed", "done"]
    told = shell.run("doctor", **env)
    assert told.code == 1
    assert "holdfast work history NAME" in told.out
    assert shell.run("work", "pause", "broken", **env).code == 0
    assert shell.run("doctor", **env).code == 0
    assert shell.run("work", "run", "broken", **env).code == 1
    assert "nightly done after" in shell.run("work", "run", "nightly", **env).out
    assert len(shell.run("work", "history", "nightly", "--json", **env).lines) == 2
    assert shell.run("work", "resume", "broken", **env).code == 0
    for command in ("run", "pause", "resume", "history", "forget"):
        wrong = shell.run("work", command, "none", **env)
        assert (wrong.code, wrong.out) == (1, "")
        assert "'none'" in wrong.err
    assert shell.run("work", "--once", "list", **env).code == 2
    assert shell.run("work", "forget", "broken", **env).code == 0


def test_a_worker_runs_what_comes_due_until_it_is_told_to_end(shell: Shell) -> None:
    (shell.folder / "jobs.py").write_text(SCHEDULES.replace('"0 2 * * *"', '"* * * * * *"'))
    env = {"HOLDFAST_MODELS": "jobs"}
    assert shell.run("migrate", "up", **env).code == 0
    with reading(shell.start("work", "--json", **env)) as process:
        assert process.stdout is not None
        assert '"state":"done"' in process.stdout.readline()
        ended = finish(process, signal.SIGTERM)
    assert (ended.code, ended.err) == (0, "")
    with shell.up("--no-sample", "--work", **env) as service:
        before = len(shell.run("work", "history", "nightly", "--json", **env).lines)
        assert service.get("/health")[0] == 200
        service.stop()
    assert len(shell.run("work", "history", "nightly", "--json", **env).lines) >= before


def test_a_worker_runs_the_handlers_of_its_modules(shell: Shell) -> None:
    (shell.folder / "jobs.py").write_text(HANDLERS)
    env = {"HOLDFAST_MODELS": "jobs"}
    assert shell.run("migrate", "up", **env).code == 0
    heard = shell.folder / "heard"
    with reading(shell.start("work", "--json", **env)) as process:
        until = time.monotonic() + 60
        while not (heard.exists() and heard.read_text()):
            assert time.monotonic() < until
            time.sleep(0.05)
        [follower] = shell.run("journal", "status", "--json", **env).json["followers"]
        assert (follower["name"], follower["state"], follower["parked"]) == ("on:hear", "following", 0)
        assert follower["handled"] >= 1
        ended = finish(process, signal.SIGTERM)
    assert (ended.code, ended.err) == (0, "")
    assert heard.read_text() == "3 sqlite"
    (shell.folder / "only.py").write_text(HANDLERS.replace("@scheduled", "#"))
    assert shell.run("work", "list", HOLDFAST_MODELS="only").code == 0  # handlers alone are enough of a module
