"""`Model`: the SQLAlchemy declarative base of everything Holdfast keeps."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, DefaultClause, Integer, MetaData, Uuid, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from holdfast.errors import ModelError
from holdfast.model.ids import uuid7
from holdfast.model.policy import Policy
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


class _database_id(FunctionElement[UUID]):
    """The id that the database gives a row written by raw SQL without one (random, not ordered by time)."""

    type = Uuid()
    inherit_cache = True


class _database_now(FunctionElement[dt.datetime]):
    """Now, in the form in which `UtcTime` is kept."""

    type = UtcTime()
    inherit_cache = True


@compiles(_database_id)
def _id_default(element: _database_id, compiler: Any, **options: Any) -> str:
    return "gen_random_uuid()"


@compiles(_database_id, "sqlite")
def _id_default_sqlite(element: _database_id, compiler: Any, **options: Any) -> str:
    return "(lower(hex(randomblob(16))))"


@compiles(_database_now)
def _now_default(element: _database_now, compiler: Any, **options: Any) -> str:
    return "now()"


@compiles(_database_now, "sqlite")
def _now_default_sqlite(element: _database_now, compiler: Any, **options: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class Model(DeclarativeBase):
    """Declare a table by subclassing: columns as SQLAlchemy 2 `Mapped[…]`, behaviour as `__policy__`.

    Every model has an `id`, a UUIDv7 made in Python (or a random one given by the database to raw SQL).
    `Mapped[datetime]` is kept as UTC. A policy that names a missing column, and a tenanted table with
    a constraint that crosses tenants, are `ModelError`s raised while the class is made.
    """

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dt.datetime: UtcTime(),
        UUID: Uuid(),
        str: Text(),
        int: Integer().with_variant(BigInteger(), "postgresql"),
    }
    __policy__: ClassVar[Policy] = Policy()

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, server_default=_database_id(), sort_order=-100)

    def __init_subclass__(cls, **options: Any) -> None:
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
        return f"<{type(self).__name__} {self.__dict__.get('id', 'not flushed')}>"


class Timestamps:
    """Adds `created_at` and `updated_at` (UTC), kept by the library and defaulted by the database."""

    created_at: Mapped[dt.datetime] = mapped_column(
        default=lambda: dt.datetime.now(dt.UTC), server_default=_database_now(), sort_order=90
    )
    updated_at: Mapped[dt.datetime] = mapped_column(
        default=lambda: dt.datetime.now(dt.UTC),
        onupdate=lambda: dt.datetime.now(dt.UTC),
        server_default=_database_now(),
        sort_order=91,
    )


class Versioned:
    """Adds `version`, raised by every update but raw SQL's.

    `update(…, expect=version)` refuses to overwrite a newer one, and so does the flush of a row that was
    changed in Python: `Conflict`.
    """

    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=92)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


def _check(model: type[Model]) -> None:
    policy = model.__policy__
    if not isinstance(policy, Policy):
        raise ModelError(f"{model.__name__}.__policy__ must be a Policy(…), not {policy!r}")
    policy.check(model)
    if policy.tenant is not None:
        check_tenanted(model, policy.tenant)
        add_tenant_key(model.__table__, policy.tenant)  # type: ignore[arg-type]
    for column in model.__table__.columns:
        _default_in_the_database(column)  # type: ignore[arg-type]
        if isinstance(column.type, Amount):
            for check in column.type.checks(column):  # type: ignore[arg-type]
                model.__table__.append_constraint(check)  # type: ignore[attr-defined]


def _default_in_the_database(column: Column[Any]) -> None:
    """Let raw SQL leave out what Python may: a constant default is the database's too."""
    default = column.default
    if column.server_default is not None or not isinstance(default, ScalarElementColumnDefault):
        return
    if isinstance(default.arg, str | int | float):  # others, as bytes, have no literal that every database reads
        column.server_default = DefaultClause(literal(default.arg, column.type))


def _forget(model: type[Model]) -> None:
    """Take a class that was refused out of the metadata and out of the names that relationships look up."""
    model.metadata.remove(model.__table__)  # type: ignore[arg-type]
    # SQLAlchemy takes back whole registries only; these two are where it keeps a single class.
    model.registry._dispose_cls(model)
    model.registry._managers.pop(model.__mapper__.class_manager, None)


def models_of(metadata: MetaData) -> list[type[Model]]:
    """The models declared on `metadata`, in dependency order of their tables."""
    return [table.info[_MODEL] for table in metadata.sorted_tables if _MODEL in table.info]
