"""What rows of a model bring with them: by relationships, and by columns that are SELECTs on other models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Table, event, inspect
from sqlalchemy.orm import ColumnProperty, Mapper

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


def led_to(models: Iterable[type[Any]], *, every: bool) -> set[type[Any]]:
    """The scoped models that rows of `models` lead to: by relationships that are always joined, or by `every` one."""
    found: set[type[Any]] = set()
    for model in models:
        reach = _known.get(model) or _reach(model)
        found |= reach.related if every else reach.joined
    return found


def _reach(model: type[Any]) -> _Reach:
    mapper = inspect(model)
    _refuse_secondary(mapper)
    reach = _Reach(
        columns=_in_columns(mapper, deferred=False),
        all_columns=_in_columns(mapper, deferred=True),
        joined=_related(mapper, every=False),
        related=_related(mapper, every=True),
    )
    _known[model] = reach
    return reach


def _in_columns(mapper: Mapper[Any], *, deferred: bool) -> Models:
    found: set[type[Any]] = set()
    for one in mapper.self_and_descendants:
        for attribute in one.column_attrs:
            for expression in attribute.columns if deferred or not attribute.deferred else ():
                if not isinstance(expression, Column):
                    found |= {m for t in tables_of(expression) if (m := model_of(t)) is not None and is_scoped(m)}
                    _refuse_tables(one, attribute, expression)
    return frozenset(found)


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


def _related(mapper: Mapper[Any], *, every: bool) -> Models:
    seen: set[Mapper[Any]] = set()
    pending = [link.mapper for link in mapper.relationships if every or is_joined(link)]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += [link.mapper for link in one.relationships if every or is_joined(link)]
    found = {one.class_ for one in seen if is_scoped(one.class_)}
    found.update(*(_in_columns(one, deferred=every) for one in (mapper, *seen)))
    return frozenset(found)


@event.listens_for(Model, "attribute_instrument", propagate=True)
def _forget(model: type[Any], name: str, attribute: Any) -> None:
    """A class may be given a column or a relationship after rows of it were read."""
    _known.clear()
