"""What runs before migrations do: a backup, an announcement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from holdfast.migrate.files import Direction
from holdfast.store import Store


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be run, in this order, on the database at `place`."""

    place: str
    direction: Direction
    revisions: tuple[str, ...]


Before = Callable[[Store, Planned], Awaitable[None]]
B = TypeVar("B", bound=Before)

registered: list[Before] = []


def before_migrate(hook: B) -> B:
    """Have `hook(store, planned)` awaited before migrations run in this process; what it raises stops them.

    Example::

        @before_migrate
        async def back_up(store: Store, planned: Planned) -> None: ...
    """
    registered.append(hook)
    return hook
