"""A PostgreSQL that may crash and come back with its data."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from devservers import PostgresServer, start_postgres
from devservers.process import NOBODY


class Mortal:
    """A server of its own; `crash` ends it without a goodbye, `come_back` starts it on the same port and data."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._process = psutil.Process(server.pid)
        self._command = self._process.cmdline()
        self._again: subprocess.Popen[bytes] | None = None

    def crash(self) -> None:
        """End it as a crash does: clients are cut off, nothing is tidied up."""
        if self._again is not None:
            self._again.send_signal(signal.SIGQUIT)
            self._again.wait(30)
            self._again = None
            return
        self._process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(psutil.NoSuchProcess):
            while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
                with contextlib.suppress(psutil.TimeoutExpired):
                    self._process.wait(0.1)

    def come_back(self) -> None:
        """Start it again; it recovers by itself."""
        uid = NOBODY if psutil.Process().uids().real == 0 else None
        with open(self.server.log, "ab") as log:
            self._again = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(self.server.folder),
                user=uid,
                group=uid,
                extra_groups=[] if uid is not None else None,
            )


@contextlib.contextmanager
def mortal_postgres() -> Iterator[Mortal]:
    """A server that is gone after the block."""
    with start_postgres() as server:
        mortal = Mortal(server)
        try:
            yield mortal
        finally:
            if mortal._again is not None:
                mortal.crash()
