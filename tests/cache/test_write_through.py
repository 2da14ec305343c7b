"""Rows that are in the cache before anybody asks, and rows under writers that nobody told of the cache."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from holdfast import ALL, Holdfast
from holdfast.cache.clock import boottime
from tests.cache.members import Author, Debt, Visit, opened, reading
from tests.cache.test_rows import added, hold, other, settled

__all__ = ["hold", "other"]


async def test_rows_that_a_unit_has_written_are_there_before_they_are_asked_for(
    hold: Holdfast, other: Holdfast
) -> None:
    await other.cache.renew()
    with reading(hold, "visits") as read, reading(other, "visits") as read_elsewhere:
        async with hold.unit() as unit:
            first, second, third = [Visit(place=place) for place in "abc"]
            unit.add(first, second)
            await unit[Visit].add(third)
        await hold.cache._write_through.settled()
        keys = [first.id, second.id, third.id]
        assert len(read) == 1  # one for all of them
        assert [hold.cache[Visit].peek(key).place for key in keys] == ["a", "b", "c"]  # type: ignore[union-attr]
        async with hold.unit() as unit:
            await unit[Visit].update(first.id, guests=3)
            changed = await unit[Visit].get(second.id)
            changed.guests = 4
        await hold.cache._write_through.settled()
        assert [hold.cache[Visit].peek(key).guests for key in keys] == [3, 4, 0]  # type: ignore[union-attr]
        await settled(hold)
        await other.cache.renew()
        if hold.settings.redis_url:
            found = await other.cache[Visit].get_many(keys)
            assert [row.guests for row in found.values()] == [3, 4, 0]
            assert read_elsewhere == []


async def test_a_row_is_written_through_for_its_own_tenant(hold: Holdfast) -> None:
    mine = await added(hold, Debt(reader="ada", cents=1), tenant="ada")
    async with hold.unit(tenant=ALL) as unit:
        theirs = await unit[Debt].add(Debt(reader="bob", cents=2))
    await hold.cache._write_through.settled()
    debts = hold.cache[Debt]
    assert debts.peek(mine, tenant="ada").cents == 1  # type: ignore[union-attr]
    assert debts.peek(theirs.id, tenant="bob").cents == 2  # type: ignore[union-attr]
    assert debts.peek(mine, tenant="bob") is None
    assert debts.peek(theirs.id, tenant="ada") is None


async def test_what_is_rolled_back_or_of_another_model_is_not_read(hold: Holdfast) -> None:
    with reading(hold, "visits") as read, reading(hold, "authors") as read_authors:
        with pytest.raises(ZeroDivisionError):
            async with hold.unit() as unit:
                await unit[Visit].add(Visit(place="a"))
                raise ZeroDivisionError
        await added(hold, Author(name="Eliot"))
        await hold.cache._write_through.settled()
        assert (read, read_authors) == ([], [])


async def test_a_database_that_is_away_after_the_commit_is_no_failure_of_the_unit(
    hold: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Any:
        raise TimeoutError

    key = await added(hold, Visit(place="a"))
    await hold.cache._write_through.settled()
    monkeypatch.setattr(hold.journal, "make_tick", away)
    async with hold.unit() as unit:
        await unit[Visit].update(key, guests=1)
    await hold.cache._write_through.settled()
    monkeypatch.undo()
    assert (await hold.cache[Visit].get(key)).guests == 1  # type: ignore[union-attr]


async def test_no_row_is_older_than_the_bound_while_others_write_it_by_raw_sql(hold: Holdfast, other: Holdfast) -> None:
    """Writers of both kinds raise a number; every read must give what was committed a second before it began."""
    keys = [await added(hold, Visit(place=str(number))) for number in range(4)]
    committed: dict[UUID, list[tuple[float, int]]] = {key: [(0.0, 0)] for key in keys}
    ends = boottime() + 3.0
    reads = 0
    late: list[tuple[int, int]] = []

    async def write(node: Holdfast, number: int) -> None:
        """The one writer of a row; half of its writes go past the library."""
        key, guests = keys[number], 0
        raw = "UPDATE visits SET guests = :guests WHERE place = :place"
        while boottime() < ends:
            guests += 1
            async with node.unit() as unit:
                if guests % 2:
                    await unit.execute(raw, {"guests": guests, "place": str(number)})
                else:
                    await unit[Visit].update(key, guests=guests)
            committed[key].append((boottime(), guests))  # it was a moment before
            await asyncio.sleep(0.005 * (1 + number))

    async def read(node: Holdfast, several: bool) -> None:
        nonlocal reads
        while boottime() < ends:
            began = boottime()
            if several:
                found = await node.cache[Visit].get_many(keys)
            else:
                one = keys[reads % len(keys)]
                found = {one: await node.cache[Visit].get(one)}  # type: ignore[dict-item]
            for key, row in found.items():
                least = max(guests for at, guests in committed[key] if at <= began - 1.0 or not guests)
                if row.guests < least:
                    late.append((row.guests, least))
                reads += 1
            await asyncio.sleep(0.001)

    writers = [write(node, 2 * number + at) for at, node in enumerate((hold, other)) for number in range(2)]
    readers = [read(node, several) for node in (hold, other) for several in (True, False)]
    await asyncio.gather(*writers, *readers)
    assert late == []
    assert reads > 50
    assert all(len(moments) > 5 for moments in committed.values())
    for node in (hold, other):
        await node.cache.renew()
        found = await node.cache[Visit].get_many(keys)
        assert [row.guests for row in found.values()] == [committed[key][-1][1] for key in keys]


async def test_rows_are_served_while_redis_forgets_and_brings_back_what_it_had(
    postgres_url: str, redis_url: str
) -> None:
    async with opened(postgres_url, redis_url) as a, opened(postgres_url, redis_url, migrate=False) as b:
        key = await added(a, Visit(place="a"))
        await a.cache._write_through.settled()
        await settled(a)
        client: Any = a.cache._redis._server.client  # type: ignore[union-attr]
        [name] = await client.keys(f"*:{key}")
        old = await client.get(name)
        async with a.unit() as unit:
            await unit[Visit].update(key, guests=9)
        await a.cache._write_through.settled()
        await settled(a)
        await client.set(name, old)
        await b.cache.renew()
        assert (await b.cache[Visit].get(key)).guests == 9  # type: ignore[union-attr]
