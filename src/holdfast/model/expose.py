"""`Expose`: which part of a model the outside may read.

It is declared on the lowest floor because models of every floor carry it; `http` carries it out.
"""

from __future__ import annotations

import re
from typing import Any

from holdfast.errors import ModelError
from holdfast.model.encrypted import blind_columns, encrypted_columns, refuse_encrypted
from holdfast.model.policy import Aspect, require_columns

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Expose(Aspect):
    """Gives the model a resource at `/v1/resources/{name}`.

    Args:
        name: the resource's name, lower case with dashes; the table's name by default.
        filters: columns that a request may filter by (`?rating[gte]=4`).
        sort: columns that a request may sort by.
        fields: columns that are shown; all but encrypted and the policy's `private` and `secret` ones by default.
        include: relationships that a request may load along.
        key: the unique column a single row is asked for by, besides `id`.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        filters: tuple[str, ...] = (),
        sort: tuple[str, ...] = (),
        fields: tuple[str, ...] = (),
        include: tuple[str, ...] = (),
        key: str | None = None,
    ) -> None:
        self.name = name
        self.filters = filters
        self.sort = sort
        self.fields = fields
        self.include = include
        self.key = key

    def check(self, model: type[Any]) -> None:
        """Raise `ModelError` for a column that is not there, or a secret one that would be shown."""
        if model.__policy__.internal:
            raise ModelError(
                f"{model.__name__} is internal, and Expose would show it to everybody; leave out one of the two"
            )
        if "id" not in model.__table__.columns:
            raise ModelError(f"{model.__name__} has no id, by which Expose shows a row; declare it as a Model")
        for part, names in (("filters", self.filters), ("sort", self.sort), ("fields", self.fields)):
            require_columns(model, names, f"Expose({part}=…)")
            refuse_encrypted(model, names, f"Expose({part}=…)")
            for name in names:
                if name in model.__policy__.secret:
                    raise ModelError(
                        f"{model.__name__}: Expose({part}=…) names {name!r}, which the policy keeps secret"
                    )
        if self.key is not None:
            require_columns(model, (self.key,), "Expose(key=…)")
            refuse_encrypted(model, (self.key,), "Expose(key=…)")
        if not _NAME.fullmatch(self.resource(model)):
            raise ModelError(
                f"{model.__name__}: the resource name {self.resource(model)!r} is not lower case with dashes"
            )

    def resource(self, model: type[Any]) -> str:
        """The resource's name in URLs."""
        return self.name or str(model.__tablename__).replace("_", "-")

    def shown(self, model: type[Any]) -> tuple[str, ...]:
        """The columns that are shown, `id` first."""
        policy = model.__policy__
        hidden = {str(c.name) for c in encrypted_columns(model.__table__)}
        kept = {*policy.private, *policy.secret, *hidden, *blind_columns(model.__table__).values()}
        names = self.fields or tuple(c.name for c in model.__table__.columns if c.name not in kept)
        return ("id", *(name for name in names if name != "id"))
