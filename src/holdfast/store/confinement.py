"""How the statements of a unit are kept within its scope: by criteria, or by a refusal.

Every ORM statement of a unit's session passes here, whether the repository made it or not; what relationships load
passes too, and what is read again of a row. Raw SQL does not, nor what is run on `unit.connection()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table, event, select
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.selectable import TableClause

from holdfast.errors import InvalidValue, WrongTenant
from holdfast.model import model_of
from holdfast.model.encrypted import blind_columns
from holdfast.store.grouping import grouped
from holdfast.store.raw_text import is_text, objection
from holdfast.store.reach import behind_columns, led_to, strangers
from holdfast.store.scope import (
    DELETED,
    Criterion,
    Scope,
    ScopedSession,
    is_scoped,
    scope_of,
    tenant_attribute,
    tenant_column,
)
from holdfast.store.sources import spoken_of, unreached


def confine(state: ORMExecuteState) -> None:
    """Add what the scope asks for to a statement, or refuse it. Listens to every scoped session's statements."""
    scope = scope_of(state.session)
    statement: Any = state.statement
    if scope is None:
        return
    if isinstance(statement, Insert | Update):
        _refuse_what_would_not_be_found(statement, state.parameters)
    options = getattr(statement, "_with_options", ())
    parts = (statement, *_in_options(options)) if options else (statement,)
    spoken = {element for part in parts for element in spoken_of(part)}
    mentioned = {model for element in spoken if isinstance(element, Table) and (model := model_of(element)) is not None}
    if len(spoken) > len(mentioned):
        _refuse_namesakes(scope, spoken)
    named = mentioned | behind_columns(mentioned, deferred=state.is_column_load or _undefers(options))
    for table in strangers(mentioned):
        scope.refuse_namesake(table)
    tenanted = [model for model in named if not model.__policy__.is_shared and scope.tenant_of(model) is not None]
    if tenanted:
        _refuse_what_cannot_be_confined(state, statement, parts, tenanted)
        if len(spoken) > len(mentioned):
            _refuse_open_text(spoken, tenanted)
        if not state.is_orm_statement:  # criteria reach a SELECT on a model only where it stands in one of the ORM's
            names = ", ".join(sorted(model.__name__ for model in tenanted))
            raise WrongTenant(
                f"a statement that is on no model reads {names} around the tenant of this unit; write it on models, as"
                " in insert(Model), update(Model) and select(Model), or open the unit with tenant=ALL"
            )
    # Loader options, and a relationship that is always joined, bring in tables that the statement does not show.
    models = {model for model in named if is_scoped(model)} | led_to(mentioned, every=bool(options))
    if not models or not state.is_orm_statement:
        return
    deleted = state.execution_options.get(DELETED) is not None
    held = state.bind_mapper.class_ if state.is_column_load and state.bind_mapper is not None else None
    present = {id(option) for option in options}
    wanted = (scope.criterion(model, deleted=deleted) for model in sorted(models, key=lambda model: model.__name__))
    missing = [option for option in wanted if option is not None and id(option) not in present]
    if len(spoken) > len(mentioned) and any(map(is_text, spoken)):
        statement = state.statement = grouped(statement)
    if missing:
        statement = state.statement = statement.options(*missing)
    # To a row that it reads again by its key SQLAlchemy adds no criteria, and the key may have been made up.
    if held is not None and (tenant := scope.tenant_of(held)) is not None:
        state.statement = statement.where(tenant_column(held) == tenant)


def _refuse_namesakes(scope: Scope, spoken: Iterable[Any]) -> None:
    for element in spoken:
        if isinstance(element, TableClause) and not (isinstance(element, Table) and model_of(element)):
            scope.refuse_namesake(element)


def _refuse_open_text(spoken: Iterable[Any], tenanted: list[type[Any]]) -> None:
    for element in spoken:
        if not isinstance(element, TableClause) and (problem := objection(element)) is not None:
            names = ", ".join(sorted(model.__name__ for model in tenanted))
            raise WrongTenant(f"{problem}, or open the unit with tenant=ALL: it would get around that of {names}")


def _in_options(options: Sequence[Any]) -> Iterator[Any]:
    """The expressions that loader options bring into a statement."""
    for option in options:
        if isinstance(option, LoaderCriteriaOption) and not isinstance(option, Criterion):
            entity = option.entity
            if not option.deferred_where_criteria:
                yield option.where_criteria
            elif entity is not None:
                yield option._resolve_where_criteria(entity)
        for element in getattr(option, "context", ()):
            yield from element._extra_criteria
            if (expression := element.local_opts.get("expression")) is not None:
                yield select(expression)  # which is added to the columns


def _undefers(options: Sequence[Any]) -> bool:
    """Whether loader options ask for columns that are else left for later."""
    for option in options:
        for element in getattr(option, "context", (option,)):
            if ("deferred", False) in (getattr(element, "strategy", None) or ()):
                return True
            if any(name.startswith("undefer_group") for name in getattr(element, "local_opts", ())):
                return True
    return False


def _refuse_what_cannot_be_confined(
    state: ORMExecuteState, statement: Any, parts: Sequence[Any], tenanted: list[type[Any]]
) -> None:
    target = getattr(statement, "table", None)
    model = model_of(target) if isinstance(target, Table) else None
    names = {model.__table__.name: model.__name__ for model in tenanted}
    for part in parts:
        # What stands in an option may refer to what the statement has, which is looked at by itself.
        around: frozenset[Any] = frozenset() if part is statement else frozenset(model.__table__ for model in tenanted)
        for table in unreached(part, around=around):
            if table.name in names:
                name = names[table.name]
                raise WrongTenant(
                    f"a statement reads the table {table.name} around the tenant of this unit; write"
                    f" select(…).select_from({name}), or read {name} in a select(…) of its own, or open the unit with"
                    " tenant=ALL"
                )
    if model not in tenanted or model is None:
        return
    if isinstance(statement, Insert) or (isinstance(statement, Update) and isinstance(state.parameters, list)):
        raise WrongTenant(
            f"a statement that writes rows of {model.__name__} by themselves knows no tenant; use"
            f" unit[{model.__name__}].add_many, update or upsert_many, or open the unit with tenant=ALL"
        )
    moving = {model.__policy__.tenant, tenant_attribute(model)}
    if isinstance(statement, Update) and _written(statement, state.parameters) & moving:
        raise WrongTenant(f"a row of {model.__name__} stays with its tenant; add it anew for another one")


def _refuse_what_would_not_be_found(statement: Any, parameters: Any) -> None:
    """A statement of one's own that writes an encrypted column leaves its blind index as it was."""
    blind = blind_columns(statement.table) if isinstance(statement.table, Table) else {}
    given = _written(statement, parameters) if blind else set()
    for column, index in blind.items():
        if column in given and index not in given:
            raise InvalidValue(
                f"{column} is encrypted with a blind index, which this statement would not keep; use the repository's"
                " add_many, update or upsert_many"
            )


def _written(statement: Any, parameters: Any) -> set[str]:
    """The names that an INSERT or an UPDATE gives values to."""
    rows = [getattr(statement, "_values", None) or {}, *(parameters if isinstance(parameters, list) else [parameters])]
    rows += [row for several in (getattr(statement, "_multi_values", None) or ()) for row in several]
    rows.append(dict(getattr(statement, "_ordered_values", None) or ()))
    return {str(getattr(column, "key", column)) for row in rows for column in (row or ())}


event.listen(ScopedSession, "do_orm_execute", confine)
