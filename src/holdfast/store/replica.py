"""An embedded replica: a local copy of a libSQL database, from which units read that ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.errors import ConfigurationError, Unavailable
from holdfast.logs import get_logger
from holdfast.settings import Settings
from holdfast.shared import Coalesced
from holdfast.store import sqlite
from holdfast.store.urls import web_address

log = get_logger("holdfast.store")

_ANSWER = 30.0  # seconds; a primary that is gone is found out in 3, the first copy of a large one takes longer
_FIRST = 600.0


class Replica:
    """The copy at `file` of the database at `url`, and the process that keeps it in step.

    It is caught up every `poll_interval` seconds from the first read on, and before a read of a process that has
    written. While the primary is away, those who have not written go on reading what is there.

    Attributes:
        engine: reads the copy.
    """

    def __init__(self, url: URL, file: Path, settings: Settings) -> None:
        if url.query.get("namespace"):
            raise ConfigurationError(
                "a replica is copied from a host whose first label is the namespace; write it there, not as ?namespace="
            )
        self._url, self._file, self._settings = url, file, settings
        self.engine: AsyncEngine = sqlite.reading_engine(URL.create("sqlite+aiosqlite", database=str(file)), settings)
        self._sync = Coalesced(self._catch_up)
        self._process: asyncio.subprocess.Process | None = None
        self._regularly: asyncio.Task[None] | None = None
        self._written = 0
        self._seen = 0  # how many of our writes the copy has
        self._known = False
        self._closed = False

    def wrote(self) -> None:
        """This process has committed something."""
        self._written += 1

    async def ready(self) -> None:
        """Return when the copy has what this process has written.

        Raises:
            Unavailable: it cannot be caught up, and would be behind this process or is not there.
        """
        if self._known and self._seen == self._written:
            return
        try:
            await self._sync.get()
        except Unavailable:
            if self._written or not self._file.exists():
                raise
        self._known = True
        if self._regularly is None and not self._closed:
            self._regularly = asyncio.create_task(self._forever())

    async def close(self) -> None:
        """Stop catching up. The copy stays, for the next start."""
        self._closed = True
        if self._regularly is not None:
            self._regularly.cancel()
            await asyncio.gather(self._regularly, return_exceptions=True)
        await self.engine.dispose()
        await self._end()

    async def _forever(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(self._settings.poll_interval)
            try:
                await self._sync.get()
                failing = False
            except Unavailable as error:
                if not failing:
                    log.warning("replica_behind", file=str(self._file), reason=str(error))
                failing = True

    async def _catch_up(self) -> None:
        written = self._written
        try:
            async with asyncio.timeout(_ANSWER if self._known else _FIRST):
                problem = await self._ask()
        except (TimeoutError, OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        except BaseException:
            await self._end()  # an answer that nobody waits for must not be taken for the next
            raise
        if problem is None:
            self._seen = written
            return
        await self._end()
        raise Unavailable(f"the replica {self._file} cannot be caught up with its primary: {problem}")

    async def _ask(self) -> str | None:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # its folder has a libsql.py too
                str(Path(__file__).with_name("replication.py")),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us; it ends with its input
            )
            token = self._settings.database_auth_token
            self._tell({"file": str(self._file), "url": web_address(self._url), "token": token})
        self._tell(None)
        assert self._process.stdout is not None
        answer: str | None = json.loads(await self._process.stdout.readline())
        return answer

    def _tell(self, what: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
