"""Read transactions from files: what every file holds, and why what it holds is none.

Nothing here raises for what an input says, and nothing is left out without a record that tells why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.parse import NotJson, Result, parse_answer
from holdfast.upstreams.solana.records import Transaction
from holdfast.upstreams.solana.sources import MAX_LINE, LineReader, find_files, read_chunks
from holdfast.upstreams.solana.transaction import Wanted

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},:"]|[^][{},:"\s]+')
_VALUE = b'{["-0123456789tfn'


class Place(Struct, frozen=True, gc=False):
    """Where in its file a record stands."""

    line: int | None  # 1-based line on which its document begins; None for the file as a whole
    index: int | None  # 0-based place in its block or list; None for a document of one record

    def __str__(self) -> str:
        parts = []
        if self.line is not None:
            parts.append(f"line {self.line}")
        if self.index is not None:
            parts.append(f"transaction {self.index}")
        return ", ".join(parts)


class Found(NamedTuple):
    """One record of an input file, or why it is none."""

    file: str  # as given, or below the directory given; "-" for the standard input
    place: Place
    record: Transaction | MalformedRecord


def read_records(
    paths: Iterable[str | Path],
    *,
    instructions: Wanted = False,
    max_line: int = MAX_LINE,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Found]:
    """Every transaction in `paths`, in order, and every record that is none.

    A file holds one JSON document (see `parse_answer`) or JSON lines of them, plain or compressed by gzip or
    zstd. It is JSON lines if its first line is a whole JSON document by itself, or if what follows the first
    line cannot continue it. JSON lines take memory for one line at a time; a single document, or a first
    line, may be as large as memory allows, any later line has at most `max_line` bytes.

    `paths` are files, directories (all input files below them, in order) and "-" for the standard input.
    `instructions` is that of `parse_transaction`; `on_bytes` is told how many bytes were read, compressed
    ones where the file is, and may be used with `total_bytes` to show progress.
    """
    for found in find_files(paths):
        if isinstance(found, tuple):
            yield Found(found[0], Place(None, None), found[1])
            continue
        reader = LineReader(read_chunks(found, on_bytes))
        line = 0
        try:
            for place, record in _read(reader, instructions, max_line):
                line = place.line or line
                yield Found(found, place, record)
        except MalformedRecord as error:
            lost = f"; what follows line {line} is lost" if line else ""
            yield Found(found, Place(None, None), MalformedRecord(f"{error}{lost}"))


def _read(
    reader: LineReader, instructions: Wanted, max_line: int
) -> Iterator[tuple[Place, Transaction | MalformedRecord]]:
    first = reader.line(None)
    while first is not None and not first.data.removeprefix(_BYTE_ORDER_MARK).strip():
        first = reader.line(None)
    if first is None:
        yield Place(None, None), MalformedRecord("empty: no record in it")
        return
    if first.data.startswith(_UTF_16_MARKS):
        yield Place(None, None), MalformedRecord("UTF-16: convert it to UTF-8")
        return
    data = first.data.removeprefix(_BYTE_ORDER_MARK)
    results = parse_answer(data, instructions=instructions)
    if _is_part(results) and len(data) <= max_line and _goes_on(data, reader.next_byte()):
        yield from _read_document(data + b"\n" + reader.rest(), first.number, instructions)
        return
    yield from _placed(first.number, results)
    while (line := reader.line(max_line)) is not None:
        if line.too_long:
            yield (
                Place(line.number, None),
                MalformedRecord(f"line of {line.too_long} bytes, where at most {max_line} are read"),
            )
        elif line.data.strip():
            for index, record in parse_answer(line.data, instructions=instructions):
                yield Place(line.number, index), record


def _read_document(
    data: bytes, line: int, instructions: Wanted
) -> Iterator[tuple[Place, Transaction | MalformedRecord]]:
    """A document over several lines; where it is none as a whole, the records that stand on lines of their own."""
    results = parse_answer(data, instructions=instructions)
    if _is_part(results):
        lines = [(number, part) for number, part in enumerate(data.split(b"\n"), line) if part.strip()]
        if any(isinstance(record, Transaction) for _, part in lines for _, record in parse_answer(part)):
            for number, part in lines:
                yield from _placed(number, parse_answer(part, instructions=instructions))
            return
    yield from _placed(line, results)


def _placed(line: int, results: list[Result]) -> Iterator[tuple[Place, Transaction | MalformedRecord]]:
    for index, record in results:
        yield Place(line, index), record


def _is_part(results: list[Result]) -> bool:
    return len(results) == 1 and isinstance(results[0][1], NotJson)


def _goes_on(data: bytes, following: bytes) -> bool:
    """Whether `data`, which is not whole JSON, may be the first line of a document whose next byte is `following`."""
    inside: list[bytes] = []
    last = b""
    for match in _TOKEN.finditer(data):
        last = match[0]
        if last in (b"{", b"["):
            inside.append(last)
        elif last in (b"}", b"]"):
            if not inside:
                return False
            inside.pop()
        elif last == b'"':  # a string without its end: no string goes over a line's end
            return False
    if not inside or not following:
        return False
    if last == b"{":
        return following in b'"}'
    if last == b"[":
        return following in b"]" + _VALUE
    if last == b":":
        return following in _VALUE
    if last == b",":
        return following in (b'"' if inside[-1] == b"{" else _VALUE)
    return following in b",}]:"
