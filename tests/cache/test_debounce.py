"""A storm of changes costs a load now and then, and nobody gets what is older than the bound."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.cache import Options
from holdfast.cache.clock import boottime
from holdfast.errors import ConfigurationError
from tests.cache.loans import Loan, Loans, lend
from tests.cache.test_shared import nodes, shared


async def test_a_storm_of_changes_costs_one_load_in_that_time(hold: Holdfast, other: Holdfast, loans: Loans) -> None:
    committed: list[float] = []
    ends = boottime() + 2.0
    reads, late = 0, 0

    async def change() -> None:
        while boottime() < ends:
            await lend(other, "ada", f"{len(committed)}")
            committed.append(boottime())
            await asyncio.sleep(0.005)

    async def read() -> None:
        nonlocal reads, late
        while boottime() < ends:
            began = boottime()
            found = await hold.cache.get_or_load("loans:ada", loans, debounce="0.5s", max_staleness="1s")
            late += len(found) < sum(at < began - 1.0 for at in committed)
            reads += 1
            await asyncio.sleep(0.002)

    await asyncio.gather(change(), *(read() for _ in range(3)))
    assert late == 0
    assert loans.count <= 5  # one each half second, and a first
    assert len(committed) > 10
    assert reads > 20
    await asyncio.sleep(0.6)
    found = await hold.cache.get_or_load("loans:ada", loans, debounce="0.5s", max_staleness="1s")
    assert len(found) == len(committed)


async def test_who_has_committed_sees_it_at_once(hold: Holdfast, loans: Loans) -> None:
    kept: dict[str, Any] = {"debounce": "60s", "max_staleness": "60s"}

    async def changed() -> list[str]:
        async with hold.unit() as unit:
            await unit[Loan].add(Loan(reader="ada", title="Emma"))
        found: list[str] = await hold.cache.get_or_load("loans:ada", loans, **kept)
        return found

    assert await hold.cache.get_or_load("loans:ada", loans, **kept) == []
    writer = asyncio.create_task(changed())  # another task than this one, which has committed nothing
    assert await writer == ["Emma"]
    assert await hold.cache.get_or_load("loans:ada", loans, **kept) == ["Emma"]
    assert loans.count == 2


async def test_what_others_have_loaded_is_not_known_to_be_young(postgres_url: str, redis_url: str) -> None:
    async with nodes(postgres_url, redis_url) as (a, b):
        kept: dict[str, Any] = {"debounce": "60s", "max_staleness": "60s"}
        loans = Loans(b)
        assert await a.cache.get_or_load("loans:ada", loans, **kept) == []
        await shared(a, "loans:ada")
        assert await b.cache.get_or_load("loans:ada", loans, **kept) == []
        assert loans.count == 1

        async def change() -> None:
            await lend(a, "ada", "Emma")

        await asyncio.create_task(change())
        await b.cache.renew()
        assert await b.cache.get_or_load("loans:ada", loans, **kept) == ["Emma"]


async def test_several_keys_at_once_are_debounced_too(hold: Holdfast, other: Holdfast) -> None:
    count = 0

    async def load(load: Any) -> dict[str, int]:
        nonlocal count
        count += 1
        load.tags("loans")
        return dict.fromkeys(load.keys, count)

    kept: dict[str, Any] = {"debounce": "60s", "max_staleness": "60s"}
    assert await hold.cache.get_or_load_many(["a", "b"], load, **kept) == {"a": 1, "b": 1}
    await asyncio.create_task(lend(other, "ada", "Emma"))
    await hold.cache.renew()
    assert await hold.cache.get_or_load_many(["a", "b"], load, **kept) == {"a": 1, "b": 1}
    assert await hold.cache.get_or_load_many(["a", "b"], load) == {"a": 2, "b": 2}


def test_it_cannot_be_longer_than_the_bound() -> None:
    assert Options.of(debounce="2s", max_staleness="2s").debounce == 2.0
    for given in ({"debounce": "2s"}, {"max_staleness": 0.5, "debounce": 0.6}):
        with pytest.raises(ConfigurationError, match="is more than max_staleness"):
            Options.of(**given)
    with pytest.raises(ConfigurationError, match="is more than max_staleness"):
        Options.of(debounce=1).but(max_staleness=0.5)
