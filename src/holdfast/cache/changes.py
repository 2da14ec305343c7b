"""Which tags a change of the journal touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.cache import tags
from holdfast.cache.aspect import Tier
from holdfast.journal import EVERYTHING, Change, Event
from holdfast.journal.templates import renderer
from holdfast.model import Model


class CacheCleared(Event, topic="cache_cleared"):
    """Somebody ended values by hand; its tags in the journal say which: `=<key>` of keys, `*` of all."""


EVENT = CacheCleared.topic

ALL = "*"
"""The tag of an event that clears everything."""

MEMORY = "!memory"
"""The tag of an event on which every node drops what it has in memory, whether it may still be served or not."""

_Renderer = Callable[[Mapping[str, Any]], str | None]


class ChangedTags:
    """Knows the templates of the models' tags."""

    def __init__(self, models: Iterable[type[Model]]) -> None:
        self._templates: dict[str, tuple[_Renderer, ...]] = {}
        for model in models:
            templates = [template for aspect in model.__policy__.all(Tier) for template in aspect.tags]
            self._templates[model.__tablename__] = tuple(map(renderer, dict.fromkeys(templates)))

    def of(self, change: Change) -> set[str] | None:
        """The tags that `change` touches, before it and after it; None when it may be anything."""
        if change.op == "event":
            told = change.new or {}
            found = {str(tag) for tag in told.get("tags") or ()}
            return None if ALL in found and change.table == EVENT else {*found, change.table}
        if change.table == EVERYTHING or change.op == "reset":
            return None
        found = set(tags.of_row(change.table, change.key))
        for render in self._templates.get(change.table, ()):
            for facts in (change.old, change.new):
                if facts is not None and (tag := render(facts)) is not None:
                    found.add(tag)
        return found
