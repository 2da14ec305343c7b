"""What a task may take from the cache while it writes, and after."""

from __future__ import annotations

from typing import Literal

from holdfast.store.current import Current, current


def sees_own(covers: int) -> bool:
    """Whether who knows of the commits of this process up to number `covers` knows of all that this task has made."""
    state = current.get()
    return state is None or state.commit <= covers


def leaves_alone(covers: int) -> bool:
    """Whether this task has to leave the cache alone; see `verdict`."""
    state = current.get()
    return state is not None and verdict(state, covers) == "bypass"


def verdict(state: Current, covers: int) -> Literal["use", "renew", "bypass"]:
    """What a task may do that has units open, or has committed: use the cache, once it is renewed, or leave it alone.

    Inside a unit that has written, the database says what nobody else may see yet; and inside a snapshot it says what
    was, which nobody may keep as what is.

    Args:
        covers: the commit of this process that the cache knows of.
    """
    if state.units and any(unit.is_open and (unit.has_written or unit.is_snapshot) for unit in state.units):
        return "bypass"
    return "use" if state.commit <= covers else "renew"
