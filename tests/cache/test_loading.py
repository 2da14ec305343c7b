"""How values are loaded: once, in bounded time, ahead of their end, and not at all where an older one must do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from moka_py import Moka

from benchmarks.cache_hit_ratio import zipf
from holdfast import Holdfast, Key, Load, cached
from holdfast.cache import LoadFailed, Options, answers
from holdfast.errors import ConfigurationError, InvalidValue, Unavailable
from holdfast.model import uuid7
from tests.backends import settings_for
from tests.cache.loans import Base, Loan


@pytest.fixture
async def hold(sqlite_url: str) -> Any:
    async with await Holdfast.open(settings=settings_for(sqlite_url), metadata=Base.metadata) as hold:
        yield hold


class Counted:
    """A loader that says how often it was called, and does as it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.seconds = 0.0

    async def __call__(self, load: Load) -> Any:
        self.count += 1
        number = self.count
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
def loader() -> Counted:
    return Counted()


async def test_a_value_ends_with_its_time(hold: Holdfast, loader: Counted) -> None:
    assert await hold.cache.get_or_load("k", loader, ttl=0.1) == 1
    assert await hold.cache.get_or_load("k", loader, ttl=0.1) == 1
    await asyncio.sleep(0.12)
    assert hold.cache.peek("k") is None
    assert await hold.cache.get_or_load("k", loader, ttl=0.1) == 2


async def test_the_loader_says_how_long_and_with_which_tags(hold: Holdfast) -> None:
    async def brief(load: Load) -> str:
        load.ttl("50ms")
        load.tags("a", "b")
        return "x"

    await hold.cache.get_or_load("k", brief)
    assert hold.cache.peek("k") == "x"
    await hold.cache.invalidate("b")
    assert hold.cache.peek("k") is None
    await hold.cache.get_or_load("k", brief)
    await asyncio.sleep(0.06)
    assert hold.cache.peek("k") is None


async def test_a_hundred_callers_make_one_load_and_all_get_its_error(hold: Holdfast, loader: Counted) -> None:
    loader.seconds = 0.05
    assert await asyncio.gather(*(hold.cache.get_or_load("k", loader) for _ in range(100))) == [1] * 100
    loader.error = ZeroDivisionError()
    found = await asyncio.gather(*(hold.cache.get_or_load("j", loader) for _ in range(100)), return_exceptions=True)
    assert {type(one) for one in found} == {ZeroDivisionError}
    assert loader.count == 2


async def test_a_caller_who_leaves_does_not_end_the_load_of_the_others(hold: Holdfast, loader: Counted) -> None:
    loader.seconds = 0.1
    first = asyncio.create_task(hold.cache.get_or_load("k", loader))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(hold.cache.get_or_load("k", loader))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == 1
    assert loader.count == 1


async def test_none_is_not_kept_unless_it_is_asked_for(hold: Holdfast) -> None:
    count = 0

    async def nothing(load: Load) -> None:
        nonlocal count
        count += 1

    for _ in range(2):
        assert await hold.cache.get_or_load("k", nothing) is None
    assert count == 2
    for _ in range(3):
        assert await hold.cache.get_or_load("k", nothing, negative_ttl="1m") is None
    assert count == 3


async def test_an_older_value_is_served_as_stale_while_loading_fails_and_not_tried_all_the_time(
    hold: Holdfast, loader: Counted
) -> None:
    given: dict[str, Any] = {"ttl": 0.05, "fail_safe": 60, "fail_safe_pause": 0.3}
    found = await hold.cache.lookup("k", loader, **given)
    assert (found.value, found.stale, found.loaded) == (1, False, True)
    await asyncio.sleep(0.06)
    loader.error = ZeroDivisionError()
    for _ in range(5):
        found = await hold.cache.lookup("k", loader, **given)
        assert (found.value, found.stale, found.loaded) == (1, True, False)
    assert loader.count == 2
    loader.error = None
    await asyncio.sleep(0.31)
    found = await hold.cache.lookup("k", loader, **given)
    assert (found.value, found.stale) == (3, False)


async def test_without_fail_safe_the_error_is_the_callers(hold: Holdfast, loader: Counted) -> None:
    await hold.cache.get_or_load("k", loader, ttl=0.02)
    await asyncio.sleep(0.03)
    loader.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await hold.cache.get_or_load("k", loader, ttl=0.02)


async def test_a_loader_may_say_that_there_is_no_value(hold: Holdfast) -> None:
    fails = False

    async def load_it(load: Load) -> str:
        if fails:
            load.fail("the upstream is closed")
        return "x"

    assert await hold.cache.get_or_load("k", load_it, ttl=0.02, fail_safe=60) == "x"
    fails = True
    await asyncio.sleep(0.03)
    assert (await hold.cache.lookup("k", load_it, ttl=0.02, fail_safe=60)).stale
    with pytest.raises(LoadFailed, match="'other' could not be loaded: the upstream is closed"):
        await hold.cache.get_or_load("other", load_it)


async def test_a_slow_load_goes_on_by_itself_while_the_older_value_is_served(hold: Holdfast, loader: Counted) -> None:
    given: dict[str, Any] = {"ttl": 0.05, "fail_safe": 60, "soft_timeout": 0.03}
    assert await hold.cache.get_or_load("k", loader, **given) == 1
    await asyncio.sleep(0.06)
    loader.seconds = 0.2
    began = time.perf_counter()
    found = await hold.cache.lookup("k", loader, **given)
    assert (found.value, found.stale) == (1, True)
    assert time.perf_counter() - began < 0.15
    await asyncio.sleep(0.25)
    given["ttl"] = 60
    assert loader.count == 2
    assert await hold.cache.get_or_load("k", loader, **given) in (2, 3)


async def test_a_load_that_takes_too_long_is_given_up_by_the_caller_alone(hold: Holdfast, loader: Counted) -> None:
    loader.seconds = 0.2
    with pytest.raises(TimeoutError, match=r"loading 'k' took longer than hard_timeout=0\.05 s"):
        await hold.cache.get_or_load("k", loader, hard_timeout=0.05)
    await asyncio.sleep(0.25)
    assert hold.cache.peek("k") == 1


async def test_what_is_in_use_is_loaded_before_it_ends_and_nobody_waits(hold: Holdfast, loader: Counted) -> None:
    loader.seconds = 0.05
    given: dict[str, Any] = {"ttl": 0.5, "refresh_ahead": 1.0}
    assert await hold.cache.get_or_load("k", loader, **given) == 1
    slowest, until = 0.0, time.monotonic() + 2.5
    while time.monotonic() < until:
        began = time.perf_counter()
        await hold.cache.get_or_load("k", loader, **given)
        slowest = max(slowest, time.perf_counter() - began)
        await asyncio.sleep(0.002)
    assert slowest < 0.045
    assert 5 <= loader.count <= 60


async def test_a_value_that_still_stands_is_kept_on_without_being_sent_again(hold: Holdfast) -> None:
    asked: list[tuple[Any, Any]] = []

    async def conditional(load: Load) -> str:
        asked.append((load.older, load.note))
        if load.note == "v1":
            load.not_modified()
        load.remember("v1")
        return "body"

    for _ in range(3):
        assert await hold.cache.get_or_load("k", conditional, ttl=0.05, fail_safe=60) == "body"
        await asyncio.sleep(0.06)
    assert asked == [(None, None), ("body", "v1"), ("body", "v1")]

    async def unfounded(load: Load) -> str:
        load.not_modified()

    with pytest.raises(LoadFailed, match="loaded for the first time"):
        await hold.cache.get_or_load("j", unfounded)


async def test_jitter_spreads_the_ends(hold: Holdfast, loader: Counted) -> None:
    for number in range(50):
        await hold.cache.get_or_load(f"k{number}", loader, ttl=10, jitter=0.5)
    ends = [hold.cache._memory.get(f"k{number}").expires for number in range(50)]  # type: ignore[union-attr]
    assert max(ends) - min(ends) > 2


async def test_what_weighs_more_than_there_is_room_for_goes(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, cache_capacity=100)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        for number in range(300):
            await hold.cache.set(f"k{number}", number, weight=10)
        assert hold.cache.size().weight <= 100
        assert hold.cache.size().entries <= 10


async def test_memory_is_left_alone_where_it_is_asked_for(hold: Holdfast, loader: Counted) -> None:
    for _ in range(2):
        await hold.cache.get_or_load("k", loader, skip_l1=True)
    assert loader.count == 2
    assert hold.cache.peek("k") is None
    await hold.cache.get_or_load("k", loader)
    assert hold.cache.peek("k") == 3
    assert await hold.cache.get_or_load("k", loader, skip_l1=True) == 4
    assert hold.cache.peek("k") == 3
    await hold.cache.set("known", 1)
    assert await hold.cache.get("known", "none", options=Options.of(skip_l1=True)) == "none"
    assert await hold.cache.get("known", options=Options.of(ttl="1h")) == 1


@pytest.mark.parametrize("key", ["", " \n", "a\0b", "x" * 251, 5, None, "zero\u200bwidth", ["k"]])
async def test_a_key_that_is_none_is_refused(hold: Holdfast, loader: Counted, key: Any) -> None:
    with pytest.raises(InvalidValue, match="key of the cache"):
        await hold.cache.get_or_load(key, loader)
    for read in (hold.cache.get, hold.cache.delete, hold.cache.lookup):
        with pytest.raises(InvalidValue, match="key of the cache"):
            await (read(key, loader) if read == hold.cache.lookup else read(key))
    for read_many in (hold.cache.get_many, lambda keys: hold.cache.get_or_load_many(keys, loader)):
        with pytest.raises(InvalidValue, match="key of the cache"):
            await read_many([key])


@pytest.mark.parametrize("keys", ["abc", 5, None])
async def test_keys_that_are_not_several_are_refused(hold: Holdfast, keys: Any) -> None:
    with pytest.raises(InvalidValue, match=f"keys must be several texts, not {keys!r}; write"):
        await hold.cache.get_many(keys)


async def test_what_is_no_loader_and_no_options_is_told(hold: Holdfast, loader: Counted) -> None:
    cache = hold.cache
    nothing: Any = None
    for call in (cache.get_or_load, cache.lookup, cache.refresh):
        with pytest.raises(InvalidValue, match="loader=None cannot be called; give an async function"):
            await call("k", nothing)
    with pytest.raises(InvalidValue, match="loader=None cannot be called"):
        await cache.get_or_load_many(["k"], nothing)
    five: Any = 5
    for told in (
        cache.get("k", options=five),
        cache.get_or_load("k", loader, options=five),
        cache.lookup("k", loader, options=five),
        cache.set("k", 1, options=five),
        cache.get_or_load_many(["k"], nothing, options=five),
    ):
        with pytest.raises(ConfigurationError, match=r"options=5 must be Options; write Options\.of"):
            await told
    with pytest.raises(ConfigurationError, match="tier=5 is none; there are hot, warm, cold, and Options"):
        cached(tier=five)


@pytest.mark.parametrize("tags", ["abc", ("",), ("a\n",), ("x" * 256,), (5,)])
async def test_a_tag_that_is_none_is_refused(hold: Holdfast, loader: Counted, tags: Any) -> None:
    with pytest.raises(InvalidValue, match="tag"):
        await hold.cache.get_or_load("k", loader, tags=tags)


async def test_an_option_that_makes_no_sense_is_told(hold: Holdfast, loader: Counted) -> None:
    for given, told in (
        ({"tll": 5}, "no option 'tll'; it has ttl"),
        ({"ttl": "five"}, "ttl='five' is no duration, 0.001 s or more"),
        ({"ttl": 0}, "ttl=0 is no duration"),
        ({"ttl": float("nan")}, "ttl=nan is no duration"),
        ({"ttl": "5m5m"}, "ttl='5m5m' is no duration"),
        ({"ttl": 10**400}, "ttl=0x1.*… is no duration"),
        ({"ttl": float("inf")}, "ttl=inf is no duration"),
        ({"jitter": 10**5000}, "jitter=0x.*… must be from 0 to 1"),
        ({"weight": 10**5000}, "weight=0x.*… must be a whole number"),
        ({"jitter": 2}, "jitter=2 must be from 0 to 1"),
        ({"weight": -1}, "weight=-1 must be a whole number"),
        ({"skip_l2": 1}, "skip_l2=1 must be True or False"),
        ({"refresh_ahead": "often"}, "refresh_ahead='often' must be a number"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            await hold.cache.get_or_load("k", loader, **given)


async def test_a_database_that_is_away_does_not_take_the_values_with_it(hold: Holdfast, loader: Counted) -> None:
    await hold.cache.get_or_load("k", loader, fail_safe=60, max_staleness=0.2)

    async def away() -> None:
        from holdfast.errors import Unavailable

        raise Unavailable("the database is away")

    hold.cache._renewal._now._load = away
    await asyncio.sleep(0.25)
    assert hold.cache.peek("k") is None
    loader.error = ZeroDivisionError()
    found = await hold.cache.lookup("k", loader, fail_safe=60, max_staleness=0.2)
    assert (found.value, found.stale) == (1, True)


async def test_a_cache_that_is_closed_serves_and_keeps_nothing_and_says_so(
    sqlite_url: str, redis_url: str, loader: Counted
) -> None:
    hold = await Holdfast.open(settings=settings_for(sqlite_url, redis_url=redis_url), metadata=Base.metadata)
    cache = hold.cache
    await cache.set("kept", 1)
    await hold.close()
    assert cache.peek("kept") is None
    for told in (
        cache.get("kept"),
        cache.get_many(["kept"]),
        cache.get_or_load("kept", loader),
        cache.get_or_load_many(["kept"], loader),
        cache.lookup("kept", loader),
        cache.refresh("kept", loader),
        cache.set("kept", 2),
        cache.renew(),
        cache.remove_matching("kept"),
        cache[Loan].get(uuid7()),
    ):
        with pytest.raises(Unavailable, match="this cache is closed"):
            await told
    with pytest.raises(Unavailable):
        await cache.delete("kept")
    assert loader.count == 0


async def test_memory_keeps_as_much_of_what_is_read_as_it_does_alone(sqlite_url: str) -> None:
    """It counts looks to know what to keep: a second look at what is missed would have it keep the wrong things."""
    trace = zipf(60_000, 20_000, 0.99)
    alone: Moka[str, int] = Moka(200)
    hits = 0
    for key in trace:
        if alone.get(key) is None:
            alone.set(key, 1)
        else:
            hits += 1
    loads = 0

    async def load(load: Load) -> int:
        nonlocal loads
        loads += 1
        return loads

    settings = settings_for(sqlite_url, cache_capacity=200)
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        for key in trace:
            await hold.cache.get_or_load(key, load)
    assert 1 - loads / len(trace) > hits / len(trace) - 0.015


async def test_a_load_that_hangs_is_left_behind_when_its_lease_is_over(hold: Holdfast, loader: Counted) -> None:
    async def hangs(load: Load) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hold.cache.get_or_load("k", hangs, hard_timeout=0.05, lease=0.2)
    await asyncio.sleep(0.2)
    async with asyncio.timeout(30):
        assert await hold.cache.get_or_load("k", loader, lease=0.2) == 1
    assert hold.cache.peek("k") == 1


async def test_a_load_that_asks_for_itself_fails_and_waits_for_nobody(hold: Holdfast) -> None:
    async def itself(load: Load) -> Any:
        return await hold.cache.get_or_load(load.key, itself)

    async def round_about(load: Load) -> Any:
        return await hold.cache.get_or_load("b" if load.key == "a" else "a", round_about)

    async def many(load: Any) -> Any:
        return {"m": await hold.cache.get_or_load("m", itself)}

    async with asyncio.timeout(30):
        for asking in (
            hold.cache.get_or_load("k", itself),
            hold.cache.get_or_load("a", round_about),
            hold.cache.get_or_load_many(["m", "n"], many),
        ):
            with pytest.raises(LoadFailed, match="itself, and would wait for ever"):
                await asking


async def test_a_load_that_cancels_itself_has_failed_and_its_callers_are_not_cancelled(hold: Holdfast) -> None:
    async def cancels(load: Load) -> int:
        if load.older is None and not load.note:
            load.remember("again")
            if not told:
                told.append(1)
                return 1
        raise asyncio.CancelledError

    told: list[int] = []
    assert await hold.cache.get_or_load("k", cancels, ttl=0.05, fail_safe="1h") == 1
    await asyncio.sleep(0.1)
    assert (await hold.cache.lookup("k", cancels, ttl=0.05, fail_safe="1h")).stale
    with pytest.raises(LoadFailed, match="was cancelled"):
        await hold.cache.get_or_load("other", cancels)
    waiting = asyncio.create_task(hold.cache.get_or_load("third", hangs_for_ever))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def hangs_for_ever(load: Load) -> None:
    await asyncio.Event().wait()


async def test_a_reader_may_ask_for_less_staleness_than_the_value_was_kept_with(
    hold: Holdfast, loader: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await hold.cache.get_or_load("k", loader, max_staleness="1h") == 1

    async def hangs() -> None:
        await asyncio.Event().wait()

    await asyncio.sleep(0.1)
    monkeypatch.setattr(answers, "RENEWAL", 0.1)
    monkeypatch.setattr(hold.cache._renewal._now, "_load", hangs)
    hold.cache.answers.freshness.since -= 10.0
    assert await hold.cache.get_or_load("k", loader, max_staleness="1h") == 1
    assert await hold.cache.get_or_load("k", loader, max_staleness="1s") == 2


async def test_whoever_reads_has_the_bound_that_he_asks_for(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "RENEWAL", 0.1)
    loads = 0

    @cached(key="bound:{number}", ttl="1h")
    async def decorated(number: int) -> int:
        nonlocal loads
        loads += 1
        return loads

    key = Key("tests.bound", "bound:{number}", ttl="1h", about="a bound")
    names = hold.cache.namespace("bound", ttl="1h")

    async def other(load: Load) -> int:
        return 7

    await hold.cache.get_or_load("bound:1", other, max_staleness="1h")

    async def hangs() -> None:
        await asyncio.Event().wait()

    await asyncio.sleep(0.1)
    monkeypatch.setattr(hold.cache._renewal._now, "_load", hangs)
    hold.cache.answers.freshness.since -= 10.0
    assert hold.cache.peek("bound:1") == 7
    assert hold.cache[key].peek(1) is None
    assert names.peek("1") is None
    assert await hold.cache.get("bound:1") is None
    assert await decorated(1) == 1


async def test_an_older_value_serves_who_has_committed_too_while_the_journal_cannot_be_read(
    hold: Holdfast, loader: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await hold.cache.get_or_load("k", loader, fail_safe="1h") == 1

    async def away() -> None:
        raise Unavailable("away")

    async with hold.unit() as unit:
        await unit.execute("UPDATE loans SET title = title")
    monkeypatch.setattr(hold.cache._renewal, "now", away)
    loader.error = OSError("away")
    found = await hold.cache.lookup("k", loader, fail_safe="1h")
    assert (found.value, found.stale) == (1, True)


async def test_more_tags_than_a_value_may_carry_are_refused(hold: Holdfast) -> None:
    many = [f"t{number}" for number in range(1_001)]
    with pytest.raises(InvalidValue, match="1,001 tags are too many"):
        await hold.cache.set("k", 1, tags=many)

    async def load(load: Load) -> int:
        load.tags(*many[:600])
        load.tags(*many[600:])
        return 1

    with pytest.raises(InvalidValue, match="1,001 tags are too many"):
        await hold.cache.get_or_load("k", load)
