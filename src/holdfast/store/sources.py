"""What a statement reads: its tables, and which of them the criteria of their models would not reach.

SQLAlchemy adds a model's criteria to a SELECT that names the model among its columns or in its FROM. A table that gets
into FROM by another way (a column of `Model.__table__`, a condition alone, UPDATE … FROM) it reads as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import CTE, Join, Select, Subquery, Table, inspect
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    FromClause,
    Lateral,
    SelectBase,
    TableClause,
    TableValuedAlias,
)

from holdfast.store.raw_text import has_text_beside, is_operator, is_text

Froms = frozenset[Any]
_NONE: Froms = frozenset()
# By what SQLAlchemy's compiler calls them; asked for first, since most of what a walk meets is neither.
_OPERATIONS = frozenset(("binary", "unary"))
_SPEAKING = (
    frozenset(("table", "column", "textclause", "tstring", "select", "insert", "update", "delete", "cte")) | _OPERATIONS
)


def tables_of(statement: Any) -> Iterator[TableClause]:
    """Every table that `statement` speaks of, each as often as it does, also those that no model declares."""
    return (element for element in spoken_of(statement) if isinstance(element, TableClause))


def spoken_of(statement: Any) -> Iterator[Any]:
    """Every table in `statement` and whatever has text in it that somebody wrote out, each as often as it is there."""
    found: Iterator[Any] = visitors.iterate(statement)
    for element in found:
        kind = element.__visit_name__
        if kind not in _SPEAKING:
            continue
        if kind == "column":
            if element.is_literal:
                yield element
            elif isinstance(element.table, TableClause):
                yield element.table  # an UPDATE or a DELETE does not show what it reads beside its own
        elif kind in _OPERATIONS:
            if is_operator(element):
                yield element
        elif isinstance(element, TableClause) or is_text(element):
            yield element
        else:
            if has_text_beside(element):
                yield element
            # SQLAlchemy's own walk passes over what follows.
            if isinstance(element, UpdateBase):
                for value in _overlooked(element):
                    yield from spoken_of(value)
            elif isinstance(element, Select):
                for target, link, *_ in element._setup_joins:
                    if isinstance(link, QueryableAttribute):
                        yield from spoken_of(inspect(link).entity.selectable)
                    if isinstance(target, QueryableAttribute):
                        yield from spoken_of(inspect(target).entity.selectable)
                    elif isinstance(target, visitors.Visitable):
                        yield from spoken_of(target)


def unreached(statement: Any, *, around: Froms = frozenset()) -> Iterator[Table]:
    """The tables that `statement` reads where the criteria of their models are not added.

    Args:
        around: what is read, under criteria, by the statement in which this one will stand.
    """
    # With each statement: what the one around it reads under criteria, and what all around it do.
    pending: list[tuple[Any, Froms, Froms]] = [(statement, around, around)]
    done: set[tuple[int, Froms]] = set()
    while pending:
        one, near, far = pending.pop()
        if (id(one), near) in done:
            continue
        done.add((id(one), near))
        parts = _Parts(one)
        for source in parts.read - parts.reached:
            table = _table_under(source)
            if table is not None and not _is_correlated(one, source, near, far):
                yield table
        pending += [(inner, parts.reached, far | parts.reached) for inner in parts.inside]
        pending += [(inner, _NONE, far | parts.reached) for inner in parts.beside]


class _Parts:
    """What one statement is made of, the statements in it left alone.

    Attributes:
        read: the tables and aliases that it names, and so reads.
        reached: those of them to which criteria are added.
        inside, beside: the statements in it, by whether they may refer to what it reads.
    """

    __slots__ = ("beside", "inside", "reached", "read")

    def __init__(self, statement: Any) -> None:
        self.inside: list[Any] = []
        self.beside: list[Any] = []
        of_the_orm = getattr(statement, "_propagate_attrs", {}).get("compile_state_plugin") == "orm"
        if isinstance(statement, Select):
            named = self._sources([*statement._raw_columns, *statement._from_obj, *_joined(statement)])
            others = self._sources([*statement._where_criteria, *_links(statement)])
            # These bring no table into FROM, but statements may stand in them.
            self._sources([*statement._having_criteria, *statement._order_by_clauses, *statement._group_by_clauses])
            self._sources([*statement._distinct_on, *statement._independent_ctes])
            self._sources([c for c in (statement._limit_clause, statement._offset_clause) if c is not None])
            self.reached: Froms = frozenset(s for s, of_a_model in named if of_a_model) if of_the_orm else _NONE
            self.read: Froms = frozenset(source for source, _ in (*named, *others))
        else:
            children = [*statement.get_children()]
            children += _overlooked(statement) if isinstance(statement, UpdateBase) else ()
            self.read = frozenset(source for source, _ in self._sources(children))
            self.reached = frozenset([statement.table]) if of_the_orm and isinstance(statement, UpdateBase) else _NONE

    def _sources(self, elements: Iterable[Any]) -> list[tuple[Any, bool]]:
        """The tables and aliases under `elements`, with whether a model stands for them."""
        found: list[tuple[Any, bool]] = []
        pending = list(elements)
        while pending:
            element = pending.pop()
            entity = getattr(element, "_annotations", {}).get("parententity")
            if entity is not None:
                found.append((entity.selectable, True))
                if entity.is_aliased_class:
                    pending.append(entity.selectable._deannotate())
                if isinstance(element, ColumnClause | Table):
                    continue
            if isinstance(element, SelectBase | UpdateBase):
                self.inside.append(element)
            elif isinstance(element, Lateral):
                self.inside.append(element.element)
            elif isinstance(element, Subquery | CTE):
                self.beside.append(element.element)
            elif isinstance(element, Join):
                pending += [element.left, element.right]
                pending += [] if element.onclause is None else [element.onclause]
            elif isinstance(element, ColumnClause):
                pending += [] if element.table is None else [element.table]
            elif isinstance(element, FunctionElement | TableValuedAlias):
                pending += element.get_children()
            elif isinstance(element, AliasedReturnsRows | Table):
                found.append((element, False))
            else:
                pending += element.get_children()
        return found


def _joined(statement: Select[Any]) -> Iterator[Any]:
    for target, link, *_ in statement._setup_joins:
        for one in (target, link):
            if isinstance(one, QueryableAttribute):
                yield inspect(one).entity.selectable._annotate({"parententity": inspect(one).entity})
        if not isinstance(target, QueryableAttribute):
            yield target


def _links(statement: Select[Any]) -> Iterator[Any]:
    """The conditions of the joins."""
    for target, link, *_ in statement._setup_joins:
        for one in (target, link):
            if isinstance(one, QueryableAttribute):
                yield from getattr(one, "_extra_criteria", ())
            elif one is link and one is not None:
                yield one


def _overlooked(statement: UpdateBase) -> Iterator[Any]:
    """What is written by an INSERT of several rows, and by one where there is a row already."""
    several = (row for rows in getattr(statement, "_multi_values", ()) for row in rows)
    values = [value for row in several for value in (row.values() if isinstance(row, dict) else row)]
    clause = getattr(statement, "_post_values_clause", None)
    values += dict(getattr(clause, "update_values_to_set", None) or ()).values()
    values += [getattr(clause, "update_whereclause", None)]
    return (value for value in values if isinstance(value, visitors.Visitable))


def _table_under(source: Any) -> Table | None:
    while isinstance(source, AliasedReturnsRows):
        source = source.element
    return source if isinstance(source, Table) else None


def _is_correlated(statement: Any, source: FromClause, near: Froms, far: Froms) -> bool:
    """Whether `source` is read by a statement around this one, and not again here."""
    if not isinstance(statement, Select):
        return source in near and not isinstance(statement, UpdateBase)
    if statement._auto_correlate:
        return source in near
    if statement._correlate_except is not None:
        return source in far and source not in statement._correlate_except
    return source in far and source in statement._correlate
