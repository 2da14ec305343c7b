"""Look-ups that several callers share."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.shared import Coalesced, Kept


class Slow:
    """A look-up that takes its time."""

    def __init__(self) -> None:
        self.now = 0
        self.made = 0

    async def look(self) -> int:
        seen = self.now
        await asyncio.sleep(0.02)
        self.made += 1
        return seen


async def test_a_shared_look_up_never_began_before_it_was_asked_for() -> None:
    slow = Slow()
    shared = Coalesced(slow.look)

    async def ask(delay: float) -> None:
        await asyncio.sleep(delay)
        slow.now += 1
        asked = slow.now
        assert await shared.get() >= asked

    await asyncio.gather(*(ask(n * 0.001) for n in range(100)))
    assert slow.made < 20


@given(
    asked=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    took=st.lists(st.integers(0, 6), min_size=1, max_size=5),
)
def test_one_look_up_is_under_way_at_a_time_and_began_after_whoever_gets_it_asked(
    asked: list[int], took: list[int]
) -> None:
    """Times are turns of the event loop."""
    begun = running = 0

    async def load() -> int:
        nonlocal begun, running
        running += 1
        assert running == 1
        begun += 1
        mine = begun
        await turns(took[mine % len(took)])
        running -= 1
        return mine

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def all_ask() -> None:
        shared = Coalesced(load)

        async def ask(after: int) -> None:
            await turns(after)
            before = begun
            assert await shared.get() > before

        await asyncio.gather(*map(ask, asked))

    asyncio.run(all_ask())
    assert begun <= len(asked)


async def test_a_shared_look_up_outlives_whoever_stopped_waiting_for_it() -> None:
    slow = Slow()
    shared = Coalesced(slow.look)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 0


async def test_a_failure_reaches_all_who_asked_and_the_next_look_up_is_a_new_one() -> None:
    outcomes = [LookupError("gone"), "back"]

    async def load() -> str:
        await asyncio.sleep(0.01)
        outcome = outcomes.pop(0)
        if isinstance(outcome, LookupError):
            raise outcome
        return outcome

    shared = Coalesced(load)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    second = asyncio.create_task(shared.get())
    with pytest.raises(LookupError):
        await first
    assert await second == "back"


async def test_a_kept_value_is_looked_up_once_for_all_and_again_when_its_time_is_over() -> None:
    looks = 0

    async def load() -> int:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)
        return looks

    kept = Kept(load, 0.2)
    assert await asyncio.gather(*(kept.get() for _ in range(5))) == [1] * 5
    await asyncio.sleep(0.25)
    assert await kept.get() == 2
