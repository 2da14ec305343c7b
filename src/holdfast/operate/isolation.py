"""The isolation matrix: does every table keep tenants apart, for each role, operation and context?

It is generated from the catalogue, not from a list, and asks without WHERE: what a query with one would hide is what it
looks for. On PostgreSQL it looks at roles, privileges, policies and views, and then tries as the confined roles. On the
other databases it tries through units, which is what confines there.
"""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Integer, Uuid, exc, func, select, text, update
from sqlalchemy import delete as deletion
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import Conflict, HoldfastError, WrongTenant
from holdfast.migrate import tenant_policies
from holdfast.migrate.tenant_policies import Known, Relation
from holdfast.model import Model
from holdfast.store import AppendOnly, Store
from holdfast.store.failures import sqlstate
from holdfast.store.row_security import APP, READONLY, TENANT
from holdfast.store.scope import ALL, tenant_column

CONFINED = (APP, READONLY)
_REFUSED = {"42501", "22P02", "22003"}  # insufficient_privilege; a context that the tenant's type cannot be
_CONSTRAINT = "23"  # the class of violations of constraints
_GARBAGE = "' OR true --"

_UNSAFE_ROLES = f"""
    SELECT r.rolname AS name, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcanlogin,
        ARRAY(SELECT g.rolname::text FROM pg_roles g WHERE g.rolname <> r.rolname
            AND pg_has_role(r.oid, g.oid, 'MEMBER') AND NOT g.rolname LIKE 'pg\\_%') AS member_of,
        (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owns
    FROM pg_roles r WHERE r.rolname = ANY (ARRAY{list(CONFINED)!r})
"""
_MAY_BECOME = f"""
    SELECT rolname::text FROM pg_roles
    WHERE rolname = ANY (ARRAY{list(CONFINED)!r}) AND pg_has_role(session_user, oid, 'MEMBER')
    ORDER BY 1
"""
_VIEWS = """
    SELECT c.relname AS name, c.relkind::text AS kind,
        coalesce('security_invoker=true' = ANY (c.reloptions) OR 'security_invoker=on' = ANY (c.reloptions), false)
            AS invoker
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('v', 'm')
"""
_FUNCTIONS = """
    SELECT p.oid::regprocedure::text AS name FROM pg_proc p
    WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
        AND p.proname NOT IN ('holdfast_emit', 'holdfast_make_tick') AND p.prorettype <> 'trigger'::regtype
        AND has_function_privilege($1, p.oid, 'EXECUTE')
"""
_REACH = """
    SELECT has_table_privilege($1, $2::regclass, 'SELECT') OR has_any_column_privilege($1, $2::regclass, 'SELECT') AS r,
        has_table_privilege($1, $2::regclass, 'INSERT') OR has_any_column_privilege($1, $2::regclass, 'INSERT') AS a,
        has_table_privilege($1, $2::regclass, 'UPDATE') OR has_any_column_privilege($1, $2::regclass, 'UPDATE') AS w,
        has_table_privilege($1, $2::regclass, 'DELETE') AS d, has_table_privilege($1, $2::regclass, 'TRUNCATE') AS t
"""
_NAMES = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "t": "TRUNCATE"}


class Leak(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One way in which a tenant could reach what is not its own.

    Attributes:
        place: the table, view, function or role.
        told: what is wrong there.
        role, operation, context: of the attempt that showed it; empty where the catalogue alone does.
    """

    place: str
    told: str
    role: str = ""
    operation: str = ""
    context: str = ""


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """What the matrix found.

    Attributes:
        backend: what was asked.
        places: how many tables, partitions and views.
        roles: as whom it was tried: those that this login may become.
        attempts: how many combinations of place, role, operation and context were tried.
        untried: tenanted tables without rows of two tenants, on which trying shows less.
        leaks: what was found, in order.
    """

    backend: Literal["postgresql", "sqlite"]
    places: int
    roles: list[str]
    attempts: int
    untried: list[str]
    leaks: list[Leak]


@dataclass(frozen=True)
class _Place:
    """A tenanted table or partition, and two tenants with rows in it, as text."""

    relation: Relation
    model: type[Model]
    tenants: tuple[str, ...]


async def examine_isolation(store: Store, models: Sequence[type[Model]], *, writes: bool = False) -> Isolation:
    """Fill in the matrix.

    Args:
        writes: try to change rows too, each attempt in a transaction that is rolled back; it locks them meanwhile.

    Raises:
        Unavailable, StoreError: as the database says.
    """
    if store.dialect == "postgresql":
        return await _Catalogue(store, models, writes).examine()
    return await _Units(store, models, writes).examine()


class _Catalogue:
    """The matrix on PostgreSQL."""

    def __init__(self, store: Store, models: Sequence[type[Model]], writes: bool) -> None:
        self._store = store
        self._models = models
        self._known = Known(models)
        self._writes = writes
        self._leaks: list[Leak] = []
        self._attempts = 0
        self._roles_tried: list[str] = []

    async def examine(self) -> Isolation:
        async with self._store.connect() as connection:
            self._roles_tried = list((await connection.exec_driver_sql(_MAY_BECOME)).scalars())
            relations = [one for one in await tenant_policies.relations(connection) if one.kind != "S"]
            if await self._roles(connection):
                for one in relations:
                    await self._privileges(connection, one)
                await self._views(connection)
                await self._functions(connection)
                for told in await tenant_policies.verify(connection, self._models):
                    self._leaks.append(Leak(place=told.split()[0], told=told))
        places = []
        for one in relations:
            model = self._known.model_of(one)
            if model is not None and model.__policy__.tenant is not None:
                places.append(_Place(one, model, await self._tenants(one, model)))
        for place in places:
            await self._try(place)
        return Isolation(
            backend="postgresql",
            places=len(relations),
            roles=self._roles_tried,
            attempts=self._attempts,
            untried=sorted(p.relation.name for p in places if len(p.tenants) < 2 and not p.relation.is_partition),
            leaks=sorted(set(self._leaks)),
        )

    async def _roles(self, connection: AsyncConnection) -> bool:
        """Look at the confined roles; returns whether they are there."""
        rows = {row.name: row for row in await connection.exec_driver_sql(_UNSAFE_ROLES)}
        for name in CONFINED:
            row = rows.get(name)
            if row is None:
                told = "there is no such role: nothing in the database confines a tenant; run `holdfast roles create`"
                self._leaks.append(Leak(place=f"role {name}", told=told))
                continue
            wrong = [
                (row.rolsuper, "is a superuser"),
                (row.rolbypassrls, "bypasses row security"),
                (row.rolcreaterole, "may make roles"),
                (row.rolcanlogin, "can log in"),
                (row.member_of, f"is a member of {', '.join(row.member_of)}"),
                (row.owns, f"owns {row.owns} tables"),
            ]
            self._leaks += [Leak(place=name, told=told, role=name) for is_so, told in wrong if is_so]
        return len(rows) == len(CONFINED)

    async def _privileges(self, connection: AsyncConnection, one: Relation) -> None:
        """Nobody confined reaches a table that no model makes his business: a new one that nobody has listed too."""
        wanted = self._known.wanted(one)
        for role in CONFINED:
            allowed = {privilege.partition(" (")[0] for privilege in wanted.get(role, frozenset())}
            row = (await connection.exec_driver_sql(_REACH, (role, one.quoted))).one()
            for mark, has in row._mapping.items():
                if has and _NAMES[str(mark)] not in allowed and one.kind not in "vm":
                    told = "that no model has" if self._known.model_of(one) is None else "that is not its business"
                    told = "of a model" if allowed else told
                    operation = _NAMES[str(mark)]
                    self._leaks.append(
                        Leak(place=one.name, role=role, operation=operation, told=f"may {operation} a table {told}")
                    )

    async def _views(self, connection: AsyncConnection) -> None:
        for view in (await connection.exec_driver_sql(_VIEWS)).all():
            for role in CONFINED:
                row = (await connection.exec_driver_sql(_REACH, (role, view.name))).one()
                if row.r and view.kind == "m":
                    told = "a materialized view holds rows of all tenants, and no policy reaches it"
                elif row.r and not view.invoker:
                    told = "a view reads as its owner, past the policies; WITH (security_invoker = true)"
                else:
                    continue
                self._leaks.append(Leak(place=view.name, role=role, operation="SELECT", told=told))

    async def _functions(self, connection: AsyncConnection) -> None:
        for role in CONFINED:
            for name in (await connection.exec_driver_sql(_FUNCTIONS, (role,))).scalars():
                told = "a function that runs as its owner (SECURITY DEFINER) reads past the policies"
                self._leaks.append(Leak(place=name, role=role, operation="EXECUTE", told=told))

    async def _tenants(self, one: Relation, model: type[Model]) -> tuple[str, ...]:
        column = _quoted(str(model.__policy__.tenant))
        found = f"SELECT min({column}::text), max({column}::text) FROM {one.quoted}"
        async with self._store.connect() as connection:
            row: Any = (await connection.exec_driver_sql(found)).one()
            least, most = row
        return () if least is None else (least,) if least == most else (least, most)

    async def _try(self, place: _Place) -> None:
        nobody = _nobody(place.model)
        own = place.tenants[0] if place.tenants else nobody
        other = place.tenants[1] if len(place.tenants) > 1 else own
        contexts = {"own": own, "other": other, "unset": None, "empty": "", "garbage": _GARBAGE, "nobody": nobody}
        column, name = _quoted(str(place.model.__policy__.tenant)), place.relation.quoted
        moved = f"UPDATE {name} SET {column} = $1::text::{_kind(place.model)}"
        for context, value in contexts.items():
            mine = await self._count(place, column, value) if self._writes else 0
            # How many rows each statement may reach; whoever is nobody has none.
            tried: list[tuple[str, str, tuple[str, ...], int]] = [
                ("SELECT", f"SELECT count(*) FROM {name} WHERE {column}::text IS DISTINCT FROM $1", (value or "",), 0)
            ]
            if self._writes:
                tried.append(("UPDATE", f"UPDATE {name} SET {column} = {column}", (), mine))
                tried.append(("DELETE", f"DELETE FROM {name}", (), mine))
                if context != "other" and other != own:
                    tried.append(("INSERT", _copying(place, column), (other,), 0))
                    tried.append(("MOVE", moved, (other,), 0))
            for role in self._roles_tried:
                await self._attempt(place, role, context, value, tried)

    async def _attempt(
        self,
        place: _Place,
        role: str,
        context: str,
        value: str | None,
        tried: Sequence[tuple[str, str, tuple[str, ...], int]],
    ) -> None:
        """Run statements as `role` in `context`, each undone, and see whether one reached a row of anybody else."""
        async with self._rolled_back() as connection:
            await connection.execute(text("SELECT set_config('role', :role, true)"), {"role": role})
            if value is not None:
                setting = {"name": TENANT, "value": value}
                await connection.execute(text("SELECT set_config(:name, :value, true)"), setting)
            for operation, statement, given, allowed in tried:
                self._attempts += 1
                reached = await self._reached(connection, operation, statement, given)
                if reached is None and operation == "DELETE" and allowed:
                    # What refers to the tenant's own rows stood in the way; now without them.
                    column = _quoted(str(place.model.__policy__.tenant))
                    others, allowed = f"{statement} WHERE {column}::text IS DISTINCT FROM $1", 0
                    reached = await self._reached(connection, operation, others, (value or "",))
                # No policy, but a constraint came in the way: a row was reached.
                reached = allowed + 1 if reached is None else reached
                if reached > allowed:
                    told = f"reaches {reached - allowed} rows that are not its own"
                    self._leaks.append(
                        Leak(place=place.relation.name, role=role, operation=operation, context=context, told=told)
                    )

    async def _reached(
        self, connection: AsyncConnection, operation: str, statement: str, given: tuple[str, ...]
    ) -> int | None:
        """How many rows a statement reaches, which is undone; None where a constraint stops it, after the policies."""
        undone = await connection.begin_nested()
        try:
            done = await connection.exec_driver_sql(statement, given)
            return int(done.scalar() or 0) if operation == "SELECT" else done.rowcount
        except exc.DBAPIError as error:
            state = sqlstate(error) or ""
            if state.startswith(_CONSTRAINT):
                return None
            if state not in _REFUSED:
                raise
            return 0
        finally:
            await undone.rollback()

    async def _count(self, place: _Place, column: str, value: str | None) -> int:
        async with self._store.connect() as connection:
            counted = f"SELECT count(*) FROM {place.relation.quoted} WHERE {column}::text = $1"
            return int((await connection.exec_driver_sql(counted, (value or "",))).scalar() or 0)

    @asynccontextmanager
    async def _rolled_back(self) -> AsyncIterator[AsyncConnection]:
        async with self._store.connect() as connection:
            try:
                yield connection
            finally:
                await connection.rollback()


class _Units:
    """The matrix elsewhere, tried through units: a statement without WHERE on every tenanted model."""

    def __init__(self, store: Store, models: Sequence[type[Model]], writes: bool) -> None:
        self._store = store
        self._models = [model for model in models if not model.__policy__.is_shared]
        self._writes = writes
        self._leaks: list[Leak] = []
        self._attempts = 0
        self._untried: list[str] = []

    async def examine(self) -> Isolation:
        for model in self._models:
            await self._model(model)
        return Isolation(
            backend="sqlite",
            places=len(self._models),
            roles=[],
            attempts=self._attempts,
            untried=sorted(self._untried),
            leaks=sorted(self._leaks),
        )

    async def _model(self, model: type[Model]) -> None:
        tenants: Sequence[Any] = ()
        if model.__policy__.tenant is not None:
            column = tenant_column(model)
            async with self._store.read(tenant=ALL) as unit:
                tenants = [
                    one for one in (await unit.session.execute(select(func.min(column), func.max(column)))).one() if one
                ]
            if len(set(tenants)) < 2:
                self._untried.append(str(model.__tablename__))
        nobody = _typed(model, _nobody(model))
        own, other = (tenants[0], tenants[-1]) if tenants else (nobody, nobody)
        for context, value in {"own": own, "other": other, "unset": None, "nobody": nobody}.items():
            tenant = None if value is None else str(value)
            await self._attempt(model, "SELECT", context, tenant, value)
            if self._writes and model.__policy__.aspect(AppendOnly) is None:  # nobody changes rows of those
                await self._attempt(model, "UPDATE", context, tenant, value)
                await self._attempt(model, "DELETE", context, tenant, value)

    async def _attempt(self, model: type[Model], operation: str, context: str, tenant: str | None, value: Any) -> None:
        self._attempts += 1
        reached = 0
        try:
            if operation == "SELECT":
                async with self._store.read(tenant=tenant) as unit:
                    rows = (await unit.session.execute(select(model))).scalars().all()
                    reached = sum(1 for row in rows if self._is_foreign(model, row, value))
            else:
                reached = await self._write(model, operation, tenant, value)
        except WrongTenant:
            return
        if reached:
            told = f"reaches {reached} rows that are not its own"
            self._leaks.append(Leak(place=str(model.__tablename__), operation=operation, context=context, told=told))

    async def _write(
        self, model: type[Model], operation: str, tenant: str | None, value: Any, *, others: bool = False
    ) -> int:
        """How many more rows a statement touches than the tenant has; with `others` it leaves out the tenant's own."""
        table: Any = model.__table__
        key = next(iter(table.primary_key.columns))
        touched = 0
        mine = 0
        try:
            async with self._store.unit(tenant=tenant) as unit:
                if model.__policy__.tenant is not None:
                    counted = select(func.count()).select_from(model.__table__)
                    raw = await unit.connection()
                    mine = (
                        await raw.execute(counted.where(model.__table__.c[model.__policy__.tenant] == value))
                    ).scalar_one()
                attribute = getattr(model, str(key.name), None)
                statement: Any = (
                    deletion(model) if operation == "DELETE" else update(model).values({attribute: attribute})
                )
                if others:
                    statement = statement.where(tenant_column(model) != value)
                touched = (await unit.session.execute(statement)).rowcount  # type: ignore[attr-defined]
                raise _Undo
        except _Undo:
            return max(0, touched - mine)
        except WrongTenant:
            return 0
        except Conflict:
            if others or model.__policy__.tenant is None:
                return 1  # what refers to a row of another's stood in the way: it was reached
            # The tenant's own rows are referred to; now without them.
            return await self._write(model, operation, tenant, value, others=True)

    @staticmethod
    def _is_foreign(model: type[Model], row: Any, value: Any) -> bool:
        return model.__policy__.tenant is None or str(getattr(row, model.__policy__.tenant)) != str(value)


class _Undo(HoldfastError):
    """Rolls a unit back."""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _nobody(model: type[Model]) -> str:
    """A tenant that has no rows, of the type that the column has."""
    kind = None if model.__policy__.tenant is None else model.__table__.columns[model.__policy__.tenant].type
    if isinstance(kind, Uuid):
        return "00000000-0000-4000-8000-000000000000"
    return "-1" if isinstance(kind, Integer) else "holdfast-nobody"


def _typed(model: type[Model], value: str) -> Any:
    """`value` as the tenant's column has it in Python."""
    kind = _kind(model) if model.__policy__.tenant is not None else "text"
    return UUID(value) if kind == "uuid" else int(value) if kind == "bigint" else value


def _kind(model: type[Model]) -> str:
    kind = model.__table__.columns[str(model.__policy__.tenant)].type
    return "uuid" if isinstance(kind, Uuid) else "bigint" if isinstance(kind, Integer) else "text"


def _copying(place: _Place, tenant: str) -> str:
    """An INSERT of what the role sees, as rows of another tenant, with keys of their own where they have an id."""
    columns = [str(column.name) for column in place.model.__table__.columns if column.computed is None]
    values = [
        f"$1::text::{_kind(place.model)}"
        if _quoted(name) == tenant
        else "gen_random_uuid()"
        if name == "id" and isinstance(place.model.__table__.columns[name].type, Uuid)
        else _quoted(name)
        for name in columns
    ]
    names = ", ".join(map(_quoted, columns))
    return f"INSERT INTO {place.relation.quoted} ({names}) SELECT {', '.join(values)} FROM {place.relation.quoted}"
