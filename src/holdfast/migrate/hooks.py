"""What runs before migrations do: a backup, an announcement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from holdfast.errors import HoldfastError, MigrationError
from holdfast.migrate.files import Direction
from holdfast.store import Store


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be run, in this order, on the database at `place`.

    Attributes:
        revisions: none where what the models lack is made without migrations.
    """

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


async def announce(hooks: Sequence[Before], store: Store, planned: Planned) -> None:
    """Await the hooks in turn.

    Raises:
        MigrationError: one raised, and nothing is to be run.
    """
    for hook in hooks:
        try:
            await hook(store, planned)
        except HoldfastError:
            raise
        except Exception as error:
            name, told = getattr(hook, "__qualname__", repr(hook)), f"{type(error).__name__}: {error}"
            raise MigrationError(
                f"{name}, which runs before migrations, stopped them; nothing was run: {told}"
            ) from error
