"""A process that has imported everything a command imports, and forks one for each command.

Importing takes longer than most commands do. What a command is given (folder, environment, streams, arguments) and what
it leaves behind (exit code, output) is that of a process of its own, which it is.
"""

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

_LONGEST = 2**20  # bytes of a request
PRELOADED = (
    "holdfast.cli.main",
    "holdfast.hold",
    "holdfast.cli.opening",
    "alembic.operations",
    "asyncpg",
    "aiosqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
)
"""What commands import when they run; no models, which say by being imported that they are wanted."""


class Zygote:
    """The process, started when the first command is run and gone with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""
        self._lock = threading.Lock()

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end.

        Raises:
            subprocess.TimeoutExpired: it was still there after `timeout` seconds, and was killed.
        """
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line,
        ):
            given.write(stdin)
            given.seek(0)
            line.connect(self._reachable(env))
            line.settimeout(timeout)
            asked = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(line, [asked], [given.fileno(), out.fileno(), err.fileno()])
            pid = int(line.recv(64))
            try:
                code = int(line.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())

    def _reachable(self, env: Mapping[str, str]) -> str:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._address = f"\0holdfast-zygote-{os.getpid()}-{os.urandom(4).hex()}"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", "from tests.cli.zygote import serve; serve()", self._address[1:]],
                    stdin=subprocess.PIPE,  # which ends with this process, and then so does that one
                    stdout=subprocess.PIPE,
                    env={"PYTHONPATH": env["PYTHONPATH"], "PATH": env.get("PATH", "")},
                )
                assert self._process.stdout is not None
                assert self._process.stdout.readline() == b"ready\n"
                atexit.register(self.end)
            return self._address

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            self._process.wait()
            self._process = None


def serve() -> None:
    """What the process does, until its standard input ends."""
    for name in PRELOADED:
        __import__(name)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, selectors.DefaultSelector() as waiting:
        listener.bind(f"\0{sys.argv[1]}")
        listener.listen()
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(0, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while True:
            for key, _ in waiting.select():
                if key.fileobj == 0:
                    return
                if key.fileobj is listener:
                    line, _ = listener.accept()
                    pid = _start(line)
                    line.send(str(pid).encode())
                    waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))
                else:
                    pid, line = key.data
                    waiting.unregister(key.fileobj)
                    os.close(key.fd)
                    _, status = os.waitpid(pid, 0)
                    with contextlib.suppress(OSError):  # whoever asked has gone
                        line.send(str(os.waitstatus_to_exitcode(status)).encode())
                    line.close()


def _start(line: socket.socket) -> int:
    """Fork what runs the command that was asked for; returns its id."""
    asked, streams, _, _ = socket.recv_fds(line, _LONGEST, 3)
    pid = os.fork()
    if pid == 0:
        os._exit(_command(json.loads(asked), streams))
    for stream in streams:
        os.close(stream)
    return pid


def _command(asked: dict[str, object], streams: Sequence[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1_024)  # the sockets of the one that forks
    code = 1
    try:
        os.chdir(str(asked["cwd"]))
        os.environ.clear()
        os.environ.update(asked["env"])  # type: ignore[call-overload]
        sys.argv = ["holdfast", *asked["arguments"]]  # type: ignore[misc]
        from holdfast.cli import main

        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001  as an interpreter does
        traceback.print_exc()
    # What an interpreter does when it ends.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = 120  # as Python says it
    return code


ZYGOTE = Zygote()
