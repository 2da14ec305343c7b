"""What a unit may see and touch: rows of its tenant, and none that are deleted."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import Integer, Uuid, event, false, inspect
from sqlalchemy.orm import LoaderCriteriaOption, Mapper, ORMExecuteState, Session
from sqlalchemy.sql.selectable import TableClause

from holdfast.errors import InvalidValue, WrongTenant
from holdfast.model import SoftDeleted
from holdfast.store.namesakes import Names, namesakes

if TYPE_CHECKING:
    from holdfast.store.written import Written

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


class Criterion(LoaderCriteriaOption):
    """What confines one model in every statement of a unit."""

    __slots__ = ()
    _traverse_internals = LoaderCriteriaOption._traverse_internals  # else its statements are compiled each time


class Scope:
    """What one unit is confined to.

    Attributes:
        tenant: whose rows; None where the unit names nobody, and then tenanted models are refused.
        actor: who acts.
        names: gives the models that are not everybody's, by the names of their tables.
    """

    __slots__ = ("_criteria", "_values", "actor", "names", "tenant")

    def __init__(
        self, tenant: str | AllTenants | None, actor: str | None, names: Callable[[], Names] = dict[str, Any]
    ) -> None:
        self.tenant = tenant
        self.actor = actor
        self.names = names
        self._values: dict[type[Any], Any] = {}
        self._criteria: dict[tuple[type[Any], bool], Criterion | None] = {}

    def tenant_of(self, model: type[Any]) -> Any:
        """The value that the tenant's column of `model` has here; None when every tenant's rows may be touched.

        Raises:
            WrongTenant: the model is tenanted and the unit names no tenant, or one that it cannot have; or the model
                is internal.
        """
        if self.tenant is ALL:
            return None
        if model.__policy__.internal:
            raise WrongTenant(
                f"{model.__name__} is internal, no tenant's business; open the unit with tenant=ALL to touch it"
            )
        if model.__policy__.tenant is None:
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

    def refuse_namesake(self, table: TableClause) -> None:
        """Refuse a table that no model declares where it has the name of one that is not everybody's.

        Raises:
            WrongTenant: it has, and this unit is not for all tenants.
        """
        for model in () if self.tenant is ALL else namesakes(table, self.names()):
            self.tenant_of(model)
            raise WrongTenant(
                f"a statement is on a table {table.name!r} of its own making, which is that of {model.__name__}, around"
                f" the tenant of this unit; write it on {model.__name__}, or open the unit with tenant=ALL"
            )

    def criterion(self, model: type[Any], *, deleted: bool) -> Criterion | None:
        """What confines `model` in a statement; one object a unit, by which it is known again."""
        wanted = (model, deleted)
        if wanted not in self._criteria:
            conditions: list[Any] = []
            policy = model.__policy__
            if self.tenant is not ALL and (policy.internal or (policy.tenant is not None and self.tenant is None)):
                conditions.append(false())  # nobody's: what a statement names itself was refused before
            elif (value := self.tenant_of(model)) is not None:
                conditions.append(tenant_column(model) == value)
            if not deleted and issubclass(model, SoftDeleted):
                conditions.append(model.deleted_at.is_(None))
            made = None
            if conditions:
                condition = conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]
                made = Criterion(model, condition, include_aliases=True)
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
    """A session that confines its ORM statements to the scope of its unit.

    Attributes:
        has_written: whether it may have written something.
        written: where rows are noted that it writes; None where nobody asks.
    """

    has_written = False
    written: Written | None = None

    def set_scope(self, scope: Scope) -> None:
        """Confine what follows."""
        self.info[_INFO] = scope

    def _bulk_save_mappings(self, mapper: Any, *args: Any, **options: Any) -> None:
        model = mapper.class_ if isinstance(mapper, Mapper) else mapper
        scope = scope_of(self)
        if scope is not None and scope.tenant_of(model) is not None:
            raise WrongTenant(f"the session's bulk methods know no tenants; use unit[{model.__name__}].add_many")
        super()._bulk_save_mappings(mapper, *args, **options)


@event.listens_for(ScopedSession, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> None:
    if not state.is_select:  # what is text may do anything
        cast(ScopedSession, state.session).has_written = True


@event.listens_for(ScopedSession, "after_flush")
def _note_flush(session: Session, context: Any) -> None:
    scoped = cast(ScopedSession, session)
    scoped.has_written = True
    if scoped.written is not None:
        for row in (*session.new, *session.dirty):
            scoped.written.note(row)


def scope_of(session: Session | None) -> Scope | None:
    """The scope of the unit that `session` belongs to; None for a session that belongs to none."""
    return None if session is None else session.info.get(_INFO)


def is_scoped(model: type[Any]) -> bool:
    """Whether a statement on `model` is confined at all: it is not everybody's, or its rows may be deleted softly."""
    return not model.__policy__.is_shared or issubclass(model, SoftDeleted)
