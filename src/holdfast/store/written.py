"""Which rows a unit has written one by one, for who reads them again once it is committed."""

from __future__ import annotations

from typing import Any

from holdfast.model import Model
from holdfast.store.keys import key_of
from holdfast.store.scope import tenant_attribute


class Written:
    """The keys of rows of some models that a unit has flushed, updated or restored. Rows written in bulk are not there.

    Attributes:
        keys: by model, with the tenant's value in the row; None where the model has no tenant.
    """

    __slots__ = ("_models", "keys")

    def __init__(self, models: frozenset[type[Model]]) -> None:
        self._models = models
        self.keys: dict[type[Model], set[tuple[Any, Any]]] = {}

    def note(self, row: Any) -> None:
        """`row` was written, if its model is one of those."""
        model = type(row)
        if model in self._models:
            tenanted = model.__policy__.tenant is not None
            whose = row.__dict__.get(tenant_attribute(model)) if tenanted else None
            self.keys.setdefault(model, set()).add((key_of(model).of(row), whose))
