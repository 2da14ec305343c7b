"""The handlers of one data layer: which there are, that they run, and how they fare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from holdfast.errors import ConfigurationError
from holdfast.journal.handler import Handler, Registered, Running, registered
from holdfast.journal.journal import Journal
from holdfast.journal.status import FollowerStatus
from holdfast.model import Model


class HandlerStatus(msgspec.Struct, frozen=True):
    """One handler.

    Attributes:
        topic: the topic or table it is for; `ops` what must have been done.
        follower: its name in `holdfast journal`.
        state: following, failing, dropped, new; or "never ran".
        handled: how often it was given a change and took it, in all processes together.
        failures, last_error, last_failed: attempts that failed, with what, and when the last one did (seconds since
            1970).
        lag_changes, lag_seconds: what it has not had yet.
        parked: its dead letters: what it could not take, and what waits behind that.
        holder: which process runs it; None when none does.
    """

    name: str
    topic: str
    ops: tuple[str, ...]
    follower: str
    state: str = "never ran"
    handled: int = 0
    failures: int = 0
    last_error: str | None = None
    last_failed: float | None = None
    lag_changes: int = 0
    lag_seconds: float = 0.0
    parked: int = 0
    holder: str | None = None


class Handlers:
    """The handlers of one data layer: its own, and those of the modules that are imported.

    Args:
        given: what their functions may ask for, by the name of its type.
    """

    def __init__(self, journal: Journal, models: Iterable[type[Model]], given: Mapping[str, Any]) -> None:
        self._journal = journal
        self._models = frozenset(models)
        self._tables = {model.__tablename__: model for model in self._models}
        self._given = given
        self._own = Registered()
        self._running: set[str] = set()

    def add(self, handler: Handler) -> None:
        """Keep one more; it runs from the next `start` on.

        Raises:
            ConfigurationError: its name is taken, or its model is not kept here.
        """
        if handler.model is not None and handler.model not in self._models:
            raise ConfigurationError(
                f"the handler {handler.name!r} is for {handler.model.__name__}, which this data layer does not keep;"
                " open it with the model's metadata"
            )
        if handler.model is None and handler.topic in self._tables:
            name = self._tables[handler.topic].__name__
            raise ConfigurationError(
                f"the handler {handler.name!r} is for the topic {handler.topic!r}, which is a table; write on({name})"
            )
        self._own.add(handler)

    def all(self) -> list[Handler]:
        """The handlers, by name; those of imported modules whose models are not kept here are left out.

        Raises:
            ConfigurationError: two have one name.
        """
        together = Registered()
        for handler in (*registered, *self._own):
            if handler.model is None or handler.model in self._models:
                together.add(handler)
        return sorted(together, key=lambda handler: handler.name)

    async def start(self) -> None:
        """Run those that do not run here yet, until the journal is closed.

        Each begins with what comes next when it is new, and else where it stopped; of several processes one runs it.

        Raises:
            ConfigurationError: two have one name. JournalError: there is no journal.
        """
        for handler in self.all():
            if handler.follower in self._running:
                continue
            await self._journal.subscribe(
                handler.follower,
                Running(handler, self._given),
                tables=(handler.topic,),
                wants=handler.wants,
                transactional=handler.transactional,
                start="now",
            )
            self._running.add(handler.follower)

    async def status(self) -> list[HandlerStatus]:
        """How each fares, by name, whichever process runs it. JournalError: there is no journal."""
        known = {follower.name: follower for follower in (await self._journal.status()).followers}
        found = []
        for handler in self.all():
            shown = HandlerStatus(handler.name, handler.topic, tuple(handler.ops), handler.follower)
            if (follower := known.get(handler.follower)) is not None:
                same = {name: getattr(follower, name) for name in _SHARED}
                shown = msgspec.structs.replace(shown, **same)
            found.append(shown)
        return found


_SHARED = tuple(
    name for name in HandlerStatus.__struct_fields__ if name in FollowerStatus.__struct_fields__ and name != "name"
)
