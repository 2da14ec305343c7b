"""`holdfast` as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from holdfast import logs
from holdfast.cli import app

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from holdfast.cli import main; main()"]
COUNTS = {"transactions", "failed", "transfers", "payments", "duplicates", "rejected", "seconds"}


def environment(**more: str) -> dict[str, str]:
    """This process' environment with Holdfast on the path and nothing of it configured."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DATABASE_"))}
    return {**clean, "PYTHONPATH": str(ROOT / "src"), **more}


def run(*arguments: str | Path, cwd: Path, stdin: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """The finished command, its output as bytes."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, env=environment(), timeout=240, check=False, **more
    )


def start(*arguments: str | Path, cwd: Path, **more: Any) -> subprocess.Popen[bytes]:
    """The command, running."""
    return subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(), **more)


def invoke(*arguments: str | Path, folder: Path, stdin: bytes = b"", expect: int = 0) -> str:
    """The output of the command, run in this process, on the database of `folder`; far quicker than a process."""
    database = f"sqlite:///{folder / 'holdfast.db'}"
    try:
        done = CliRunner().invoke(app, [*map(str, arguments), "--database", database], input=stdin)
    finally:
        logs.hide()  # the command logs to its own standard error, which is closed by now
    assert done.exit_code == expect, (done.exception, done.output)
    return done.stdout


def index(*paths: str | Path, folder: Path, stdin: bytes = b"", expect: int = 0) -> dict[str, Any]:
    """`holdfast index solana … --json`: what it counted."""
    output = invoke("index", "solana", *paths, "--json", folder=folder, stdin=stdin, expect=expect)
    counts: dict[str, Any] = msgspec.json.decode(output)
    assert counts.keys() == COUNTS
    return counts


def transfers(*options: str, folder: Path) -> list[dict[str, Any]]:
    """`holdfast query transfers … --json`."""
    lines = invoke("query", "transfers", *options, "--json", folder=folder).splitlines()
    return [msgspec.json.decode(line) for line in lines]
