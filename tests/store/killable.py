"""A PostgreSQL that a test kills and starts again on the same data and port."""

import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from devservers import PostgresServer, start_postgres
from devservers.errors import ServerError
from devservers.process import Server, temporary_folder


class KillablePostgres:
    """A server of the test's own; `url` stays the same over its lives."""

    def __init__(self) -> None:
        self.first: PostgresServer = start_postgres()
        self._now: Server = self.first
        # What the kernel has of the running server, so that the next one is started in the same way.
        process = Path(f"/proc/{self.first.pid}")
        self._uid = process.stat().st_uid
        self._command = [part.decode() for part in (process / "cmdline").read_bytes().split(b"\0") if part]
        self._command[0] = os.readlink(process / "exe")
        self.data = self.first.folder / "data"
        self.database = self.first.create_database()

    @property
    def url(self) -> str:
        return self.first.database_url(self.database)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server at once: SIGKILL, or SIGQUIT for its immediate shutdown. Returns when it is gone."""
        os.kill(self._now.pid, how)
        deadline = time.monotonic() + 20
        while self._now.alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if self._now is not self.first:  # whose folder has the data
            self._now.stop()

    def start(self) -> None:
        """Start it again; it recovers what was committed."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._now = self._started()
                return
            except ServerError:  # the processes of the killed one are still on their way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _started(self) -> Server:
        mine = os.geteuid()
        uid = self._uid if mine == 0 else None
        folder = temporary_folder("postgres-again", uid)
        server = Server("PostgreSQL", self._command, folder=folder, port=self.first.port, stop="INT", uid=uid)
        server.wait_until(lambda: _is_ready(self.data / "postmaster.pid", server.pid))
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._now.stop()
        self.first.stop()


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
