"""What other processes do in the tests: `python -m tests.store.child WHAT URL [ARGUMENT…]`; prints JSON.

A process that is told to becomes nobody (user 65534) first, when it is root: the modes of files do not bind root.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from holdfast.errors import HoldfastError
from holdfast.model import uuid7
from holdfast.store import Store
from tests.backends import settings_for
from tests.store.opening import opened
from tests.store.shop import Base, Maker

NOBODY = 65534


async def write(url: str, name: str, units: str) -> dict[str, Any]:
    """Open a store on what may be a new file, wait for a line, then write that many units of two rows."""
    errors: list[str] = []
    async with opened(url, Base.metadata) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(int(units)):
            try:
                async with store.unit(actor=name) as unit:
                    count = await unit[Maker].count()
                    await unit[Maker].add(Maker(name=f"{name} {number} a"))
                    await unit[Maker].add_many([{"name": f"{name} {number} b"}])
                    assert await unit[Maker].count() == count + 2
            except (HoldfastError, SQLAlchemyError) as error:
                errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors}


async def open_and_write(url: str, user: str = "nobody") -> dict[str, Any]:
    """As nobody, or as whoever runs the tests: start, read and write; the error of each, or null."""
    # What is imported when first used must be there before the files of this user are out of reach.
    async with opened("sqlite://", Base.metadata) as memory, memory.unit() as unit:
        await unit[Maker].add(Maker(name="m"))
    if user == "nobody":
        _become_nobody()
    store = Store(settings_for(url, start_timeout=1))
    if user != "nobody":
        async with store.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def reading() -> None:
        async with store.read() as unit:
            await unit[Maker].list()

    async def writing() -> None:
        async with store.unit() as unit:
            await unit[Maker].add(Maker(name=f"{user} {uuid7()}"))

    told = {"start": await _error_of(store.start), "read": await _error_of(reading), "write": await _error_of(writing)}
    await store.close()
    return told


async def _error_of(work: Callable[[], Awaitable[None]]) -> Any:
    try:
        await work()
    except HoldfastError as error:
        return [type(error).__name__, str(error)]
    return None


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def spawn(*arguments: str) -> "subprocess.Popen[str]":
    """Start this module with `arguments`; its standard input and output are pipes."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.child", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), path]))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str) -> Any:
    """What the process printed, read."""
    with spawn(*arguments) as process:
        printed, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    return json.loads(printed.splitlines()[-1])


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    print(json.dumps(asyncio.run({"write": write, "open": open_and_write}[what](*given))))
