"""`Model`: the SQLAlchemy declarative base of everything Holdfast keeps."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import BigInteger, Column, DefaultClause, Enum, Integer, MetaData, Select, Table, Uuid, literal
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlalchemy.sql import visitors
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from holdfast.errors import ModelError
from holdfast.model.defaults import database_id
from holdfast.model.encrypted import Encrypted, add_blind_columns, check_encrypted
from holdfast.model.ids import uuid7
from holdfast.model.policy import Policy, require_columns
from holdfast.model.tenancy import add_tenant_key, check_tenanted
from holdfast.model.types import Amount, Text, UtcTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


_MODEL = "holdfast.model"  # of a table's info
_ENUM = 64  # characters of a member's name


class Model(DeclarativeBase):
    """Declare a table by subclassing: columns as SQLAlchemy 2 `Mapped[…]`, behaviour as `__policy__`.

    Every model has an `id`, a UUIDv7 made in Python (or a random one given by the database to raw SQL).
    `Mapped[datetime]` is kept as UTC, an enum as the name of its member. A policy that names a missing column, and a
    tenanted table with a constraint that crosses tenants, are `ModelError`s raised while the class is made.

    An abstract subclass with `metadata` of its own is the base of an app: names of classes, which relationships may
    use, are looked up among its models alone.
    """

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dt.datetime: UtcTime(),
        UUID: Uuid(),
        str: Text(),
        int: Integer().with_variant(BigInteger(), "postgresql"),
        # As text everywhere, so that a new member needs no migration.
        enum.Enum: Enum(enum.Enum, native_enum=False, length=_ENUM, validate_strings=True),
        Literal: Enum(enum.Enum, native_enum=False, length=_ENUM, validate_strings=True),
    }
    __policy__: ClassVar[Policy] = Policy()

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, server_default=database_id(), sort_order=-100)

    def __init_subclass__(cls, **options: Any) -> None:
        if cls.__dict__.get("__abstract__") and "metadata" in cls.__dict__:
            # One registry for all apps would mix up models of one name, and break the mappers of both.
            cls.registry = registry(metadata=cls.metadata, type_annotation_map=cls.type_annotation_map)
            cls._sa_registry = cls.registry
        add_blind_columns(cls)
        super().__init_subclass__(**options)
        if cls.__dict__.get("__abstract__") or "__table__" not in cls.__dict__:
            return
        try:
            _check(cls)
        except ModelError:
            _forget(cls)  # a corrected declaration may follow in the same process
            raise
        # SQLAlchemy's registry alone would let go of a model to which nobody else holds on.
        cls.__table__.info[_MODEL] = cls  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        key = [self.__dict__.get(str(c.key), "not flushed") for c in self.__mapper__.primary_key]
        return f"<{type(self).__name__} {', '.join(map(str, key))}>"


class KeyedModel(Model):
    """A `Model` without `id`: its key is the columns that it declares with `primary_key=True`, one or several.

    Example::

        class Membership(KeyedModel):
            __tablename__ = "memberships"
            org: Mapped[str] = mapped_column(primary_key=True)
            member: Mapped[UUID] = mapped_column(primary_key=True)
    """

    __abstract__ = True

    id = None  # type: ignore[assignment]


def _check(model: type[Model]) -> None:
    policy = model.__policy__
    if not isinstance(policy, Policy):
        raise ModelError(f"{model.__name__}.__policy__ must be a Policy(…), not {policy!r}")
    if policy.tenant is not None:
        require_columns(model, (policy.tenant,), "Policy(tenant=…)")
    check_encrypted(model)
    policy.check(model)
    if policy.tenant is not None:
        check_tenanted(model, policy.tenant)
        add_tenant_key(model.__table__, policy.tenant)  # type: ignore[arg-type]
    for column in model.__table__.columns:
        _default_in_the_database(column)  # type: ignore[arg-type]
        _refuse_native_enum(model, column)
        _refuse_select(model, column)
        if isinstance(column.type, Amount):
            for check in column.type.checks(str(column.name)):
                model.__table__.append_constraint(check)  # type: ignore[attr-defined]


def _default_in_the_database(column: Column[Any]) -> None:
    """Let raw SQL leave out what Python may: a constant default is the database's too."""
    default = column.default
    if column.server_default is not None or not isinstance(default, ScalarElementColumnDefault):
        return
    if isinstance(column.type, Encrypted):  # the database must not know it
        return
    if isinstance(default.arg, str | int | float):  # others, as bytes, have no literal that every database reads
        column.server_default = DefaultClause(literal(default.arg, column.type))


def _refuse_native_enum(model: type[Model], column: Any) -> None:
    """PostgreSQL's enum types live beside the tables, and cannot lose a member: no migration could be taken back."""
    kind = getattr(column.type, "item_type", column.type)
    if isinstance(kind, Enum):
        kind.validate_strings = True  # what is no member would be kept, and could not be read again
    if isinstance(kind, Enum) and kind.native_enum and getattr(kind, "create_type", True):
        raise ModelError(
            f"{model.__name__}.{column.key} is an enum type of PostgreSQL's own; annotate it with Mapped[…] alone or"
            " write Enum(…, native_enum=False), to keep it as text. A type that the database has already is"
            " postgresql.ENUM(…, create_type=False)"
        )


def _refuse_select(model: type[Model], column: Any) -> None:
    """A SELECT that the database runs with every write would read the rows of every tenant."""
    for default in (column.default, column.onupdate):
        made = getattr(default, "arg", None)
        if isinstance(made, visitors.Visitable) and any(isinstance(one, Select) for one in visitors.iterate(made)):  # type: ignore[arg-type]
            raise ModelError(
                f"{model.__name__}.{column.key} is given what a SELECT finds, around tenants and soft deletion; read it"
                " in the unit and set it there"
            )


def _forget(model: type[Model]) -> None:
    """Take a class that was refused out of the metadata and out of the names that relationships look up."""
    model.metadata.remove(model.__table__)  # type: ignore[arg-type]
    # SQLAlchemy takes back whole registries only; these two are where it keeps a single class.
    model.registry._dispose_cls(model)
    model.registry._managers.pop(model.__mapper__.class_manager, None)


def model_of(table: Table) -> type[Model] | None:
    """The model that `table` was declared by, or None."""
    return table.info.get(_MODEL)


def models_of(metadata: MetaData) -> list[type[Model]]:
    """The models declared on `metadata`, in dependency order of their tables."""
    return [table.info[_MODEL] for table in metadata.sorted_tables if _MODEL in table.info]
