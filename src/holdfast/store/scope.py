"""What a unit may see and touch: rows of its tenant, and none that are deleted.

Every ORM statement of a unit's session passes here, whether the repository made it or not; what relationships load
passes too. Raw SQL does not, nor what is run on `unit.connection()`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Integer, Select, Table, Uuid, event, false, inspect
from sqlalchemy.orm import (
    LoaderCriteriaOption,
    Mapper,
    ORMExecuteState,
    QueryableAttribute,
    RelationshipProperty,
    Session,
    with_loader_criteria,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert, Update

from holdfast.errors import InvalidValue, WrongTenant
from holdfast.model import SoftDeleted, model_of
from holdfast.model.encrypted import blind_columns

DELETED = "holdfast_deleted"  # execution option of a statement that also means deleted rows
_INFO = "holdfast_scope"
_LONGEST = 255  # characters of a tenant


class AllTenants(enum.Enum):
    """The type of `ALL`."""

    ALL = "ALL"

    def __repr__(self) -> str:
        return "ALL"


ALL = AllTenants.ALL
"""Across tenants: for administration and indexers, `unit(tenant=ALL)`."""

Tenant = str | UUID | AllTenants | None


def checked_tenant(tenant: Tenant) -> str | AllTenants | None:
    """`tenant` as a unit carries it.

    Raises:
        InvalidValue: it can be none: empty, too long, with blanks around it or characters that cannot be seen.
    """
    if tenant is None or tenant is ALL:
        return tenant
    text = str(tenant) if isinstance(tenant, UUID) else tenant
    if not isinstance(text, str):
        raise InvalidValue(f"a tenant is a text, not {type(text).__name__}; leave it out, or say tenant=ALL")
    if not text or len(text) > _LONGEST or text.strip() != text or not text.isprintable():
        raise InvalidValue(
            f"{text[:60]!r} cannot be a tenant: 1 to {_LONGEST} visible characters, no blanks around them;"
            " leave it out, or say tenant=ALL"
        )
    return text


class Scope:
    """What one unit is confined to.

    Attributes:
        tenant: whose rows; None where the unit names nobody, and then tenanted models are refused.
        actor: who acts.
    """

    __slots__ = ("_criteria", "_values", "actor", "tenant")

    def __init__(self, tenant: str | AllTenants | None, actor: str | None) -> None:
        self.tenant = tenant
        self.actor = actor
        self._values: dict[type[Any], Any] = {}
        self._criteria: dict[tuple[type[Any], bool], LoaderCriteriaOption | None] = {}

    def tenant_of(self, model: type[Any]) -> Any:
        """The value that the tenant's column of `model` has here; None when every tenant's rows may be touched.

        Raises:
            WrongTenant: the model is tenanted and the unit names no tenant, or one that it cannot have.
        """
        if model.__policy__.tenant is None or self.tenant is ALL:
            return None
        if model not in self._values:
            self._values[model] = self._value(model)
        return self._values[model]

    def _value(self, model: type[Any]) -> Any:
        if self.tenant is None:
            raise WrongTenant(
                f"{model.__name__} is tenanted, and this unit names no tenant; open it with"
                " hold.unit(tenant=…), or with tenant=ALL to work across tenants"
            )
        kind = model.__table__.columns[model.__policy__.tenant].type
        try:
            if isinstance(kind, Uuid):
                return UUID(str(self.tenant))
            return int(str(self.tenant)) if isinstance(kind, Integer) else self.tenant
        except ValueError:
            problem = f"{self.tenant!r} is no tenant of {model.__name__}, whose tenants are of type {kind!r}"
        raise WrongTenant(problem)

    def criterion(self, model: type[Any], *, deleted: bool) -> LoaderCriteriaOption | None:
        """What confines `model` in a statement; one object a unit, by which it is known again."""
        wanted = (model, deleted)
        if wanted not in self._criteria:
            conditions: list[Any] = []
            if model.__policy__.tenant is not None and self.tenant is None:
                conditions.append(false())  # nobody's: what a statement names itself was refused before
            elif (value := self.tenant_of(model)) is not None:
                conditions.append(tenant_column(model) == value)
            if not deleted and issubclass(model, SoftDeleted):
                conditions.append(model.deleted_at.is_(None))
            made = None
            if conditions:
                condition = conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]
                made = with_loader_criteria(model, condition, include_aliases=True)
            self._criteria[wanted] = made
        return self._criteria[wanted]


def tenant_attribute(model: type[Any]) -> str:
    """The name of the attribute that holds the tenant of a tenanted model's row."""
    column = model.__table__.columns[model.__policy__.tenant]
    return str(inspect(model).get_property_by_column(column).key)


def tenant_column(model: type[Any]) -> Any:
    """The attribute of a tenanted model that holds whose row it is."""
    return getattr(model, tenant_attribute(model))


class ScopedSession(Session):
    """A session that confines its ORM statements to the scope of its unit."""

    def set_scope(self, scope: Scope) -> None:
        """Confine what follows."""
        self.info[_INFO] = scope

    def _bulk_save_mappings(self, mapper: Any, *args: Any, **options: Any) -> None:
        model = mapper.class_ if isinstance(mapper, Mapper) else mapper
        scope = scope_of(self)
        if scope is not None and scope.tenant_of(model) is not None:
            raise WrongTenant(f"the session's bulk methods know no tenants; use unit[{model.__name__}].add_many")
        super()._bulk_save_mappings(mapper, *args, **options)


def scope_of(session: Session | None) -> Scope | None:
    """The scope of the unit that `session` belongs to; None for a session that belongs to none."""
    return None if session is None else session.info.get(_INFO)


def confine(state: ORMExecuteState) -> None:
    """Add what the scope asks for to a statement, or refuse it. Listens to every scoped session's statements."""
    scope = scope_of(state.session)
    statement: Any = state.statement
    if scope is None or state.is_column_load:
        return
    if isinstance(statement, Insert | Update):
        _refuse_what_would_not_be_found(statement, state.parameters)
    named = {model for table in tables_of(statement) if (model := model_of(table)) is not None}
    tenanted = [model for model in named if model.__policy__.tenant and scope.tenant_of(model) is not None]
    if tenanted:
        _refuse_what_cannot_be_confined(state, statement, tenanted)
    # Loader options, and a relationship that is always joined, bring in tables that the statement does not show.
    every = bool(getattr(statement, "_with_options", ()))
    models = {model for model in named if is_scoped(model)}
    models |= {other for model in named for other in _related(inspect(model), every)}
    if not models:
        return
    if not state.is_orm_statement:
        return
    deleted = state.execution_options.get(DELETED) is not None
    present = {id(option) for option in getattr(statement, "_with_options", ())}
    wanted = (scope.criterion(model, deleted=deleted) for model in sorted(models, key=lambda m: m.__name__))
    missing = [option for option in wanted if option is not None and id(option) not in present]
    if missing and not isinstance(statement, Insert):
        state.statement = statement.options(*missing)


def tables_of(statement: Any) -> Iterator[Table]:
    """Every table that `statement` speaks of, each as often as it does."""
    for element in visitors.iterate(statement):
        if isinstance(element, Table):
            yield element
        elif isinstance(element, Select):
            for target, link, *_ in element._setup_joins:  # which SQLAlchemy's own walk passes over
                if isinstance(link, QueryableAttribute):
                    yield from tables_of(inspect(link).entity.selectable)
                if isinstance(target, QueryableAttribute):
                    yield from tables_of(inspect(target).entity.selectable)
                elif isinstance(target, visitors.Visitable):
                    yield from tables_of(target)


def _refuse_what_cannot_be_confined(state: ORMExecuteState, statement: Any, tenanted: list[type[Any]]) -> None:
    names = {model.__table__.name: model.__name__ for model in tenanted}
    for select in _not_of_the_orm(state, statement):
        for table in tables_of(select):
            if table.name in names:
                raise WrongTenant(
                    f"a statement on the table {table.name} goes around the tenant of this unit; select from the"
                    f" model {names[table.name]}, or open the unit with tenant=ALL"
                )
    target = getattr(statement, "table", None)
    model = model_of(target) if isinstance(target, Table) else None
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


def _not_of_the_orm(state: ORMExecuteState, statement: Any) -> Iterator[Any]:
    """The statement and the SELECTs in it that SQLAlchemy does not take for the ORM's, and so would not confine."""
    if not state.is_orm_statement:
        yield statement
        return
    for element in visitors.iterate(statement):
        if isinstance(element, Select) and element._propagate_attrs.get("compile_state_plugin") != "orm":
            yield element


def is_scoped(model: type[Any]) -> bool:
    """Whether a statement on `model` is confined at all: it is tenanted, or its rows may be deleted softly."""
    return model.__policy__.tenant is not None or issubclass(model, SoftDeleted)


_found: WeakKeyDictionary[Mapper[Any], tuple[frozenset[type[Any]], frozenset[type[Any]]]] = WeakKeyDictionary()


def _related(mapper: Mapper[Any], every: bool) -> frozenset[type[Any]]:
    """The scoped models that rows of `mapper` lead to: by relationships that are always joined, or by `every` one."""
    if mapper not in _found:
        _found[mapper] = (_reached(mapper, lambda link: link.lazy == "joined"), _reached(mapper, lambda link: True))
    return _found[mapper][every]


def _reached(mapper: Mapper[Any], follow: Callable[[RelationshipProperty[Any]], bool]) -> frozenset[type[Any]]:
    seen: set[Mapper[Any]] = set()
    pending = [link.mapper for link in mapper.relationships if follow(link)]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += [link.mapper for link in one.relationships if follow(link)]
    return frozenset(one.class_ for one in seen if is_scoped(one.class_))


event.listen(ScopedSession, "do_orm_execute", confine)
