"""Keys that do not leak across tenants: the constraints a tenanted table must have.

A unique constraint without the tenant tells one tenant what another has; a foreign key without it lets
one tenant's row point at another's. See docs/adr/0003.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from holdfast.errors import ModelError


def add_tenant_key(table: Table, tenant: str) -> None:
    """Add UNIQUE (tenant, key…), the target of composite foreign keys."""
    key = tuple(str(c.name) for c in table.primary_key.columns)
    wanted = (tenant, *key)
    if tenant in key:  # the table of the tenants themselves, or a key that says whose it is
        return
    if not any(isinstance(c, UniqueConstraint) and _names(c) == wanted for c in table.constraints):
        table.append_constraint(UniqueConstraint(*wanted))


def check_tenanted(model: type[Any], tenant: str) -> None:
    """Raise `ModelError` where a constraint or an index of `model` would cross tenants."""
    table: Table = model.__table__
    where = f"{model.__name__} is tenanted by {tenant!r}"
    if table.columns[tenant].nullable:
        raise ModelError(f"{where}, but the column may be NULL; declare it Mapped[…] without None")
    key = [str(c.name) for c in table.primary_key.columns]
    if "id" not in key and tenant not in key:
        raise ModelError(f"{where}, but its key ({', '.join(key)}) spans tenants; make {tenant!r} a part of it")
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and tenant not in _names(constraint):
            columns = ", ".join(_names(constraint))
            raise ModelError(f"{where}, but UNIQUE ({columns}) spans tenants; write UNIQUE ({tenant}, {columns})")
    for index in table.indexes:
        names = _names(index)
        if index.unique and tenant not in names:
            raise ModelError(f"{where}, but the unique index {index.name} spans tenants; add {tenant!r} to it")
        if not index.unique and names[:1] != (tenant,):
            raise ModelError(f"{where}, but the index {index.name} does not lead with it; put {tenant!r} first")


def check_foreign_keys(models: list[type[Any]]) -> None:
    """Raise `ModelError` for a foreign key between tenanted tables that leaves the tenant out.

    Called when all models are known (a target may be declared after its source).
    """
    tenants = {m.__table__.name: m.__policy__.tenant for m in models if m.__policy__.tenant}
    for model in models:
        tenant = model.__policy__.tenant
        if tenant is None:
            continue
        for constraint in model.__table__.constraints:
            if not isinstance(constraint, ForeignKeyConstraint):
                continue
            columns = tuple(constraint.column_keys)
            names = [e.target_fullname.split(".") for e in constraint.elements]
            target = names[0][-2]
            if target in tenants and (tenant, tenants[target]) not in zip(columns, (n[-1] for n in names), strict=True):
                raise ModelError(
                    f"{model.__name__}: the foreign key ({', '.join(columns)}) to {target} leaves the tenant out;"
                    f" write ForeignKeyConstraint(({tenant!r}, …), ('{target}.{tenants[target]}', …))"
                )


def _names(item: UniqueConstraint | PrimaryKeyConstraint | Index) -> tuple[str, ...]:
    return tuple(c.name for c in item.columns)
