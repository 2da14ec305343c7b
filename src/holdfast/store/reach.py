"""What rows of a model bring with them: by relationships, and by columns that are SELECTs on other models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Table, event, inspect
from sqlalchemy.orm import ColumnProperty, Mapper
from sqlalchemy.sql.selectable import TableClause

from holdfast.errors import ModelError
from holdfast.model import Model, model_of
from holdfast.store.always_joined import is_joined
from holdfast.store.scope import is_scoped
from holdfast.store.sources import tables_of, unreached

Models = frozenset[type[Any]]


@dataclass(frozen=True, slots=True)
class _Reach:
    """Of one mapper: the scoped models behind its columns, and those to which its rows lead."""

    columns: Models
    all_columns: Models  # the deferred ones too
    joined: Models  # by relationships that are always joined
    related: Models  # by any
    strangers: frozenset[TableClause]  # that no model declares, behind its columns and relationships


_known: WeakKeyDictionary[type[Any], _Reach] = WeakKeyDictionary()


def behind_columns(models: Iterable[type[Any]], *, deferred: bool) -> set[type[Any]]:
    """The scoped models that the columns of `models` read, such as `column_property(select(func.count(…)))`.

    Args:
        deferred: whether columns count that are loaded only when they are asked for.

    Raises:
        ModelError: such a column reads the table of a tenanted model by itself, and so could not be confined.
    """
    found: set[type[Any]] = set()
    for model in models:
        reach = _known.get(model) or _reach(model)
        found |= reach.all_columns if deferred else reach.columns
    return found


def strangers(models: Iterable[type[Any]]) -> Iterator[TableClause]:
    """The tables that no model declares which columns and relationships of `models` read."""
    for model in models:
        yield from (_known.get(model) or _reach(model)).strangers


def led_to(models: Iterable[type[Any]], *, every: bool) -> set[type[Any]]:
    """The scoped models that rows of `models` lead to: by relationships that are always joined, or by `every` one."""
    found: set[type[Any]] = set()
    for model in models:
        reach = _known.get(model) or _reach(model)
        found |= reach.related if every else reach.joined
    return found


def _reach(model: type[Any]) -> _Reach:
    mapper = inspect(model)
    every = _linked(mapper, every=True)
    for one in (mapper, *every):
        _refuse_secondary(one)
    reach = _Reach(
        columns=_in_columns(mapper, deferred=False),
        all_columns=_in_columns(mapper, deferred=True),
        joined=_related(mapper, _linked(mapper, every=False), deferred=False),
        related=_related(mapper, every, deferred=True),
        strangers=frozenset(table for one in (mapper, *every) for table in _read_by(one) if not _model_of(table)),
    )
    _known[model] = reach
    return reach


def _in_columns(mapper: Mapper[Any], *, deferred: bool) -> Models:
    found: set[type[Any]] = set()
    for one in mapper.self_and_descendants:
        for attribute in one.column_attrs:
            for expression in attribute.columns if deferred or not attribute.deferred else ():
                if not isinstance(expression, Column):
                    found |= {m for t in tables_of(expression) if (m := _model_of(t)) is not None and is_scoped(m)}
                    _refuse_tables(one, attribute, expression)
    return frozenset(found)


def _read_by(mapper: Mapper[Any]) -> Iterator[TableClause]:
    for one in mapper.self_and_descendants:
        for attribute in one.column_attrs:
            for expression in attribute.columns:
                yield from () if isinstance(expression, Column) else tables_of(expression)
        for link in one.relationships:
            for part in (link.secondary, link.primaryjoin, link.secondaryjoin):
                yield from () if part is None else tables_of(part)


def _model_of(table: TableClause) -> type[Any] | None:
    return model_of(table) if isinstance(table, Table) else None


def _refuse_tables(mapper: Mapper[Any], attribute: ColumnProperty[Any], expression: Any) -> None:
    for table in unreached(expression, around=frozenset(mapper.tables)):
        model = model_of(table)
        if model is not None and not model.__policy__.is_shared:
            raise ModelError(
                f"{mapper.class_.__name__}.{attribute.key} reads the table {table.name} of the {_kind(model)} model"
                f" {model.__name__}, which no unit could confine; write its SELECT on {model.__name__} and its"
                f" attributes, as in select(func.count({model.__name__}.id))"
            )


def _kind(model: type[Any]) -> str:
    return "internal" if model.__policy__.internal else "tenanted"


def _refuse_secondary(mapper: Mapper[Any]) -> None:
    """A join through a model's table reads it as it is: criteria reach the models at both ends alone."""
    for link in mapper.relationships:
        through = model_of(link.secondary) if isinstance(link.secondary, Table) else None
        if through is not None and not through.__policy__.is_shared:
            raise ModelError(
                f"{mapper.class_.__name__}.{link.key} goes through the table of the {_kind(through)} model"
                f" {through.__name__}, which no unit could confine; write a relationship to {through.__name__},"
                f" and from there to {link.mapper.class_.__name__}"
            )


def _linked(mapper: Mapper[Any], *, every: bool) -> set[Mapper[Any]]:
    seen: set[Mapper[Any]] = set()
    pending = [link.mapper for link in mapper.relationships if every or is_joined(link)]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += [link.mapper for link in one.relationships if every or is_joined(link)]
    return seen


def _related(mapper: Mapper[Any], linked: set[Mapper[Any]], *, deferred: bool) -> Models:
    found = {one.class_ for one in linked if is_scoped(one.class_)}
    found.update(*(_in_columns(one, deferred=deferred) for one in (mapper, *linked)))
    return frozenset(found)


@event.listens_for(Model, "attribute_instrument", propagate=True)
def _forget(model: type[Any], name: str, attribute: Any) -> None:
    """A class may be given a column or a relationship after rows of it were read."""
    _known.clear()
