"""What a flush of Python objects adds and refuses: whose row it is, and who wrote it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Mapper, object_session

from holdfast.errors import WrongTenant
from holdfast.model import Attributed, Model
from holdfast.store.scope import Scope, scope_of, tenant_attribute


@event.listens_for(Model, "before_insert", propagate=True)
def _inserting(mapper: Mapper[Any], connection: Connection, row: Model) -> None:
    scope = scope_of(object_session(row))
    if scope is None:
        return
    _own(scope, row)
    if isinstance(row, Attributed):
        row.created_by = row.created_by if row.created_by is not None else scope.actor
        row.updated_by = row.updated_by if row.updated_by is not None else scope.actor


@event.listens_for(Model, "before_update", propagate=True)
def _updating(mapper: Mapper[Any], connection: Connection, row: Model) -> None:
    session = object_session(row)
    scope = scope_of(session)
    if session is None or scope is None or not session.is_modified(row, include_collections=False):
        return
    _own(scope, row, moved=True)
    if isinstance(row, Attributed):
        row.updated_by = scope.actor


@event.listens_for(Model, "before_delete", propagate=True)
def _deleting(mapper: Mapper[Any], connection: Connection, row: Model) -> None:
    scope = scope_of(object_session(row))
    if scope is not None:
        _own(scope, row)


def _own(scope: Scope, row: Any, *, moved: bool = False) -> None:
    """Make `row` one of the unit's tenant if it names none; refuse it if it is another's, or was."""
    model = type(row)
    value = scope.tenant_of(model)
    if value is None:
        return
    name = tenant_attribute(model)
    if getattr(row, name) is None:
        setattr(row, name, value)
    if getattr(row, name) != value or (moved and inspect(row).attrs[name].history.has_changes()):
        raise other_tenant(model)


def other_tenant(model: type[Any]) -> WrongTenant:
    """What is raised for a row of another tenant than the unit's."""
    return WrongTenant(
        f"a row of {model.__name__} names another tenant than its unit; leave {model.__policy__.tenant} out, or open"
        " the unit with that tenant, or with tenant=ALL"
    )
