"""The blocking face: the same rules, from synchronous code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast, Query
from holdfast.blocking import BlockingHoldfast, BlockingUnit
from holdfast.errors import ConfigurationError, NotFound, StoreError
from tests.backends import EVERY_BACKEND, settings_for
from tests.blocking.notes import Note, opening

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=EVERY_BACKEND)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def hold(database_url: str) -> Iterator[BlockingHoldfast]:
    with opening(database_url) as hold:
        yield hold


def count(hold: BlockingHoldfast) -> int:
    with hold.read() as unit:
        return unit[Note].count()


def test_everything_a_repository_does_is_there_without_await(hold: BlockingHoldfast) -> None:
    with hold.unit(actor="ada") as unit:
        assert unit.actor == "ada"
        note = unit[Note].add(Note(text="one"))
        assert unit[Note].add_many([{"text": f"n{number:03}"} for number in range(500)]) == 500
    with hold.read() as unit:
        assert unit[Note].get(note.id).text == "one"
        assert unit[Note].find("00000000-0000-7000-8000-000000000000") is None
        page = unit[Note].page(Query(Note).order_by("text"), limit=2, total=True)
        assert ([row.text for row in page.items], page.total) == (["n000", "n001"], 501)
        assert [row.text for row in unit[Note].stream(Query(Note).order_by("text"))][:2] == ["n000", "n001"]
        assert len(list(unit[Note].stream(batch=7))) == 501
        row = next(iter(unit[Note].stream()))  # and the next statement of the unit goes on
        assert unit[Note].exists(Query(Note).where(id=row.id))
        assert unit.execute("SELECT count(*) FROM notes").scalar_one() == 501
    position = hold.journal.make_tick()
    assert hold.journal.status().position == str(position)


def test_errors_come_through_with_their_tracebacks_and_roll_back(hold: BlockingHoldfast) -> None:
    with pytest.raises(NotFound, match="there is no Note") as caught, hold.read() as unit:
        unit[Note].get("00000000-0000-7000-8000-000000000000")
    told = "".join(traceback.format_exception(caught.value))
    assert "test_blocking.py" in told
    assert "repository.py" in told
    with pytest.raises(ZeroDivisionError) as divided, hold.unit() as unit:
        unit.add(Note(text="never"))
        unit.flush()
        with unit.savepoint():
            raise ZeroDivisionError
    assert divided.value.__traceback__ is not None
    with hold.unit() as unit:
        unit.add(Note(text="kept"))
        with pytest.raises(ValueError, match="undo"), unit.savepoint():
            unit[Note].add(Note(text="undone"))
            raise ValueError("undo")
    assert count(hold) == 1
    with pytest.raises(AttributeError):
        hold.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_many_threads_write_at_once(hold: BlockingHoldfast) -> None:
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for n in range(5):
                with hold.unit() as unit:
                    unit[Note].add(Note(text=f"{number} {n}"))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert count(hold) == 40


def test_a_unit_is_refused_in_another_thread_than_its_own(hold: BlockingHoldfast) -> None:
    told: list[str] = []

    def use(*ways: Any) -> None:
        def run() -> None:
            for way in ways:
                try:
                    way()
                except StoreError as error:
                    told.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    with hold.unit() as unit:
        notes, session = unit[Note], unit.session
        notes.add(Note(text="one"))
        use(
            lambda: unit[Note].count(),
            lambda: notes.count(),
            lambda: unit.execute("SELECT 1"),
            lambda: session.flush(),
        )
        assert notes.count() == 1
    hold.run(lambda unit: use(lambda: unit[Note].count()))
    entered = hold.unit()
    entered.__enter__()[Note].add(Note(text="two"))
    use(lambda: entered.__exit__(None, None, None))
    entered.__exit__(ValueError, ValueError("undone"), None)
    assert len(told) == 6
    assert all("a unit belongs to the thread that opened it, and was used in another" in one for one in told)
    assert count(hold) == 1


def test_work_is_called_in_the_callers_thread_and_again_when_it_loses(hold: BlockingHoldfast) -> None:
    threads: list[int] = []
    committed: list[int] = []

    def work(unit: BlockingUnit) -> int:
        threads.append(threading.get_ident())
        unit.after_commit(lambda: committed.append(threading.get_ident()))
        return unit[Note].count() + len(unit[Note].list())

    assert hold.run(work, actor="ada") == 0
    assert threads == committed == [threading.get_ident()]

    def fail(unit: BlockingUnit) -> None:
        unit.add(Note(text="never"))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        hold.run(fail)
    assert count(hold) == 0


def test_a_second_unit_of_a_thread_is_refused_where_it_would_wait_for_ever(tmp_path: Path) -> None:
    with opening(f"sqlite:///{tmp_path}/x.db") as hold, hold.unit() as unit:
        unit.add(Note(text="one"))
        with pytest.raises(StoreError, match="this task has a unit open"), hold.unit():
            pass


def test_counters_are_plain_calls_written_at_the_end(sqlite_url: str) -> None:
    with opening(sqlite_url) as hold:
        with hold.unit() as unit:
            note = unit[Note].add(Note(text="one"))
        for _ in range(1000):
            hold.counters.add(Note, note.id)
    with opening(sqlite_url) as hold, hold.read() as unit:
        assert unit[Note].get(note.id).usage_count == 1000


async def test_inside_a_running_loop_it_says_so(sqlite_url: str) -> None:
    with pytest.raises(StoreError, match="inside a running event loop"):
        opening(sqlite_url)
    hold = await asyncio.to_thread(opening, sqlite_url)
    with pytest.raises(StoreError, match="inside a running event loop"), hold.unit():
        pass
    with pytest.raises(StoreError, match="inside a running event loop"):
        hold.position()
    await asyncio.to_thread(hold.close)
    hold.close()
    with pytest.raises(StoreError, match="is closed"):
        await asyncio.to_thread(hold.position)


def test_what_open_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        Holdfast.blocking("sqlite:///x.db", settings=settings_for("sqlite:///y.db"))
    with pytest.raises(Exception, match="no database"):
        Holdfast.blocking(settings=settings_for(f"sqlite:///{tmp_path}/none.db"), migrate=False)


def test_ctrl_c_ends_a_call_that_waits_and_nothing_is_kept(postgres_url: str) -> None:
    with opening(postgres_url) as hold:
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), hold.unit() as unit:
            unit[Note].add(Note(text="never"))
            timer.start()
            unit.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - began < 10
        timer.join()
        assert count(hold) == 0


FORKED = """
import os, sys
from tests.blocking.notes import Note, opening

hold = opening(sys.argv[1])
with hold.unit() as unit:
    unit[Note].add(Note(text="parent"))
with hold.read() as open_unit:
    open_unit[Note].count()
    children = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            try:
                open_unit[Note].count()
            except Exception as error:
                assert "before the process forked" in str(error), error
            else:
                os._exit(3)
            for n in range(5):
                hold.run(lambda unit: unit[Note].add(Note(text=f"child {number} {n}")))
            hold.close()
            os._exit(0)
        children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
with hold.read() as unit:
    print(unit[Note].count())
hold.close()
"""


def test_a_forked_worker_opens_its_own_and_the_parent_goes_on(database_url: str) -> None:
    assert python(FORKED, database_url) == "16\n"


def python(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_forgets_to_close_still_ends_and_writes_its_counters(sqlite_url: str) -> None:
    script = (
        "import sys\n"
        "from tests.blocking.notes import Note, opening\n"
        "hold = opening(sys.argv[1])\n"
        "with hold.unit() as unit:\n"
        "    note = unit[Note].add(Note(text='one'))\n"
        "hold.counters.add(Note, note.id)\n"
    )
    assert python(script, sqlite_url) == ""
    with opening(sqlite_url) as hold, hold.read() as unit:
        assert [note.usage_count for note in unit[Note].list()] == [1]


def test_threads_that_are_gone_leave_nothing_behind(sqlite_url: str) -> None:
    with opening(sqlite_url) as hold:
        loop: Any = hold._portal._loop  # type: ignore[attr-defined]
        before = len(asyncio.all_tasks(loop))
        for _ in range(20):
            thread = threading.Thread(target=count, args=(hold,))
            thread.start()
            thread.join()
        deadline = time.monotonic() + 10
        while len(asyncio.all_tasks(loop)) > before + 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_types_are_those_of_the_asynchronous_classes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/blocking_stubs.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
