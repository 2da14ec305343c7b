"""The bytes of input files: found, opened, decompressed and cut into lines, in bounded memory.

Compression is recognised by its magic bytes, whatever the name says.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard
from msgspec import Struct

from holdfast.errors import MalformedRecord

STDIN = "-"
SUFFIXES = (".json", ".jsonl", ".ndjson")
COMPRESSED = (".gz", ".zst")
MAX_LINE = 64 << 20

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte 0x5?: what parallel compressors begin with
# Four bytes of a hostile zstd stream can stand for a block of 128 KiB, so what is decompressed at once is small.
_COMPRESSED_PIECE = 256


class _Decompressor(Protocol):
    """What `zlib` and `zstandard` both offer for one member (or frame) of a stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Line(Struct, gc=False):
    """A line without its end, or, where it was longer than allowed, only its length in bytes."""

    number: int  # 1-based
    data: bytes
    too_long: int = 0


def find_files(paths: Iterable[str | Path]) -> Iterator[str | tuple[str, MalformedRecord]]:
    """The files that `paths` stand for; for a path that stands for none, the path and why.

    A directory stands for every file below it, in order of path, named `.json`, `.jsonl` or `.ndjson`, with
    `.gz` or `.zst` behind it or not; links to directories are not followed. `-` is the standard input.
    """
    for path in paths:
        name = os.fspath(path)
        if name == STDIN or not os.path.isdir(name):
            yield name
            continue
        problems: list[OSError] = []
        found = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(name, onerror=problems.append)
            for file in files
            if _is_input(file)
        )
        for problem in problems:
            yield os.fsdecode(problem.filename), MalformedRecord(f"cannot be listed: {problem.strerror}")
        if not found and not problems:
            yield name, MalformedRecord(f"no {', '.join(SUFFIXES)} file (with .gz or .zst or without) in it")
        yield from found


def total_bytes(paths: Iterable[str | Path]) -> int | None:
    """The size on disk of all files that `paths` stand for; None if one of them has no size, as a pipe."""
    total = 0
    for found in find_files(paths):
        if isinstance(found, tuple):
            continue
        if found == STDIN:
            return None
        try:
            status = os.stat(found)
        except OSError:
            continue
        if not os.path.isfile(found):
            return None
        total += status.st_size
    return total


def _is_input(file: str) -> bool:
    for ending in COMPRESSED:
        file = file.removesuffix(ending)
    return file.lower().endswith(SUFFIXES)


def read_chunks(path: str, on_bytes: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """The decompressed content of a file, in pieces of bounded size.

    `on_bytes` is told the number of bytes read from the file, as they are read. Raises `MalformedRecord`
    where the file cannot be read, or a compressed stream is corrupt or ends too early; what was read
    before has been yielded then.
    """
    try:
        stream: BinaryIO = sys.stdin.buffer if path == STDIN else open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MalformedRecord(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        yield from _decompressed(_pieces(stream, on_bytes))
    except OSError as error:
        raise MalformedRecord(f"cannot be read: {error.strerror or error}") from None
    finally:
        if path != STDIN:
            stream.close()


def _pieces(stream: BinaryIO, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    # read1 gives what a pipe has, instead of waiting for a whole chunk; a stream without it blocks.
    read = getattr(stream, "read1", stream.read)
    while piece := read(_CHUNK):
        if on_bytes is not None:
            on_bytes(len(piece))
        yield piece


def _decompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 4:
            break
    if head.startswith(_GZIP):
        yield from _gathered(_members("gzip", _open_gzip, chain((head,), pieces)))
    elif head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] & 0xF0 == 0x50):
        yield from _gathered(_members("zstd", _open_zstd, chain((head,), pieces)))
    else:
        if head:
            yield head
        yield from pieces


def _members(kind: str, open_member: Callable[[], _Decompressor], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of one member after the other; b"" wherever more has to be read from the file first."""
    member = None
    try:
        for piece in pieces:
            for start in range(0, len(piece), _COMPRESSED_PIECE):
                data = piece[start : start + _COMPRESSED_PIECE]
                while data:
                    if member is None:
                        if kind == "gzip" and not (data := data.lstrip(b"\0")):  # padding, as tapes have it
                            break
                        member = open_member()
                    yield member.decompress(data)
                    data, member = (member.unused_data, None) if member.eof else (b"", member)
            yield b""
    except (zlib.error, zstandard.ZstdError) as error:
        raise MalformedRecord(
            f"corrupt {kind} stream, so that records read from it may be wrong too: {error}"
        ) from None
    if member is not None:
        raise MalformedRecord(f"truncated {kind} stream: it ends before its end mark")


def _gathered(contents: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces of a size worth looking at; nothing is held back when reading stops or fails."""
    held: list[bytes] = []
    size = 0
    try:
        for content in contents:
            held.append(content)
            size += len(content)
            if size >= _CHUNK or (size and not content):
                yield b"".join(held)
                held, size = [], 0
    except MalformedRecord:
        yield b"".join(held)
        raise


def _open_gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _open_zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


class LineReader:
    """Lines, one after the other, or the rest as a whole, of a stream given in pieces."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ready: deque[bytes] = deque()  # complete lines
        self._held: list[bytes] = []  # the beginning of the line after them
        self._held_size = 0
        self._number = 0  # of the last line given

    def line(self, limit: int | None) -> Line | None:
        """The next line, without its end; None after the last. Of one longer than `limit` bytes only the length."""
        dropped = 0
        while not self._ready:
            if limit is not None and dropped + self._held_size > limit:
                dropped += self._held_size
                self._hold()
            if not self._pull():
                if not self._held and not dropped:
                    return None
                self._ready.append(b"".join(self._held))
                self._hold()
        self._number += 1
        data = self._ready.popleft()
        if dropped or (limit is not None and len(data) > limit):
            return Line(self._number, b"", dropped + len(data))
        return Line(self._number, data)

    def next_byte(self) -> bytes:
        """The first byte after the lines given that is no white space, without taking it; empty at the end."""
        while True:
            for data in (*self._ready, *self._held):
                if stripped := data.lstrip():
                    return stripped[:1]
            if not self._pull():
                return b""

    def rest(self) -> bytes:
        """Everything after the lines given."""
        held = b"".join(chain(self._held, self._chunks))
        rest = b"\n".join([*self._ready, held])
        self._ready.clear()
        self._hold()
        return rest

    def _pull(self) -> bool:
        """Take one more piece in; False at the end of the stream."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        first, *lines = chunk.split(b"\n")
        if first:
            self._held.append(first)
            self._held_size += len(first)
        if lines:
            self._ready.append(b"".join(self._held))
            self._ready.extend(lines[:-1])
            self._hold(lines[-1])
        return True

    def _hold(self, data: bytes = b"") -> None:
        self._held = [data] if data else []
        self._held_size = len(data)
