"""Disks that are full or read-only."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# To be put before a command.
_FILE_LIMIT = (
    "import os, resource, sys; limit = int(sys.argv[1]);"
    # What is measured of a process is a file that would not fit either.
    " os.environ.pop('COVERAGE_PROCESS_CONFIG', None);"
    " resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); os.execvp(sys.argv[2], sys.argv[2:])"
)
# Root may write whatever the mode says, until it gives up CAP_DAC_OVERRIDE (1): PR_CAPBSET_DROP is 24.
_NO_OVERRIDE = (
    "import ctypes, os, sys; drop = getattr(ctypes.CDLL(None), 'prctl', None);"
    " drop and drop(24, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
PLAIN_USER = (sys.executable, "-c", _NO_OVERRIDE)


def file_limit(size: int) -> tuple[str, ...]:
    """A prefix under which no file grows beyond `size` bytes: a write that would fails, as on a full disk."""
    return (sys.executable, "-c", _FILE_LIMIT, str(size))


class SmallDisk:
    """A folder with room for some MB: a file system of its own, or, where none may be mounted, limited files."""

    def __init__(self, folder: Path, megabytes: int, *, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        # Of a file system the log takes its part too.
        self.prefix = () if mounted else file_limit((megabytes << 20) // 2)

    def make_room(self) -> None:
        """Give it all the room that is needed."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,size=256m", str(self.folder)], check=True)
        self.prefix = ()


@contextlib.contextmanager
def small_disk(megabytes: int, *, mount: bool) -> Iterator[SmallDisk]:
    """A small disk for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="holdfast-disk-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", name]
        mounted = mount and os.geteuid() == 0 and _succeeds(command)
        try:
            yield SmallDisk(Path(name), megabytes, mounted=mounted)
        finally:
            if mounted:
                subprocess.run(["umount", name], check=True)


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False
