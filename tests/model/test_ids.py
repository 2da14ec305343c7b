"""UUIDv7 ids: unique, of the standard's layout, and never running backwards."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.model import ids, uuid7


def test_ids_are_version_7_of_the_present_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    key = uuid7()
    assert key.version == 7
    assert key.variant == "specified in RFC 4122"
    assert before - 1 <= key.int >> 80 <= time.time_ns() // 1_000_000 + 1_000


def test_ids_grow_also_within_a_millisecond() -> None:
    made = [uuid7() for _ in range(50_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_many_threads_are_unique_and_grow_in_each() -> None:
    start = threading.Barrier(8)

    def make() -> list[int]:
        start.wait()
        return [uuid7().int for _ in range(5_000)]

    with ThreadPoolExecutor(8) as threads:
        lists = list(threads.map(lambda _: make(), range(8)))
    assert all(made == sorted(made) for made in lists)
    assert len({key for made in lists for key in made}) == 40_000


def test_ids_go_on_growing_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    first = uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: now - 3600 * 10**9)
    later = [uuid7() for _ in range(10_000)]
    assert [first, *later] == sorted([first, *later])
    assert len({first, *later}) == 10_001


def test_ids_of_one_stamp_differ_in_their_random_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(ids.time, "time_ns", lambda: 10**18)
    a = uuid7()
    monkeypatch.setattr(ids, "_last", 0)
    b = uuid7()
    assert a.int >> 64 == b.int >> 64
    assert a != b


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    uuid7()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(uuid7().bytes for _ in range(300)))
        os._exit(0)
    ours = {uuid7().bytes for _ in range(300)}
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    theirs = {told[i : i + 16] for i in range(0, len(told), 16)}
    assert len(theirs) == 300
    assert not {key[-8:] for key in ours} & {key[-8:] for key in theirs}
