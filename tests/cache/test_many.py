"""Several keys at once: one question, one load."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.cache import LoadFailed, LoadMany
from holdfast.errors import InvalidValue
from tests.cache.conftest import ALSO_ON_A_CLUSTER

pytestmark = pytest.mark.parametrize("hold", ALSO_ON_A_CLUSTER, indirect=True)


class Numbers:
    """Loads what stands in a key, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.seconds = 0.0
        self.error: Exception | None = None

    async def __call__(self, load: LoadMany) -> dict[str, Any]:
        self.asked.append(load.keys)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        load.tags("numbers")
        for key in load.keys:
            load[key].tags(f"number:{key}")
        return {key: int(key) for key in load.keys if key.isdigit()}


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


async def test_what_is_kept_is_not_loaded_again_and_the_rest_by_one_call(hold: Holdfast, numbers: Numbers) -> None:
    cache = hold.cache
    assert await cache.get_or_load_many(["3", "1"], numbers) == {"3": 3, "1": 1}
    found = await cache.get_or_load_many(["1", "2", "3", "2", "4"], numbers)
    assert list(found.items()) == [("1", 1), ("2", 2), ("3", 3), ("4", 4)]
    assert numbers.asked == [("3", "1"), ("2", "4")]
    assert await cache.get_many(["9", "4", "1"]) == {"4": 4, "1": 1}
    await cache.invalidate("number:4")
    assert await cache.get_many(["4", "1"]) == {"1": 1}
    await cache.invalidate("numbers")
    assert await cache.get_many(["4", "1"]) == {}
    assert await cache.get_or_load_many([], numbers) == {}


async def test_what_the_loader_leaves_out_is_none(hold: Holdfast, numbers: Numbers) -> None:
    assert await hold.cache.get_or_load_many(["1", "x"], numbers) == {"1": 1, "x": None}
    await hold.cache.get_or_load_many(["1", "x"], numbers, negative_ttl=60)
    await hold.cache.get_or_load_many(["1", "x"], numbers)
    assert numbers.asked == [("1", "x"), ("x",)]


async def test_many_callers_and_nodes_load_each_key_once(hold: Holdfast, other: Holdfast, numbers: Numbers) -> None:
    numbers.seconds = 0.2
    await asyncio.gather(hold.cache.renew(), other.cache.renew())
    nodes = (hold, other) if hold.settings.redis_url else (hold,)
    batches = [[str(n) for n in range(start, start + 10)] for start in (0, 5, 10)]
    found = await asyncio.gather(
        *(node.cache.get_or_load_many(batch, numbers) for node in nodes for batch in batches),
        *(node.cache.get_or_load("7", _one(numbers)) for node in nodes),
    )
    for number, one in enumerate(found[: -len(nodes)]):
        assert one == {key: int(key) for key in batches[number % 3]}
    loaded = [key for keys in numbers.asked for key in keys]
    assert sorted(loaded, key=int) == [str(n) for n in range(20)]


def _one(numbers: Numbers) -> Any:
    async def load(load: Any) -> Any:
        return (await numbers(LoadMany({load.key: load})))[load.key]

    return load


async def test_a_load_that_fails_fails_for_all_and_older_values_do(hold: Holdfast, numbers: Numbers) -> None:
    given: dict[str, Any] = {"ttl": 0.05, "fail_safe": 60}
    assert await hold.cache.get_or_load_many(["1", "2"], numbers, **given) == {"1": 1, "2": 2}
    await asyncio.sleep(0.06)
    numbers.error = ZeroDivisionError()
    assert await hold.cache.get_or_load_many(["1", "2"], numbers, **given) == {"1": 1, "2": 2}
    with pytest.raises(ZeroDivisionError):
        await hold.cache.get_or_load_many(["1", "3"], numbers, **given)


async def test_values_that_still_stand_are_kept_on_without_being_sent_again(hold: Holdfast) -> None:
    asked: list[dict[str, tuple[Any, Any]]] = []

    async def conditional(load: LoadMany) -> dict[str, str]:
        asked.append({key: (load[key].older, load[key].note) for key in load.keys})
        load.not_modified(*(key for key in load.keys if load[key].note == "v1"))
        for key in load.keys:
            load[key].remember("v1" if load[key].note is None else load[key].note)
        return {key: "body" for key in load.keys if not load[key].has_older}

    given: dict[str, Any] = {"ttl": 0.05, "fail_safe": 60}
    for keys in (["1"], ["1", "2"], ["1", "2"]):
        assert await hold.cache.get_or_load_many(keys, conditional, **given) == dict.fromkeys(keys, "body")
        await asyncio.sleep(0.06)
    old, new = ("body", "v1"), (None, None)
    assert asked == [{"1": new}, {"1": old, "2": new}, {"1": old, "2": old}]

    async def unfounded(load: LoadMany) -> dict[str, str]:
        load.not_modified("3")
        return {}

    with pytest.raises(LoadFailed, match="'3' was loaded for the first time"):
        await hold.cache.get_or_load_many(["3"], unfounded)


async def test_a_loader_that_gives_no_values_by_key_is_told(hold: Holdfast) -> None:
    async def forgetful(load: LoadMany) -> Any:
        return None

    with pytest.raises(InvalidValue, match=r"the loader of 2 keys \('1', …\) returned None: return the values by key"):
        await hold.cache.get_or_load_many(["1", "2"], forgetful)


async def test_values_are_kept_by_the_dozen(hold: Holdfast) -> None:
    await hold.cache.set_many({"a": 1, "b": [2]}, tags=("t",), ttl="1m")
    assert await hold.cache.get_many(["b", "a"]) == {"b": [2], "a": 1}
    assert hold.cache.peek("a") == 1
    with pytest.raises(InvalidValue, match="object"):
        await hold.cache.set_many({"c": 1, "d": object()})
    assert hold.cache.peek("c") is None
    await hold.cache.set_many({})
    with pytest.raises(InvalidValue, match="no key of the cache"):
        await hold.cache.set_many({"c": 1, "": 2})


async def test_a_unit_that_writes_loads_for_itself(hold: Holdfast, numbers: Numbers) -> None:
    await hold.cache.get_or_load_many(["1"], numbers)
    async with hold.unit() as unit:
        await unit.execute("UPDATE loans SET title = 'x'")
        assert await hold.cache.get_many(["1"]) == {}
        assert await hold.cache.get_or_load_many(["1", "x"], numbers) == {"1": 1, "x": None}
    assert numbers.asked == [("1",), ("1", "x")]
