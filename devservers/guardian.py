"""Runs one server and ends it when its owner is gone.

Started as `python guardian.py OPTIONS -- COMMAND…` with its standard input on a pipe that the owner
holds open. When the pipe closes (the owner stopped us, exited, or was killed with -9) the server gets
its stop signal, then SIGKILL, and the temporary folder is removed. It stands alone: only the standard
library, so that it starts in milliseconds.
"""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys

PATIENCE_SECONDS = 15


def main() -> int:
    """Run until the owner is gone or the server ends; return the server's exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--remove", required=True, help="folder to remove at the end")
    parser.add_argument("--log", required=True, help="file for what the server prints")
    parser.add_argument("--stop", default="TERM", help="signal that ends the server")
    parser.add_argument("--uid", type=int, help="user (and group) to run the server as")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: os._exit(_end(server, options)))
    with open(options.log, "ab") as log:
        server = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=options.uid,
            group=options.uid,
            extra_groups=[] if options.uid is not None else None,
            cwd=options.remove,
        )
    print(server.pid, flush=True)
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    else:
        # The server ended by itself: the owner reads the log before it lets go of the pipe.
        sys.stdin.read()
    return _end(server, options)


def _end(server: "subprocess.Popen[bytes]", options: argparse.Namespace) -> int:
    if server.poll() is None:
        server.send_signal(getattr(signal, f"SIG{options.stop}"))
        try:
            server.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    shutil.rmtree(options.remove, ignore_errors=True)
    return server.returncode


if __name__ == "__main__":
    sys.exit(main())
