"""`Expose`: which part of a model the outside may read, and write.

It is declared on the lowest floor because models of every floor carry it; `http` carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ModelError
from holdfast.model.encrypted import blind_columns, encrypted_columns, refuse_encrypted
from holdfast.model.mixins import Attributed, SoftDeleted, Timestamps, Versioned
from holdfast.model.policy import Aspect, require_columns

WRITES = ("create", "update", "delete")
_OPERATIONS = ("read", *WRITES)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SCOPE = re.compile(r"[!-)+-~]{1,100}")  # what a scope of a key may be, but for the *
_KEPT = {
    Timestamps: ("created_at", "updated_at"),
    Attributed: ("created_by", "updated_by"),
    Versioned: ("version",),
    SoftDeleted: ("deleted_at", "deleted_by"),
}


class Expose(Aspect):
    """Gives the model a resource at `/v1/resources/{name}`.

    Args:
        name: the resource's name, lower case with dashes; the table's name by default.
        filters: columns that a request may filter by (`?rating[gte]=4`).
        sort: columns that a request may sort by.
        fields: columns that are shown; all but encrypted and the policy's `private` and `secret` ones by default.
        include: relationships that a request may load along.
        key: the unique column a single row is asked for by, besides `id`.
        writes: what a caller with an API key may do beside reading: some of "create", "update" and "delete".
        writable: the columns that he may set; never the id, the tenant, a `secret` one, or one that the library keeps.
        scope: what a key needs, and that reading needs one too: `"crm"` for `crm:read` and `crm:write`, or a scope for
            each operation, `{"create": "crm:add", "delete": "crm:admin"}`, of which "read" closes reading. Unless
            given it is the resource's name, and rows that belong to no tenant are read without a key.
        must_match: refuse (428) to change or delete a row without `If-Match`, so that nobody overwrites what he has
            not seen.
        cached: serve single rows from the cache, as fresh as its tier's `max_staleness` says.
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
        writes: tuple[str, ...] = (),
        writable: tuple[str, ...] = (),
        scope: str | Mapping[str, str] | None = None,
        must_match: bool = False,
        cached: bool = False,
    ) -> None:
        for part, given in (("writes", writes), ("writable", writable)):
            if isinstance(given, str):
                raise ModelError(f"Expose({part}=…) takes a tuple: write {part}=({given!r},)")
        self.name = name
        self.filters = filters
        self.sort = sort
        self.fields = fields
        self.include = include
        self.key = key
        self.writes = tuple(writes)
        self.writable = tuple(writable)
        self.scope = scope
        self.must_match = must_match
        self.cached = cached

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
        self._check_writes(model)
        self._check_scopes(model)

    def _check_writes(self, model: type[Any]) -> None:
        for name in self.writes:
            if name not in WRITES:
                raise ModelError(f"{model.__name__}: Expose(writes=…) names {name!r}; it may name {', '.join(WRITES)}")
        require_columns(model, self.writable, "Expose(writable=…)")
        policy = model.__policy__
        blind = set(blind_columns(model.__table__).values())
        kept = {name for mixin, names in _KEPT.items() if issubclass(model, mixin) for name in names}
        for name in self.writable:
            column = model.__table__.columns[name]
            if column.primary_key or name == policy.tenant or name in kept | blind or name in policy.secret:
                raise ModelError(
                    f"{model.__name__}: Expose(writable=…) names {name!r}, which no caller may set: it is a key, the"
                    " tenant, secret, or kept by the library"
                )
        setting = {"create", "update"} & set(self.writes)
        if bool(setting) != bool(self.writable):
            raise ModelError(
                f"{model.__name__}: Expose(writes={self.writes!r}, writable={self.writable!r}) does not fit: name the"
                ' columns that a caller may set, and "create" or "update" in writes'
            )
        if "create" in self.writes:
            for column in model.__table__.columns:
                given = column.name in self.writable or column.name == policy.tenant or column.name in kept
                if not (given or column.nullable or column.default is not None or column.server_default is not None):
                    raise ModelError(
                        f"{model.__name__}: Expose(writes=…) creates rows, but {column.name} must be given and no"
                        " caller may: name it in writable, or give it a default"
                    )
        if self.must_match and not {"update", "delete"} & set(self.writes):
            raise ModelError(f'{model.__name__}: Expose(must_match=True) is for writes=("update",) or ("delete",)')

    def _check_scopes(self, model: type[Any]) -> None:
        if self.scope is None:
            return
        given = {"read": self.scope} if isinstance(self.scope, str) else dict(self.scope)
        for operation, scope in given.items():
            if operation not in _OPERATIONS:
                known = ", ".join(_OPERATIONS)
                raise ModelError(f"{model.__name__}: Expose(scope=…) names {operation!r}; it may name {known}")
            if not isinstance(scope, str) or _SCOPE.fullmatch(scope) is None:
                raise ModelError(
                    f"{model.__name__}: Expose(scope=…) has {scope!r}, which is no scope, such as 'crm' or 'crm:add'"
                )

    def scope_of(self, model: type[Any], operation: str) -> str:
        """The scope that an operation ("read", "create", "update", "delete") needs where a key is needed."""
        kind = "read" if operation == "read" else "write"
        if isinstance(self.scope, Mapping):
            return self.scope.get(operation) or f"{self.resource(model)}:{kind}"
        return f"{self.scope or self.resource(model)}:{kind}"

    @property
    def is_closed(self) -> bool:
        """Whether reading needs a key, because the declaration says so."""
        return isinstance(self.scope, str) or (self.scope is not None and "read" in self.scope)

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
