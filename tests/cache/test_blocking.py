"""The cache without `await`: a hit is a plain call in the caller's thread."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from moka_py import Moka

from benchmarks.cache_hit_ratio import zipf
from holdfast import Holdfast
from holdfast.cache import Key, Options
from tests.backends import settings_for
from tests.cache.loans import Base, Loan


@pytest.fixture(params=("sqlite", "postgres"))
def hold(request: pytest.FixtureRequest) -> Any:
    settings = settings_for(request.getfixturevalue(f"{request.param}_url"))
    with Holdfast.blocking(settings=settings, metadata=Base.metadata) as hold:
        yield hold


def test_values_are_loaded_kept_and_ended(hold: Any) -> None:
    def load(load: Any) -> str:
        load.tags("loans")
        with hold.read() as unit:
            return f"loaded {load.key}, {unit[Loan].count()}"

    assert hold.cache.get_or_load("k", load) == "loaded k, 0"
    assert hold.cache.peek("k") == "loaded k, 0"
    hold.cache.invalidate("loans")
    assert hold.cache.peek("k") is None
    hold.cache.set("j", 5)
    assert hold.cache.get("j") == 5
    assert hold.cache.lookup("j", load).value == 5


def test_the_values_of_a_declared_key_are_found_by_its_parts(hold: Any) -> None:
    key = Key("library.blocking", "library:blocking:{reader}", tags=("reader:{reader}",), about="for blocking callers")

    def load(load: Any) -> str:
        return f"loaded {load.key}"

    loans = hold.cache[key]
    assert loans.get_or_load(load, "ann") == loans.peek(reader="ann") == "loaded library:blocking:ann"
    loans.set("by hand", reader="bob")
    with hold.unit() as unit:
        unit[Loan].add(Loan(reader="bob", title="Dune"))
    assert (loans.get("ann"), loans.get("bob")) == ("loaded library:blocking:ann", None)
    loans.delete("ann")
    assert loans.get("ann") is None


def test_a_hit_needs_no_event_loop(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hold.cache.set("k", 5)
    peek = hold.cache.peek
    monkeypatch.setattr(type(hold.cache._portal), "call", None)
    assert peek("k") == 5


def test_a_thread_sees_what_it_has_committed_and_leaves_the_cache_alone_while_it_writes(hold: Any) -> None:
    def load(load: Any) -> str:
        load.tags("loans")
        return "loaded"

    assert hold.cache.get_or_load("k", load) == "loaded"
    peek = hold.cache.peek
    with hold.unit() as unit:
        assert peek("k") == "loaded"
        unit[Loan].add(Loan(reader="ada", title="Dune"))
        assert peek("k") is None
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.append(peek("k")))
        thread.start()
        thread.join()
        assert seen == ["loaded"]
    assert peek("k") is None
    assert hold.cache.get("k") is None


def test_reads_of_a_block_are_counted_for_its_endpoint_hits_and_misses(hold: Any) -> None:
    with hold.cache.counted_as("GET /titles"):
        for _ in range(3):
            hold.cache.get_or_load("k", lambda load: "loaded")
    hold.cache.get_or_load("k", lambda load: "loaded")
    found = hold.cache.statistics.endpoints.total()["GET /titles"]
    assert (found.hits, found.misses) == (2, 1)


def test_rows_are_read_by_key(hold: Any) -> None:
    with hold.unit() as unit:
        key = unit[Loan].add(Loan(reader="ada", title="Dune")).id
    assert hold.cache[Loan].get(key).title == "Dune"
    assert hold.cache[Loan].peek(str(key)).title == "Dune"
    with hold.unit() as unit:
        unit[Loan].update(key, title="Emma")
        assert hold.cache[Loan].get(key).title == "Emma"
    assert [row.title for row in hold.cache[Loan].get_many([key]).values()] == ["Emma"]
    hold.cache[Loan].invalidate(key)
    assert hold.cache[Loan].lookup(key).loaded


def test_memory_keeps_as_much_of_what_is_read_as_it_does_alone(sqlite_url: str) -> None:
    """It counts looks to know what to keep: a second look at what is missed would have it keep the wrong things."""
    trace = zipf(20_000, 20_000, 0.99)
    alone: Moka[str, int] = Moka(200)
    hits = 0
    for key in trace:
        if alone.get(key) is None:
            alone.set(key, 1)
        else:
            hits += 1
    loads: list[Any] = []

    def load(load: Any) -> int:
        loads.append(load.key)
        return 1

    settings = settings_for(sqlite_url, cache_capacity=200)
    with Holdfast.blocking(settings=settings, metadata=Base.metadata) as hold:
        for key in trace:
            hold.cache.get_or_load(key, load)
    assert 1 - len(loads) / len(trace) > hits / len(trace) - 0.015


@pytest.mark.parametrize("read", ["get", "get_or_load", "get_or_load with options"])
def test_memory_is_looked_at_once_for_a_miss(hold: Any, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    cache = hold._hold.cache
    memory, peek = cache._memory, cache.peek
    hold.cache.set("other", 1)
    look = memory.get
    monkeypatch.setattr(memory, "get", lambda key: looks.append(key) or look(key))

    def counted(key: str, default: Any = None, bound: float = math.inf) -> Any:
        looks.append(key)
        return peek(key, default, bound)

    monkeypatch.setattr(hold.cache, "peek", counted)
    monkeypatch.setattr(cache, "peek", counted)
    if read == "get":
        assert hold.cache.get("k", 7) == 7
    else:
        given = {} if read == "get_or_load" else {"ttl": "5m"}
        assert hold.cache.get_or_load("k", lambda load: 5, **given) == 5
    assert looks == ["k"]


def test_a_hit_with_options_is_a_plain_call_too(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold.cache.get_or_load("k", lambda load: 5, ttl="5m") == 5
    monkeypatch.setattr(type(hold.cache._portal), "call", None)
    assert hold.cache.get_or_load("k", lambda load: 6, ttl="5m") == 5


def until(told: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20.0
    while not told():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_what_is_loaded_ahead_is_loaded_in_a_thread_of_its_own(hold: Any) -> None:
    threads: list[int] = []

    def load(load: Any) -> int:
        threads.append(threading.get_ident())
        time.sleep(0.02)  # what takes no time is not worth loading ahead
        with hold.read() as unit:
            return unit[Loan].count()  # type: ignore[no-any-return]

    given = {"ttl": 2.0, "refresh_ahead": 100.0}
    hold.cache.get_or_load("k", load, **given)
    ends = time.monotonic() + 20.0
    while len(threads) < 2:  # this thread asks for nothing but what it is given at once
        began = time.monotonic()
        hold.cache.get_or_load("k", load, **given)
        assert began < ends
        time.sleep(0.01)
    assert threads[0] == threading.get_ident() != threads[1]
    until(lambda: not hold._hold.cache._loads.flights._tasks)
    assert hold.cache.get_or_load("k", load, **given) == 0


def test_who_gives_up_on_a_load_goes_on_and_the_load_too(hold: Any) -> None:
    go_on = threading.Event()
    numbers: list[int] = []

    def load(load: Any) -> int:
        numbers.append(threading.get_ident())
        if len(numbers) == 2:
            assert go_on.wait(20)
            with hold.read() as unit:
                unit[Loan].count()
        return len(numbers)

    given = {"fail_safe": 60, "soft_timeout": 0.05}
    assert hold.cache.get_or_load("k", load, tags=("t",), **given) == 1
    hold.cache.invalidate("t")
    found = hold.cache.lookup("k", load, tags=("t",), **given)
    assert (found.value, found.stale) == (1, True)
    with hold.read() as unit:
        assert unit[Loan].count() == 0  # what is asked for meanwhile is nobody's but the thread's
    go_on.set()
    until(lambda: hold.cache.peek("k") == 2)
    assert numbers[0] == threading.get_ident() != numbers[1]


def test_a_load_that_takes_too_long_is_told_of_in_time(hold: Any) -> None:
    go_on = threading.Event()
    with pytest.raises(TimeoutError, match=r"longer than hard_timeout=0\.05 s"):
        hold.cache.get_or_load("k", lambda load: go_on.wait(20), hard_timeout=0.05)
    assert not go_on.is_set()
    go_on.set()
    until(lambda: hold.cache.peek("k") is True)


def test_a_load_in_a_unit_stays_in_its_thread_and_is_told_of_late(postgres_url: str) -> None:
    with Holdfast.blocking(settings=settings_for(postgres_url), metadata=Base.metadata) as hold:
        with hold.read() as unit:

            def load(load: Any) -> int:
                counted = [unit[Loan].count() for _ in range(3)]
                time.sleep(0.1)
                counted += [unit[Loan].count() for _ in range(3)]
                return sum(counted)

            with pytest.raises(TimeoutError, match="hard_timeout"):
                hold.cache.get_or_load("k", load, hard_timeout=0.05)
            assert unit[Loan].count() == 0
        assert hold.cache.get_or_load("k", lambda load: 5) == 0


def test_a_thread_goes_on_after_its_loader_was_interrupted(hold: Any) -> None:
    with hold.unit() as unit:
        unit[Loan].add(Loan(reader="ada", title="Dune"))
    threads: list[int] = []

    class Enough(BaseException):
        pass

    def load(load: Any) -> int:
        threads.append(threading.get_ident())
        raise Enough

    with pytest.raises(Enough):
        hold.cache.get_or_load("k", load)
    assert hold.cache.get_or_load("k", lambda load: 5) == 5
    assert threads == [threading.get_ident()]
    with hold.read() as unit:
        assert unit[Loan].count() == 1


def test_several_loads_that_one_call_waits_for_get_each_its_own(hold: Any) -> None:
    """What one function returns, or asks for, must not be taken for another's."""

    async def both() -> list[Any]:
        loaders = [portal.loader(partial(work, name)) for name in ("a", "b", "c")]
        return await asyncio.gather(*(loader() for loader in loaders))

    def work(name: str) -> Any:
        seen.append(threading.get_ident())
        return name, [hold.cache.get_or_load(f"{name}{n}", lambda load: load.key) for n in range(5)]

    seen: list[int] = []
    portal = hold.cache._portal
    assert portal.call(both) == [(name, [f"{name}{n}" for n in range(5)]) for name in "abc"]
    assert set(seen) == {threading.get_ident()}


def test_closing_does_not_wait_for_a_function_that_still_runs(sqlite_url: str) -> None:
    begun, go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    hold: Any = Holdfast.blocking(settings=settings_for(sqlite_url), metadata=Base.metadata)

    def load(load: Any) -> Any:
        begun.set()
        go_on.wait(20)
        return hold.cache.get_or_load("other", lambda load: 5)

    def read() -> None:
        try:
            hold.cache.get_or_load("k", load)
        except BaseException as error:  # noqa: BLE001  to be looked at
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(20)
    closer = threading.Thread(target=hold.close)
    closer.start()
    closer.join(20)
    assert not closer.is_alive()
    go_on.set()
    reader.join(20)
    assert not reader.is_alive()
    assert errors


def test_a_value_that_is_to_be_found_elsewhere_is_not_looked_for_in_memory(hold: Any) -> None:
    hold.cache.set("k", 1)
    assert hold.cache.get("k", options=Options.of(skip_l1=True)) is None
    assert hold.cache.get("k", options=Options.of(ttl="1h")) == 1
