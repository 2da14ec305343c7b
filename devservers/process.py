"""Starting and ending a server through its guardian."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from devservers.errors import ServerError

NOBODY = 65534
START_SECONDS = 60


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def temporary_folder(name: str, owner: int | None = None) -> Path:
    """A new folder under the system's temporary folder, owned by `owner` if given."""
    folder = Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
    if owner is not None:
        os.chown(folder, owner, owner)
    return folder


class Server:
    """A running server process. Ends with `stop()`, with the block, or with this process."""

    def __init__(
        self, name: str, command: list[str], *, folder: Path, port: int, stop: str = "TERM", uid: int | None = None
    ) -> None:
        self.name = name
        self.host = "127.0.0.1"
        self.port = port
        self.folder = folder
        self.log = folder / "server.log"
        guardian = [sys.executable, "-S", str(Path(__file__).with_name("guardian.py"))]
        guardian += ["--remove", str(folder), "--log", str(self.log), "--stop", stop]
        guardian += ["--uid", str(uid)] if uid is not None else []
        self._guardian = subprocess.Popen(
            [*guardian, "--", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._guardian.stdout is not None
        line = self._guardian.stdout.readline()
        if not line:
            self.stop()
            raise ServerError(f"{name} did not start: {command[0]} could not be run")
        self.pid = int(line)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return when `ready()` holds; raise `ServerError` with the log's end if the server ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not self.alive() or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"
                self.stop()
                raise ServerError(f"{self.name} did not start on port {self.port}:\n{tail}")
            time.sleep(0.02)

    def alive(self) -> bool:
        """Whether the server process still runs."""
        if self._guardian.poll() is not None:
            return False
        try:
            with open(f"/proc/{self.pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):  # the latter where it ends while it is read
            if not Path("/proc/self").exists():
                return _signals(self.pid)
            return False

    def stop(self) -> None:
        """End the server and remove its folder. Safe to call twice."""
        if self._guardian.stdin is not None and not self._guardian.stdin.closed:
            self._guardian.stdin.close()
        self._guardian.wait()
        if self._guardian.stdout is not None:
            self._guardian.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
