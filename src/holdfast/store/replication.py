"""Keeps a local copy of a libSQL database in step with it: a process of its own, `python replication.py`.

The package that copies holds the interpreter while it waits for the primary (3 s for one that is gone), so it must not
live in the process that serves. It stands alone: only the standard library and `libsql`, so that it starts quickly.

Its standard input gives one JSON object (`file`, `url`, `token`), then a line for each time that the copy is to catch
up; each is answered by a line, the JSON of the error or null. It ends when the input does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO


def main(asked: TextIO, answers: TextIO) -> None:
    """Serve until `asked` ends."""
    os.environ["RUST_LOG"] = "off"  # it would log to our standard output
    connection, lock, wrong = None, None, None
    what = json.loads(asked.readline())
    try:
        lock = _locked(what["file"] + "-lock")
        import libsql

        token = {"auth_token": what["token"]} if what["token"] else {}
        connection = libsql.connect(what["file"], sync_url=what["url"], **token)
    except BlockingIOError:
        wrong = f"another process keeps the replica {what['file']}; give each process a file of its own"
    except ImportError:
        wrong = "a replica needs the package libsql: pip install 'holdfast[libsql-replica]'"
    except (OSError, ValueError) as error:
        wrong = str(error)
    for _ in asked:
        problem = wrong
        if connection is not None:
            try:
                connection.sync()
            except ValueError as error:
                problem = str(error)
        answers.write(json.dumps(problem) + "\n")
        answers.flush()
    del lock


def _locked(path: str) -> Any:
    """The open file, which nobody else has. Raises `BlockingIOError` when somebody has."""
    handle = open(path, "w")  # noqa: SIM115  it stays open as long as the process lives
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not on Windows
        pass
    return handle


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
