"""A small file beside a SQLite database that remembers how far its journal was read.

A SQLite file that was replaced by an older copy of itself looks like any other file. The witness does not travel
with copies of the database file, so it can tell: another file, an earlier end, another history.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from holdfast.errors import Unavailable

try:
    import fcntl
except ImportError:  # not on Windows: there, only one process may follow a file
    fcntl = None  # type: ignore[assignment]


class Record(msgspec.Struct, frozen=True):
    """What a witness remembers: whose it is, and the last change that somebody may have acted on."""

    identity: str
    inode: int
    seq: int
    digest: str


class Witness:
    """The witness of the database at `file`, shared by all processes that follow it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._path = file.with_name(file.name + "-witness")
        self._known = 0

    def seq(self) -> int:
        """The number of the last change that it remembers."""
        record = self._read()
        return record.seq if record else 0

    def differs(self, identity: str, last: int, row: tuple[Any, ...] | None) -> str | None:
        """Why the database is not the one that this witness saw, or None.

        Args:
            identity: what the database says it is.
            last: its last change.
            row: its change number `seq()`, as stored.
        """
        record = self._read()
        if record is None:
            return "there is no witness beside the file: it is new, or was copied"
        if record.identity != identity:
            return "the file has another identity than the witness"
        if record.inode != self.inode():
            return "the file was replaced"
        if record.seq > last:
            return f"the file ends at change {last}, but change {record.seq} was seen"
        if record.seq > 0 and record.digest != digest(row):
            return f"change {record.seq} is not the one that was seen"
        return None

    def begin(self, identity: str) -> None:
        """Remember the database as it is now, of which nothing was seen yet."""
        with self._locked():
            self._write(Record(identity, self.inode(), 0, ""))
        self._known = 0

    def saw(self, identity: str, seq: int, row: tuple[Any, ...]) -> None:
        """Remember that change `seq` of the database `identity` is about to be acted on."""
        if seq <= self._known:
            return
        with self._locked():
            record = self._read()
            if record is not None and record.identity == identity and record.seq < seq:
                self._write(Record(identity, record.inode, seq, digest(row)))
        self._known = seq

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing it; held for the length of a small write, never across an await."""
        if fcntl is None:
            yield
            return
        try:
            handle = os.open(self._path.with_name(self._path.name + "-lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def inode(self) -> int:
        """Which file the path leads to now; 0 when there is none."""
        try:
            return self._file.stat().st_ino
        except FileNotFoundError:
            return 0

    def _read(self) -> Record | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self, record: Record) -> None:
        # Replaced, not overwritten: a reader without the lock never sees half of it.
        temporary = self._path.with_name(f"{self._path.name}-{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.encode(record))
            temporary.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"{self._path} cannot be written ({error.strerror}): following a SQLite database keeps this file beside it;"
            " make its folder writable, or free some space"
        )


def digest(row: tuple[Any, ...] | None) -> str:
    """What tells a change from every other with its number."""
    return hashlib.sha256(repr(row).encode()).hexdigest()[:32] if row is not None else ""
