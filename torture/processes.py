"""The processes of a run: one runs a module of the tortures, and ends when the run does."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]


async def start(module: str, order: msgspec.Struct, log: Path) -> Process:
    """A process that runs `torture.<module>` and ends when this one does; what it says goes to `log`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with open(log, "ab") as errors:  # noqa: ASYNC230  opened once
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"torture.{module}",
            msgspec.json.encode(order).decode(),
            cwd=ROOT,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
        )


class ProcessFailed(RuntimeError):
    """A process of the run ended by itself; nothing it left can be relied on."""

    def __init__(self, name: str, code: int | None, log: Path) -> None:
        super().__init__(f"{name} ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
