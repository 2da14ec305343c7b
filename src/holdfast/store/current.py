"""What the current task has to do with units of work: those that it has open, and its last commit.

Who keeps what was read (a cache) asks here what this task must see: its own writes, and nothing older than its commits.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from holdfast.store.store import Store
    from holdfast.store.unit import Unit


class Current(NamedTuple):
    """What one task has open, and has committed.

    Attributes:
        units: those that this task has open, or had open where it was started.
        commit: the number of its last commit; of those of this process each has a higher one than those before it.
    """

    units: tuple[Unit, ...]
    commit: int


NOTHING = Current((), 0)
_numbers = count(1)
_newest = 0
current: ContextVar[Current | None] = ContextVar("holdfast_current", default=None)
"""None where the task has neither opened a unit nor committed one."""

keeping: ContextVar[bool] = ContextVar("holdfast_keeping", default=False)
"""Whether what this task reads is kept as what is: then it is read where that is known, and from no replica."""


def opened(unit: Unit) -> None:
    """The current task has opened `unit`."""
    unit.task = asyncio.current_task()
    now = current.get() or NOTHING
    current.set(now._replace(units=(*now.units, unit)))


def closed(unit: Unit) -> None:
    """The current task has closed `unit`."""
    unit.is_open, unit.task = False, None
    now = current.get() or NOTHING
    left = tuple(one for one in now.units if one.is_open)
    current.set(now._replace(units=left) if left or now.commit else None)


def committed() -> None:
    """The current task has committed something, or may have."""
    global _newest
    _newest = next(_numbers)
    current.set((current.get() or NOTHING)._replace(commit=_newest))


def own_unit(store: Store) -> Unit | None:
    """The unit of this store that the current task itself has open for writing; None where there is none."""
    state = current.get()
    if state is None or not state.units:
        return None
    task = asyncio.current_task()
    for unit in reversed(state.units):
        if unit.is_open and unit.store is store and not unit.read_only:
            return unit if unit.task is task else None
    return None


def newest_commit() -> int:
    """The number of the last commit of this process."""
    return _newest
