"""One row of a resource, by its id or by its key."""

from __future__ import annotations

import contextlib
from typing import Any

from holdfast.errors import NotFound
from holdfast.http.exposed import Resource
from holdfast.http.values import UUID_KIND
from holdfast.model import Model
from holdfast.store import Query, Unit

PATH = "/v1/resources"


async def find(unit: Unit, resource: Resource, text: str, *, lock: bool = False) -> Model:
    """The row with an id, or with the value of the resource's key.

    Args:
        lock: keep others from changing it until the unit ends.

    Raises:
        NotFound: there is none that this unit sees.
    """
    conditions: list[Any] = []
    model: Any = resource.model
    for name, kind in (("id", UUID_KIND), (resource.expose.key, resource.key_kind)):
        with contextlib.suppress(ValueError, OverflowError):  # what a column cannot hold, no row has
            if name is not None and kind is not None:
                conditions.append(getattr(model, name) == kind.read(text))
    for condition in conditions:
        statement = Query(resource.model).where(condition).limit(1).build()
        if lock:
            statement = statement.with_for_update(of=model)
        row: Model | None = (await unit.execute(statement)).scalars().first()
        if row is not None:
            return row
    raise not_found(resource, text)


def not_found(resource: Resource, text: str) -> NotFound:
    """What is raised for a row that is not there."""
    by = "id, a UUID" if resource.expose.key is None else f"id or {resource.expose.key}"
    return NotFound(f"{resource.name} has no row {text[:80]!r}; rows are asked for by {by}")
