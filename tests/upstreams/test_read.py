"""Input files of every kind: everything in them is read, or named with its place and the reason."""

import gzip
import io
import json
import os
import random
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import read, sources
from holdfast.upstreams.solana.read import read_records
from holdfast.upstreams.solana.records import Transaction
from holdfast.upstreams.solana.sources import LineReader, total_bytes
from tests.upstreams.drafts import ALICE, ALICES, BOBS, Draft, transfer


def answer(amount: int, encoding: str = "base64") -> dict[str, Any]:
    """A transaction that moves `amount`, by which the tests tell it from others."""
    return Draft([transfer(ALICES, BOBS, ALICE, amount)]).answer(encoding)


def line(amount: int) -> bytes:
    return json.dumps(answer(amount)).encode()


def block(*amounts: int) -> dict[str, Any]:
    return {"blockTime": 5, "blockhash": "x", "transactions": [answer(amount) for amount in amounts]}


def summary(*paths: object, **options: Any) -> list[tuple[str, int | str]]:
    """`(place, amount or reason)` of everything found."""
    told: list[tuple[str, int | str]] = []
    for found in read_records(paths, **options):  # type: ignore[arg-type]
        record = found.record
        told.append((str(found.place), record.transfers[0].amount if isinstance(record, Transaction) else str(record)))
    return told


def written(folder: Path, content: bytes, name: str = "input.json") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def pretty(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


DOCUMENTS = {
    "a transaction": (line(1), [("line 1", 1)]),
    "a transaction over several lines": (pretty(answer(1)), [("line 1", 1)]),
    "an envelope over several lines": (pretty({"jsonrpc": "2.0", "result": answer(1), "id": 1}), [("line 1", 1)]),
    "a block": (json.dumps(block(1, 2)).encode(), [("line 1, transaction 0", 1), ("line 1, transaction 1", 2)]),
    "a block over several lines": (pretty(block(1, 2)), [("line 1, transaction 0", 1), ("line 1, transaction 1", 2)]),
    "a list": (
        json.dumps([answer(1), answer(2)]).encode(),
        [("line 1, transaction 0", 1), ("line 1, transaction 1", 2)],
    ),
    "a list over several lines": (pretty([answer(1)]), [("line 1, transaction 0", 1)]),
    "a list with one record a line": (
        b"[\n" + line(1) + b",\n" + line(2) + b"\n]\n",
        [("line 1, transaction 0", 1), ("line 1, transaction 1", 2)],
    ),
    "a list of one record on a line": (b"[\n" + line(1) + b"\n]", [("line 1, transaction 0", 1)]),
    "commas at the beginning of lines": (
        b"[" + line(1) + b"\n," + line(2) + b"\n]",
        [("line 1, transaction 0", 1), ("line 1, transaction 1", 2)],
    ),
    "JSON lines": (line(1) + b"\n" + line(2) + b"\n" + line(3) + b"\n", [("line 1", 1), ("line 2", 2), ("line 3", 3)]),
    "JSON lines without a last end": (line(1) + b"\n" + line(2), [("line 1", 1), ("line 2", 2)]),
    "blank lines and CRLF": (
        b"\r\n\n" + line(1) + b"\r\n \t\r\n" + line(2) + b"\r\n\n",
        [("line 3", 1), ("line 5", 2)],
    ),
    "a byte order mark": (b"\xef\xbb\xbf" + line(1) + b"\n" + line(2), [("line 1", 1), ("line 2", 2)]),
    "lines of every kind": (
        b"\n".join([line(1), json.dumps(block(2, 3)).encode(), json.dumps([answer(4)]).encode()]),
        [("line 1", 1), ("line 2, transaction 0", 2), ("line 2, transaction 1", 3), ("line 3, transaction 0", 4)],
    ),
    "blank lines before a document": (b"\n\n" + pretty(answer(1)), [("line 3", 1)]),
}


def as_is(content: bytes) -> bytes:
    return content


def gzip_members(content: bytes) -> bytes:
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


def gzip_padded(content: bytes) -> bytes:
    return gzip.compress(content) + bytes(600)


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def zstd_frames(content: bytes) -> bytes:
    half = len(content) // 2
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    return skippable + zstd(content[:half]) + skippable + zstd(content[half:])


PACKINGS = [as_is, gzip.compress, gzip_members, gzip_padded, zstd, zstd_frames]


@pytest.mark.parametrize("pack", PACKINGS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_form_of_input_is_read_whatever_its_name(name, pack, tmp_path):
    content, expected = DOCUMENTS[name]
    assert summary(written(tmp_path, pack(content), "odd.name")) == expected


@pytest.mark.parametrize("pack", PACKINGS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_size_of_the_pieces_does_not_matter(name, pack, tmp_path, monkeypatch):
    content, expected = DOCUMENTS[name]
    monkeypatch.setattr(sources, "_CHUNK", 7)
    assert summary(written(tmp_path, pack(content))) == expected


@pytest.mark.parametrize("pack", PACKINGS)
def test_the_standard_input_is_read(pack, monkeypatch):
    content = pack(line(1) + b"\n" + line(2))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert summary("-") == [("line 1", 1), ("line 2", 2)]


def test_a_pipe_is_read_as_it_comes(monkeypatch):
    reading, writing = os.pipe()
    with open(reading, "rb") as incoming, open(writing, "wb", buffering=0) as outgoing:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=incoming))
        records = read_records(["-"])
        outgoing.write(line(1) + b"\n" + line(2) + b"\n")
        assert isinstance(next(records).record, Transaction)
        assert isinstance(next(records).record, Transaction)
        outgoing.write(line(3) + b"\n")
        assert isinstance(next(records).record, Transaction)
        outgoing.close()
        assert list(records) == []


def test_directories_are_read_in_order_with_everything_below_them(tmp_path):
    names = [
        "b.json",
        "a/z.jsonl",
        "a/b/c.ndjson",
        "c.json.gz",
        "d.JSONL.zst",
        "README.md",
        "e.txt",
        "f.gz",
        "g.json.bak",
    ]
    for amount, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        content = {".gz": gzip.compress, "zst": zstd}.get(name[-3:], as_is)(line(amount))
        written(tmp_path, content, name)
    found = [
        (found.file.removeprefix(f"{tmp_path}/"), found.record.transfers[0].amount)
        for found in read_records([tmp_path])
    ]  # type: ignore[union-attr]
    assert found == [("a/b/c.ndjson", 2), ("a/z.jsonl", 1), ("b.json", 0), ("c.json.gz", 3), ("d.JSONL.zst", 4)]


def test_a_directory_with_nothing_to_read_says_so(tmp_path):
    written(tmp_path, b"", "notes.txt")
    ((place, reason),) = summary(tmp_path)
    assert place == ""
    assert "no .json, .jsonl, .ndjson file" in str(reason)


def test_a_path_that_is_not_there_is_named_and_the_others_are_read(tmp_path):
    good = written(tmp_path, line(1))
    results = list(read_records([tmp_path / "missing.json", good, "nul\0l.json"]))
    assert [found.file for found in results] == [str(tmp_path / "missing.json"), str(good), "nul\0l.json"]
    assert "No such file" in str(results[0].record)
    assert isinstance(results[1].record, Transaction)
    assert "cannot be opened" in str(results[2].record)


def test_what_cannot_be_read_or_listed_is_named(tmp_path, monkeypatch):
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sources, "open", lambda *_: Broken(), raising=False)
    assert summary(written(tmp_path, line(1))) == [("", "cannot be read: Input/output error")]

    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", f"{path}/locked"))
        return iter([])

    monkeypatch.setattr(os, "walk", walk)
    assert [(found.file, str(found.record)) for found in read_records([tmp_path])] == [
        (f"{tmp_path}/locked", "cannot be listed: Permission denied")
    ]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", PACKINGS)
def test_an_empty_file_says_so(content, pack, tmp_path):
    assert summary(written(tmp_path, pack(content))) == [("", "empty: no record in it")]


BAD_LINES = {
    "cut short": line(1)[:-9],
    "cut short within a number": b'{"slot": 12',
    "cut short after a comma": b'{"slot": 12,',
    "cut short after a brace": b'{"slot": 12, "meta": {',
    "cut short within a string": b'{"slot": 12, "transaction": ["AQ',
    "not JSON": b"hello, world",
    "a header": b"slot,signature",
    "a closing brace": b"}",
    "NUL bytes": bytes(20),
    "invalid UTF-8": b'{"a": "\xff"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "a number": b"12",
    "an error": b'{"jsonrpc":"2.0","error":{"code":-32004},"id":1}',
    "null": b"null",
}


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_and_the_others_are_read(name, position, tmp_path):
    lines = [line(1), line(2)]
    lines.insert(position, BAD_LINES[name])
    results = summary(written(tmp_path, b"\n".join(lines) + b"\n"))
    assert [place for place, _ in results] == ["line 1", "line 2", "line 3"]
    assert isinstance(results.pop(position)[1], str)
    assert [amount for _, amount in results] == [1, 2]


def test_a_first_line_that_might_begin_a_document_does_not_cost_the_lines_after_it(tmp_path):
    for beginning in (b"[", b'{"slot": 1, "transaction":', b'{"transactions": ['):
        results = summary(written(tmp_path, beginning + b"\n" + line(1) + b"\n" + line(2)))
        assert [place for place, _ in results] == ["line 1", "line 2", "line 3"]
        assert [amount for _, amount in results[1:]] == [1, 2]


def test_a_document_over_several_lines_that_is_cut_short_is_one_refusal(tmp_path):
    for value in (answer(1, "json"), block(1, 2), [answer(1, "jsonParsed")]):
        whole = pretty(value)
        for cut in (whole[:-2], whole[: len(whole) // 2]):
            ((place, reason),) = summary(written(tmp_path, cut))
            assert place == "line 1"
            assert "not JSON" in str(reason)


def test_a_bad_transaction_of_a_block_is_named_by_line_and_place(tmp_path):
    bad = block(1, 2, 3)
    bad["transactions"][1] = {"transaction": 7}
    results = summary(written(tmp_path, line(0) + b"\n" + json.dumps(bad).encode()))
    assert [place for place, _ in results] == ["line 1", *(f"line 2, transaction {n}" for n in range(3))]
    assert [amount for _, amount in results if isinstance(amount, int)] == [0, 1, 3]


def test_utf_16_is_named_as_such(tmp_path):
    ((_, reason),) = summary(written(tmp_path, json.dumps(answer(1)).encode("utf-16")))
    assert "UTF-16" in str(reason)


def test_a_line_longer_than_allowed_is_refused_and_the_others_are_read(tmp_path, monkeypatch):
    long = json.dumps(answer(2) | {"padding": "x" * 5000}).encode()
    limit = len(long) - 1
    path = written(tmp_path, line(1) + b"\n" + long + b"\n" + line(3) + b"\n" + long)
    expected = [("line 1", 1), ("line 3", 3)]
    for chunk in (7, 1000, 1 << 20):
        monkeypatch.setattr(sources, "_CHUNK", chunk)
        results = summary(path, max_line=limit)
        assert [(place, told) for place, told in results if isinstance(told, int)] == expected
        refusal = f"line of {len(long)} bytes, where at most {limit} are read"
        assert [(place, told) for place, told in results if isinstance(told, str)] == [
            ("line 2", refusal),
            ("line 4", refusal),
        ]
    assert len(summary(path, max_line=len(long))) == 4
    assert all(isinstance(told, int) for _, told in summary(path, max_line=len(long)))


def test_a_single_document_may_be_longer_than_a_line(tmp_path):
    assert summary(written(tmp_path, json.dumps(block(1)).encode()), max_line=100) == [("line 1, transaction 0", 1)]


def many_lines(count: int) -> bytes:
    noise = random.Random(7)
    return b"".join(line(noise.randrange(2**60)) + b"\n" for _ in range(count))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_compressed_file_cut_short_gives_what_came_before_and_says_so(pack, tmp_path):
    packed = pack(many_lines(500))
    for end in (len(packed) - 1, len(packed) // 2, 30):
        *records, (place, reason) = summary(written(tmp_path, packed[:end]))
        assert place == ""
        assert "truncated" in str(reason)
        assert all(isinstance(amount, int) for _, amount in records)
        assert (f"what follows line {len(records)} is lost" in str(reason)) == bool(records)
        assert len(records) < 500 or end == len(packed) - 1


def zstd_with_checksum(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


@pytest.mark.parametrize("pack", [gzip.compress, zstd_with_checksum])
def test_a_corrupt_compressed_file_says_so(pack, tmp_path):
    packed = bytearray(pack(many_lines(500)))
    middle = len(packed) // 2
    packed[middle : middle + 40] = bytes(40)
    found = [each.record for each in read_records([written(tmp_path, bytes(packed))])]
    assert any("corrupt" in str(record) for record in found if isinstance(record, MalformedRecord))
    assert len(found) <= 501


def test_garbage_after_a_compressed_stream_is_corruption(tmp_path):
    for pack in (gzip.compress, zstd):
        results = summary(written(tmp_path, pack(line(1) + b"\n") + b"garbage"))
        assert results[0] == ("line 1", 1)
        assert "corrupt" in str(results[1][1])


def test_a_record_cut_off_by_corruption_is_not_taken_for_a_whole_one(tmp_path):
    packed = zlib.compressobj(wbits=31)
    content = packed.compress(line(1) + b"\n" + b"7") + packed.flush(zlib.Z_SYNC_FLUSH)
    results = summary(written(tmp_path, content))
    assert [place for place, _ in results] == ["line 1", ""]


def test_bytes_read_are_told_and_add_up_to_the_size_of_the_files(tmp_path):
    plain = written(tmp_path, many_lines(50), "a.jsonl")
    packed = written(tmp_path, gzip.compress(many_lines(50)), "b.jsonl.gz")
    told: list[int] = []
    assert len(list(read_records([tmp_path], on_bytes=told.append))) == 100
    assert sum(told) == plain.stat().st_size + packed.stat().st_size == total_bytes([tmp_path])
    assert total_bytes([plain, "-"]) is None
    assert total_bytes([plain, tmp_path / "missing"]) == plain.stat().st_size


def test_instructions_are_passed_on(tmp_path):
    path = written(tmp_path, line(1) + b"\n" + line(2))
    asked = [found.record for found in read_records([path], instructions=lambda t: t.transfers[0].amount == 2)]
    assert [len(record.instructions) for record in asked if isinstance(record, Transaction)] == [0, 1]


@pytest.mark.parametrize("pack", [as_is, gzip.compress, zstd])
def test_json_lines_take_memory_for_a_line_not_for_the_file(pack, tmp_path):
    record = json.dumps(answer(1) | {"padding": "x" * 30_000}).encode() + b"\n"
    path = written(tmp_path, pack(record * 1500))  # 45 MB of lines
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_records([path])) == 1500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20


def test_an_endless_line_takes_memory_for_its_limit(tmp_path):
    path = written(tmp_path, zstd(line(1) + b"\n" + b"x" * (60 << 20) + b"\n" + line(2)))
    tracemalloc.start()
    try:
        results = summary(path, max_line=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert results[0] == ("line 1", 1)
    assert str(60 << 20) in str(results[1][1])
    assert results[2] == ("line 3", 2)
    assert peak < 24 << 20


@given(st.lists(st.binary(max_size=6)), st.integers(0, 8))
def test_lines_are_those_of_the_whole(pieces, limit):
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    reader = LineReader(pieces)
    seen = []
    while (each := reader.line(limit)) is not None:
        seen.append(each)
    assert [each.number for each in seen] == list(range(1, len(expected) + 1))
    assert [each.data for each in seen] == [data if len(data) <= limit else b"" for data in expected]
    assert [each.too_long for each in seen] == [len(data) if len(data) > limit else 0 for data in expected]


@given(st.lists(st.binary(max_size=6)), st.integers(0, 3))
def test_the_rest_is_what_follows_the_lines_taken(pieces, taken):
    whole = b"".join(pieces)
    reader = LineReader(pieces)
    for _ in range(taken):
        reader.line(None)
    following = b"\n".join(whole.split(b"\n")[taken:])
    assert reader.next_byte() == following.lstrip()[:1]
    assert reader.rest().rstrip(b"\n") == following.rstrip(b"\n")


@given(
    st.lists(st.sampled_from([*BAD_LINES.values(), line(1), b"", b"[", b"]", b"{", b"}"]), max_size=6), st.booleans()
)
def test_any_mixture_of_lines_is_read_without_a_crash(lines, last_end):
    content = b"\n".join(lines) + (b"\n" if last_end else b"")
    reader = LineReader([content[at : at + 50_000] for at in range(0, len(content), 50_000)])
    records = [record for _, record in read._read(reader, False, 1 << 20)]
    assert records
    assert sum(isinstance(record, Transaction) for record in records) <= lines.count(line(1))
    assert all(isinstance(record, Transaction | MalformedRecord) for record in records)
