"""What a flush of Python objects adds and refuses: whose row it is, and who wrote it.

An UPDATE or a DELETE of a flush names the key alone. So a row that this session has not read itself, which only says
whose it is (`add` of a row read elsewhere, `make_transient_to_detached`, `merge(load=False)`), is looked up first.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, event, inspect, select
from sqlalchemy.orm import InstanceState, Mapper, Session, object_session
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.selectable import SelectBase

from holdfast.errors import InvalidValue, WrongTenant
from holdfast.model import Attributed, Model, model_of
from holdfast.store.keys import key_of
from holdfast.store.scope import ALL, DELETED, Scope, ScopedSession, scope_of, tenant_attribute
from holdfast.store.sources import tables_of

_UNSEEN = "holdfast_unseen"  # of a session: the states of tenanted rows that it has not read itself
_ROWS = 200  # a statement: SQLite takes expressions of depth 1,000


@event.listens_for(Model, "before_insert", propagate=True)
def _inserting(mapper: Mapper[Any], connection: Connection, row: Model) -> None:
    scope = scope_of(object_session(row))
    if scope is None:
        return
    _own(scope, row)
    _refuse_what_a_flush_would_not_confine(scope, row)
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
    _refuse_what_a_flush_would_not_confine(scope, row)
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


def _refuse_what_a_flush_would_not_confine(scope: Scope, row: Any) -> None:
    """Refuse a SELECT that was given for a value: a flush is no statement of the ORM, and would run it as it is."""
    for name, value in inspect(row).dict.items():
        expression = value.__clause_element__() if hasattr(value, "__clause_element__") else value
        if isinstance(expression, ClauseElement):
            _refuse_expression(scope, type(row), name, expression)


def _refuse_expression(scope: Scope, model: type[Any], name: str, expression: ClauseElement) -> None:
    read = {table for table in tables_of(expression) if table is not model.__table__}
    inner = (element for element in visitors.iterate(expression) if isinstance(element, SelectBase))
    read.update(table for statement in inner for table in tables_of(statement))
    for table in read:
        other = model_of(table) if isinstance(table, Table) else None
        if other is None:
            scope.refuse_namesake(table)
        if other is not None and scope.criterion(other, deleted=False) is not None:
            told = (
                f"{model.__name__}.{name} is given an expression on {other.__name__}, whose rows a flush would not"
                f" confine; read the value first, or write it by unit[{model.__name__}].update(…, {name}=…)"
            )
            raise InvalidValue(told) if other.__policy__.is_shared else WrongTenant(told)


@event.listens_for(ScopedSession, "after_attach")
def _note_what_was_not_read(session: Session, row: Any) -> None:
    state: InstanceState[Any] = inspect(row)
    if state.key is not None and getattr(type(row), "__policy__", None) and not type(row).__policy__.is_shared:
        session.info.setdefault(_UNSEEN, set()).add(state)


@event.listens_for(ScopedSession, "before_flush")
def _see_what_was_not_read(session: Session, context: Any, rows: Any) -> None:
    unseen: set[InstanceState[Any]] = session.info.get(_UNSEEN) or set()
    scope = scope_of(session)
    if not unseen or scope is None or scope.tenant is ALL:
        return
    mine = [state for state in unseen if state.session is session]
    by_model = sorted(mine, key=lambda state: (state.mapper.class_.__module__, state.mapper.class_.__qualname__))
    for model, states in groupby(by_model, key=lambda state: state.mapper.class_):
        key = key_of(model)
        wanted = [s.key[1][0] if len(s.key[1]) == 1 else tuple(s.key[1]) for s in states if s.key is not None]
        for start in range(0, len(wanted), _ROWS):
            part = wanted[start : start + _ROWS]
            columns = [getattr(model, name) for name in key.names]
            seen = session.execute(select(*columns).where(key.among(part)).execution_options(**{DELETED: True})).all()
            if len(seen) < len(set(part)):
                raise WrongTenant(
                    f"this unit has been given a row of {model.__name__} that it did not read and cannot see: it is"
                    f" another tenant's, or gone; read it here: await unit[{model.__name__}].get(…)"
                )
    unseen.clear()
