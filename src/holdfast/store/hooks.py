"""Where what lies above the store joins a unit of work: the journal sets its context here and takes its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from holdfast.store.unit import Unit

Hook = Callable[["Unit"], Awaitable[None]]


class Emit(Protocol):
    """Writes an event of a unit into the journal."""

    async def __call__(self, unit: Unit, topic: str | object, *, tags: Iterable[str], data: Any) -> None: ...


@dataclass(slots=True)
class Hooks:
    """Called for every unit that may write, in order of registration.

    An error in `after_begin` or `before_commit` rolls the unit back. `after_commit` runs when the
    outcome is settled: an error there is logged, and the other hooks still run.
    """

    after_begin: list[Hook] = field(default_factory=list)
    before_commit: list[Hook] = field(default_factory=list)
    after_commit: list[Hook] = field(default_factory=list)
    emit: Emit | None = None
