"""Plain functions under `@cached`, on an open `Holdfast.blocking(…)`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import LOAD, Holdfast, Key, Load, cached, warms
from holdfast.cache import warming
from holdfast.errors import ConfigurationError, InvalidValue, StoreError
from tests.backends import settings_for
from tests.cache.loans import Base, Loan


@pytest.fixture(params=("sqlite", "postgres+redis"))
def hold(request: pytest.FixtureRequest) -> Iterator[Any]:
    database, _, redis = request.param.partition("+")
    redis_url = request.getfixturevalue(f"{redis}_url") if redis else None
    settings = settings_for(request.getfixturevalue(f"{database}_url"), redis_url=redis_url, redis_timeout=5.0)
    with Holdfast.blocking(settings=settings, metadata=Base.metadata) as hold:
        yield hold


calls: list[Any] = []


@pytest.fixture(autouse=True)
def _forget_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    monkeypatch.setattr(warming, "_sets", {})


@cached(key="plain:double:{number}", tags=("plain:{number}",), ttl="1m")
def double(number: int, load: Load = LOAD, *, times: int = 2) -> int:
    """Twice the number."""
    calls.append(threading.get_ident())
    load.tags("doubles")
    return number * times


def test_a_function_is_called_once_for_the_same_arguments_in_the_thread_that_calls_it(hold: Any) -> None:
    assert [double(2), double(2), double(3), double(number=2)] == [4, 4, 6, 4]
    assert calls == [threading.get_ident()] * 2
    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")
    assert double.key(5) == "plain:double:5"
    assert double.options.ttl == 60
    assert (double.lookup(2).value, double.lookup(7).loaded) == (4, True)
    double.delete(2)
    assert double(2) == 4
    hold.cache.invalidate("doubles")
    assert double(3) == 6
    assert double.refresh(3)
    assert len(calls) == 6
    assert {one.name for one in hold.cache.report().templates} >= {"plain:double:{number}"}


def test_a_hit_asks_nothing_of_the_loop(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert double(2) == 4
    with monkeypatch.context() as without:
        without.setattr(type(hold.cache._portal), "call", None)
        assert double(2) == 4
        with pytest.raises(TypeError):
            double(3)


def test_values_end_with_the_rows_that_they_were_made_of_and_are_the_units_own_while_it_writes(hold: Any) -> None:
    @cached(key="plain:loans:{reader}", tags=("reader:{reader}",))
    def loans(reader: str) -> list[str]:
        calls.append(reader)
        inside = opened[-1] if opened else None
        if inside is not None:
            return [row.title for row in inside[Loan].list()]
        with hold.read() as unit:
            return [row.title for row in unit[Loan].list()]

    opened: list[Any] = []
    assert loans("ada") == []
    with hold.unit() as unit:
        opened.append(unit)
        unit[Loan].add(Loan(reader="ada", title="Dune"))
        assert [loans("ada"), loans("ada")] == [["Dune"], ["Dune"]]
        opened.pop()
    assert len(calls) == 3
    assert [loans("ada"), loans("ada")] == [["Dune"], ["Dune"]]
    assert len(calls) == 4


def test_threads_that_miss_at_once_wait_for_one_load(hold: Any) -> None:
    @cached(key="plain:slow:{number}")
    def slow(number: int) -> int:
        calls.append(number)
        time.sleep(0.2)
        return number

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(slow, [1] * 8)) == [1] * 8
    assert calls == [1]


def test_two_nodes_load_once(postgres_url: str, redis_url: str) -> None:
    settings = settings_for(postgres_url, redis_url=redis_url, redis_timeout=5.0)
    with (
        Holdfast.blocking(settings=settings, metadata=Base.metadata) as a,
        Holdfast.blocking(settings=settings, metadata=Base.metadata, migrate=False) as b,
    ):

        def on(face: Any) -> Any:
            @cached(key="plain:shared:{number}", cache=face)
            def shared(number: int) -> int:
                calls.append(number)
                time.sleep(0.3)
                return number

            return shared

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(lambda one: one(1), [on(a.cache), on(b.cache)])) == [1, 1]
        assert calls == [1]
        with pytest.raises(ConfigurationError, match="2 caches are open"):
            double(2)


def test_an_older_value_is_served_where_loading_fails_or_takes_long(hold: Any) -> None:
    go_on = threading.Event()

    @cached(key="plain:price:{of}", tags=("prices",), fail_safe="1m", fail_safe_pause=0.05, soft_timeout=0.05)
    def price(of: str) -> int:
        calls.append(threading.get_ident())
        if len(calls) == 2:
            raise OSError("no price")
        if len(calls) == 3:
            go_on.wait(20)
        return len(calls)

    assert price("SOL") == 1
    hold.cache.invalidate("prices")
    assert price.lookup("SOL").stale
    time.sleep(0.1)
    assert price.lookup("SOL").stale
    assert calls[2] != threading.get_ident()
    go_on.set()
    ends = time.monotonic() + 20
    while price("SOL") != 3:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_the_keys_may_be_declared_and_the_function_a_method(hold: Any) -> None:
    key = Key("plain.declared", "plain:declared:{name}", tags=("plain:declared",), about="for plain functions")

    @cached(key)
    def declared(name: str) -> str:
        return name.upper()

    assert declared("ada") == hold.cache[key].get(name="ada") == "ADA"

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached(key="plain:price:{self.name}:{of}")
        def price(self, of: str) -> str:
            calls.append(of)
            return f"{self.name} {of}"

    a, b = Shop("a"), Shop("b")
    assert [a.price("x"), b.price("x"), a.price("x")] == ["a x", "b x", "a x"]
    assert calls == ["x", "x"]
    with pytest.raises(ConfigurationError, match="takes 'self': say key="):

        class Other:
            @cached()
            def price(self) -> int:
                return 1


def test_a_set_of_calls_is_kept_warm_in_threads_of_their_own(hold: Any) -> None:
    @warms(double)
    def numbers() -> list[int]:
        calls.append(threading.get_ident())
        return [1, 2, 3]

    [done] = hold.cache.warmer.run()
    assert (done.keys, done.loaded, done.error) == (3, 3, None)
    assert threading.get_ident() not in calls
    assert len(calls) == 4
    assert [double(1), double(2), double(3)] == [2, 4, 6]
    assert len(calls) == 4


def test_what_is_raised_is_the_callers(hold: Any) -> None:
    @cached(key="plain:broken:{number}")
    def broken(number: int) -> int:
        raise ZeroDivisionError(number)

    with pytest.raises(ZeroDivisionError):
        broken(1)
    with pytest.raises(TypeError):
        double()  # type: ignore[call-arg]

    @cached(key="plain:any:{number}")
    def unkept(number: int) -> Any:
        return object()

    with pytest.raises(InvalidValue):
        unkept(1)

    async def answer() -> int:
        return 5

    @cached(key="plain:awaited")
    def awaited() -> Any:
        return answer()

    with pytest.raises(ConfigurationError, match="returned what is awaited; write `async def`"):
        awaited()


async def test_without_a_blocking_data_layer_it_is_called_or_refused(sqlite_url: str) -> None:
    assert [double(2), double(2)] == [4, 4]
    assert len(calls) == 2
    with pytest.raises(ConfigurationError, match="cached by no open Holdfast"):
        double.lookup(2)
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:
        for call in (double, double.lookup, double.refresh, double.delete):
            with pytest.raises(ConfigurationError, match=r"write it as `async def`, or open .* Holdfast\.blocking"):
                call(2)

        @warms(double)
        async def numbers() -> list[int]:
            return [1]

        [done] = await hold.cache.warmer.run()
        assert done.failed == 1
        assert "async def" in str(done.error)


def test_an_async_function_cannot_have_the_cache_of_a_blocking_face(hold: Any) -> None:
    with pytest.raises(ConfigurationError, match="is async, and cannot be served"):

        @cached(cache=hold.cache)
        async def one() -> int:
            return 1


async def test_inside_a_running_event_loop_a_miss_is_refused(sqlite_url: str) -> None:
    import asyncio

    hold: Any = await asyncio.to_thread(
        lambda: Holdfast.blocking(settings=settings_for(sqlite_url), metadata=Base.metadata)
    )
    with pytest.raises(StoreError, match="inside a running event loop"):
        double(2)
    assert await asyncio.to_thread(double, 2) == 4
    assert double(2) == 4
    await asyncio.to_thread(hold.close)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking a process with threads is what prefork servers do
def test_a_forked_process_has_a_cache_of_its_own(sqlite_url: str) -> None:
    with Holdfast.blocking(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:

        @cached(key="plain:ours:{number}", max_staleness="30s")  # a busy machine is not what is tested
        def ours(number: int) -> int:
            calls.append(number)
            return 2 * number

        @cached(key="plain:named:{number}", cache=hold.cache, max_staleness="30s")
        def named(number: int) -> int:
            calls.append(number)
            return os.getpid()

        assert ours(2) == 4
        assert named(2) == os.getpid()
        child = os.fork()
        if not child:
            code = 1
            try:
                calls.clear()
                assert [ours(2), ours(2)] == [4, 4]
                assert [named(2), named(2)] == [os.getpid()] * 2
                assert len(calls) == 2
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert named(2) == os.getpid()
