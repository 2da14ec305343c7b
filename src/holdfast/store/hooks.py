"""Where higher floors join a unit of work: the journal sets its context here, a cache bypasses itself here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.store.unit import Unit

Hook = Callable[["Unit"], Awaitable[None]]


@dataclass(slots=True)
class Hooks:
    """Called for every unit that may write, in order of registration.

    An error in `after_begin` or `before_commit` rolls the unit back. `after_commit` runs when the
    outcome is settled: an error there is logged, and the other hooks still run.
    """

    after_begin: list[Hook] = field(default_factory=list)
    before_commit: list[Hook] = field(default_factory=list)
    after_commit: list[Hook] = field(default_factory=list)
