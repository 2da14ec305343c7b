"""Running `holdfast` as a user does, and looking into the database behind its back."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from devservers.postgres import in_own_loop
from devservers.process import free_port
from tests.cli.zygote import ZYGOTE

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-c", "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli import main; main()")
OURS = ("HOLDFAST_", "DATABASE_", "REDIS_", "TURSO_", "STRIPE_", "CLERK_")  # variables that the program itself reads
PATIENCE = 60.0  # seconds; a machine that does other things too is slow


def environment(**more: str) -> dict[str, str]:
    """What a user's shell has: no terminal width, no colours asked for, this checkout on the path."""
    mine = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "FORCE_COLOR", "PYTHONWARNINGS")}
    # On a machine that is busy any query may be slow, and the log that says so is not what is tested here.
    mine["HOLDFAST_SLOW_QUERY"] = "600"
    return {**mine, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **more}


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """An empty folder in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        prefix: Sequence[str] = (),
        cwd: Path | None = None,
        **env: str,
    ) -> Outcome:
        """Run to the end. Whatever happens, nobody wants to see a traceback.

        Python itself is started anew only where that is what is asked for: by a program before it, or by a variable
        that an interpreter reads when it starts.
        """
        given, where, asked = list(map(str, arguments)), cwd or self.folder, environment(**env)
        if prefix or not all(name.startswith(OURS) for name in env):
            done = subprocess.run(
                [*prefix, *PROGRAM, *given], input=stdin, capture_output=True, cwd=where, env=asked, timeout=PATIENCE
            )
        else:
            done = ZYGOTE.run(given, cwd=where, env=asked, stdin=stdin, timeout=PATIENCE)
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in outcome.out + outcome.err, outcome.err
        return outcome

    def python(self, script: str, *arguments: str, **env: str) -> Outcome:
        """Run Python where a command would be run."""
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=environment(**env), timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """Start and go on; `finish` ends it."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment(**env),
        )

    def up(self, *arguments: str, port: int | None = None, **env: str) -> "Service":
        """`holdfast up` on a free port; returns when it has said where it is."""
        port = port or free_port()
        return Service(self.start("up", "--port", str(port), *arguments, **env), f"http://127.0.0.1:{port}")


def finish(process: subprocess.Popen[str], number: int = signal.SIGINT) -> Outcome:
    """Signal a process that `start` started, and what it left behind."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still there after {PATIENCE} s:\n{out}\n{err}") from None
    return Outcome(process.returncode, out, err)


class Service:
    """A running `holdfast up`; as a context it is killed at the end if it still runs."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.said: list[str] = []
        assert process.stdout is not None
        while url not in (line := process.stdout.readline()):
            if not line:
                _, err = process.communicate()
                raise AssertionError(f"it did not start ({process.returncode}): {self.said} {err}")
            self.said.append(line.rstrip())

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body; JSON decoded."""
        request = urllib.request.Request(self.url + path)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, kind, body = answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, kind, body = error.code, error.headers["content-type"], error.read()
        return status, json.loads(body) if "json" in kind else body.decode()

    def becomes(self, path: str, wanted: Any, *, seconds: float = PATIENCE) -> tuple[int, Any]:
        """Ask until `wanted(status, body)`; fails when that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            status, body = self.get(path)
            if wanted(status, body):
                return status, body
            assert time.monotonic() < deadline, f"{path} still answers {status} {body}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> Outcome:
        """End it, as Ctrl-C does."""
        return finish(self.process, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Rows, as another program sees them."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(file_of(url), timeout=30, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    async def ask() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return in_own_loop(ask())


def file_of(url: str) -> str:
    """The path in a SQLite URL."""
    return url.removeprefix("sqlite:///")


@contextlib.contextmanager
def reading(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone at the end of the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
