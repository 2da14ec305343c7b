"""What the journal got from a part of a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast.hold import Holdfast
from holdfast.journal import Change


class Changes(list[Change]):
    """The changes of a block, once it has ended."""


@asynccontextmanager
async def assert_changes(hold: Holdfast, **expected: int) -> AsyncIterator[Changes]:
    """Fail when the block commits other changes than are expected: how many, by `<table>_<insert|update|delete>`.

    Without `expected` nothing is asserted about their number; look at them after the block. To assert that there are
    none, give a table with 0, or compare the list with `[]`.

    Raises:
        AssertionError: the message lists what there was.

    Example::

        async with assert_changes(hold, notes_insert=1, tags_insert=2) as changes:
            await create_note(hold, "hold fast")
        assert changes[0].actor == "ada"
    """
    before = await hold.journal.make_tick()
    seen = Changes()
    yield seen
    after = await hold.journal.make_tick()
    async for page in hold.journal.read(before, after):
        seen += page.changes
    if not expected:
        return
    found = Counter(f"{change.table}_{change.op}" for change in seen)
    wanted = Counter(expected)
    if +found != +wanted:
        told = ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "nothing"
        asked = ", ".join(f"{name} {count}" for name, count in sorted(wanted.items()))
        raise AssertionError(f"the journal got {told}; expected was {asked}")
