"""Runs that are killed, starved or doubled: what was committed stays, and running again ends where one run would."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sqlite3
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy import select

from devservers import PostgresServer
from holdfast import Holdfast
from holdfast.apps import agents
from holdfast.apps.agents import sample
from holdfast.apps.agents.models import Agent, TokenTransfer, X402Payment, X402Transaction
from holdfast.rollup.refresh import dirty
from tests.index.commands import run, start

NUMBER = 2_500  # transactions: some batches
MODELS = (TokenTransfer, X402Transaction, X402Payment, Agent)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first transactions of the sample as JSON lines, and beside it what recognises their payments."""
    folder = tmp_path_factory.mktemp("ledger")
    (folder / "ledger.jsonl").write_bytes(b"".join(line.rstrip() + b"\n" for line in islice(sample.ledger(), NUMBER)))
    (folder / "knowing.json").write_bytes(msgspec.json.encode(sample.recognition()))
    return folder / "ledger.jsonl"


def command(ledger: Path, url: str) -> list[str | Path]:
    knowing = ledger.with_name("knowing.json")
    return ["index", "solana", ledger, "--all", "--recognition", knowing, "--database", url, "--json"]


async def state(url: str) -> dict[str, list[Any]]:
    """All rows that indexing makes, without the ids and times that every run makes anew."""
    found = {}
    async with await Holdfast.open(url, metadata=agents.metadata) as hold, hold.read() as unit:
        for model in MODELS:
            columns = [c for c in model.__table__.columns if c.name not in ("id", "created_at", "updated_at")]
            found[model.__tablename__] = sorted(map(repr, await unit.execute(select(*columns))))
    return found


@pytest.fixture(scope="module")
def expected(ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The state after one run that nothing disturbed."""
    url = f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'holdfast.db'}"
    done = run(*command(ledger, url), cwd=ledger.parent)
    assert done.returncode == 0, done.stderr.decode()
    assert msgspec.json.decode(done.stdout)["transactions"] == NUMBER
    return asyncio.run(state(url))


def indexed(file: Path) -> int:
    """How many transfers are committed in a SQLite file that somebody else may be writing."""
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM token_transfers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_run_that_is_killed_is_completed_by_the_next(
    ledger: Path, expected: dict[str, list[Any]], tmp_path: Path
) -> None:
    file = tmp_path / "holdfast.db"
    url = f"sqlite:///{file}"
    fed = ledger.read_bytes().splitlines(keepends=True)
    # It gets its input through a pipe, so that it is surely in the middle when it is killed.
    knowing = ledger.with_name("knowing.json")
    arguments = ["index", "solana", "-", "--all", "--recognition", knowing, "--database", url]
    process = start(*arguments, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(b"".join(fed[: NUMBER - 100]))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while indexed(file) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    before = indexed(file)
    assert 0 < before < len(expected["token_transfers"])
    done = run(*command(ledger, url), cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    counts = msgspec.json.decode(done.stdout)
    assert (counts["transactions"], counts["duplicates"]) == (NUMBER, before)
    assert asyncio.run(state(url)) == expected


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_two_runs_over_the_same_file_at_once_end_as_one(
    ledger: Path, expected: dict[str, list[Any]], backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(f"{backend}_url")
    both = [start(*command(ledger, url), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    counts = [msgspec.json.decode(out) for out, _ in outputs]
    assert [c["transactions"] for c in counts] == [NUMBER, NUMBER]
    assert sum(c["duplicates"] for c in counts) == len(expected["token_transfers"])
    assert asyncio.run(state(url)) == expected


def test_a_database_that_goes_away_is_told_and_the_next_run_completes(
    ledger: Path, expected: dict[str, list[Any]], tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    knowing = ledger.with_name("knowing.json")
    arguments = ["index", "solana", "-", "--all", "--recognition", knowing, "--database", postgres_url]
    process = start(*arguments, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    fed = ledger.read_bytes().splitlines(keepends=True)
    process.stdin.write(b"".join(fed[: NUMBER - 100]))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while (before := asyncio.run(rows_there(postgres_url))) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    postgres_server.execute(
        f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false',
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    _, told = process.communicate(b"".join(fed[NUMBER - 100 :]), timeout=100)
    postgres_server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    assert process.returncode == 1, told.decode()
    assert name in told.decode()
    assert "run the same again" in told.decode()
    assert "Traceback" not in told.decode()
    done = run(*command(ledger, postgres_url), cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert msgspec.json.decode(done.stdout)["duplicates"] >= before > 0
    assert asyncio.run(state(postgres_url)) == expected


async def rows_there(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('token_transfers')") is None:
            return 0
        return int(await connection.fetchval("SELECT count(*) FROM token_transfers"))
    finally:
        await connection.close()


def test_a_full_disk_is_told_and_with_more_space_the_next_run_completes(
    ledger: Path, expected: dict[str, list[Any]], tmp_path: Path
) -> None:
    """No file may grow beyond what is there after a part of the run, which the system says as a full disk does."""
    url = f"sqlite:///{tmp_path / 'holdfast.db'}"

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    done = run(*command(ledger, url), cwd=tmp_path, preexec_fn=small)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "no space left" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    done = run(*command(ledger, url), cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert asyncio.run(state(url)) == expected


def test_a_file_that_may_not_be_written_is_told(ledger: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    url = f"sqlite:///{folder / 'holdfast.db'}"
    assert run("migrate", "up", "--database", url, cwd=tmp_path).returncode == 0
    (folder / "holdfast.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        done = run(*command(ledger, url), cwd=tmp_path, preexec_fn=without_privileges)
    finally:
        folder.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, b"")
    told = done.stderr.decode()
    assert "may this user write there" in told or "read-only" in told
    assert "Traceback" not in told


def without_privileges() -> None:
    """Have file modes hold for root too, in the program that is run."""
    drop_from_bounding_set, override_modes = 24, (1, 2, 3)  # linux/prctl.h, linux/capability.h
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for capability in override_modes:
            if prctl(drop_from_bounding_set, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), f"capability {capability} cannot be dropped")


def test_a_postgresql_that_only_reads_is_told(
    ledger: Path, tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only TO on')
    done = run(*command(ledger, postgres_url), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "read-only" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_figures_are_right_after_all_that(ledger: Path, tmp_path: Path) -> None:
    """Rows that a process without followers wrote are added up by the first that follows."""
    url = f"sqlite:///{tmp_path / 'holdfast.db'}"
    assert run(*command(ledger, url), cwd=tmp_path).returncode == 0

    async def volumes() -> tuple[int, int]:
        async with await Holdfast.open(url, metadata=agents.metadata) as hold:
            await hold.rollups.rebuild()
            async with hold.read() as unit:
                assert (await unit.execute(select(dirty))).first() is None
                payments = await unit[X402Payment].list()
                daily = (await unit.execute("SELECT volume FROM x402_payments_daily")).scalars()
                return sum(int(v) for v in daily), sum(p.amount for p in payments if p.status == "settled")

    added, plain = asyncio.run(volumes())
    assert added == plain > 0
