"""Changes of the journal without what is private in them, for whoever is shown them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from holdfast.guard.audit.entries import PRIVATE, TOPIC
from holdfast.journal import Change
from holdfast.model import Model


def masking(models: Iterable[type[Model]]) -> Callable[[Change], Change]:
    """A function that takes the values of private and secret columns, and what is private of our events, out."""
    hidden = {str(model.__tablename__): {*model.__policy__.private, *model.__policy__.secret} for model in models}

    def masked(change: Change) -> Change:
        names = {"data"} if change.op == "event" and change.table == TOPIC else hidden.get(change.table)
        if not names:
            return change
        return msgspec.structs.replace(change, old=_without(change.old, names), new=_without(change.new, names))

    return masked


def _without(facts: dict[str, Any] | None, names: set[str]) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {name: PRIVATE if name in names and value is not None else value for name, value in facts.items()}
