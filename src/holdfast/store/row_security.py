"""Row security on PostgreSQL: what a unit says so that the database itself confines it to its tenant.

A unit that is not for all tenants runs as the role `holdfast_app`, which owns nothing and bypasses nothing, with its
tenant in a setting that the policies of the tables read. Both last as long as the transaction, so that any pooler may
stand between. A unit for all tenants runs as the login, which must be a member of `holdfast_worker` as well.
"""

# ruff: noqa: S608  the names in the statements are constants
from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session, SessionTransaction

from holdfast.errors import ConfigurationError
from holdfast.store.scope import ALL, ScopedSession, scope_of

OWNER = "holdfast_owner"
APP = "holdfast_app"
WORKER = "holdfast_worker"
READONLY = "holdfast_readonly"
BACKUP = "holdfast_backup"
ROLES = (OWNER, APP, WORKER, READONLY, BACKUP)

DERIVED = "holdfast_derived"
"""In the `info` of a table that holds figures of a model's rows: the model. Who may see all of these may read it."""

SUBJECT_KEYS = "holdfast_subject_keys"
"""The table of the keys under which is kept what is known of a person: in no backup of the rest, and no row goes."""

TENANT = "holdfast.tenant"
"""The setting that names the tenant of a transaction."""

_CONFINED = "holdfast_row_security"
_CONFINE = text(f"SELECT set_config('role', '{APP}', true), set_config('{TENANT}', :tenant, true)")
_LOGIN = text(
    "SELECT current_user AS name, rolsuper OR rolbypassrls AS sees_all,"
    f" (SELECT count(*) FROM pg_roles WHERE rolname = ANY (ARRAY{list(ROLES)!r})) AS roles,"
    f" (SELECT bool_or(pg_has_role(current_user, oid, 'MEMBER')) FROM pg_roles WHERE rolname = '{APP}') AS is_app,"
    f" (SELECT bool_or(pg_has_role(current_user, oid, 'USAGE')) FROM pg_roles WHERE rolname = '{WORKER}') AS is_worker,"
    " (SELECT min(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relforcerowsecurity"
    "  AND relkind IN ('r', 'p')) AS forced FROM pg_roles WHERE rolname = current_user"
)


class Login(NamedTuple):
    """Who is connected, and what that login is.

    Attributes:
        name: of the role.
        sees_all: whether no policy reaches it: a superuser, or BYPASSRLS.
        roles: how many of `ROLES` the server has.
        is_app, is_worker: whether it may act as `holdfast_app`, and is a member of `holdfast_worker`.
        forced: a table whose policies reach its owner too; None where there is none.
    """

    name: str
    sees_all: bool
    roles: int
    is_app: bool
    is_worker: bool
    forced: str | None


async def login(connection: AsyncConnection) -> Login:
    """Who is connected."""
    row = (await connection.execute(_LOGIN)).one()
    return Login(row.name, row.sees_all, row.roles, bool(row.is_app), bool(row.is_worker), row.forced)


def check_login(who: Login, place: str, *, wanted: bool) -> None:
    """Refuse a login with which units would be confined by nobody, or work for all tenants would see no rows.

    Args:
        wanted: whether the settings ask for row security.

    Raises:
        ConfigurationError: with what to do.
    """
    if wanted and who.roles < len(ROLES):
        raise ConfigurationError(
            f"HOLDFAST_ROW_SECURITY is on, but the server of {place} lacks its roles; make them with"
            " `holdfast roles create`, as a superuser"
        )
    if wanted and not who.is_app:
        raise ConfigurationError(
            f"HOLDFAST_ROW_SECURITY is on, but {who.name} may not act as {APP}: GRANT {APP}, {WORKER} TO {who.name}"
        )
    if (wanted or who.forced) and not (who.is_worker or who.sees_all):
        why = "HOLDFAST_ROW_SECURITY is on" if wanted else f"the table {who.forced} has forced row security"
        raise ConfigurationError(
            f"{why}, and {who.name} is no member of {WORKER}: what works for all tenants (followers, backfills,"
            f" roll-ups) would find every table empty; GRANT {WORKER} TO {who.name}"
        )


def confine(session: Session) -> None:
    """Have the database confine every transaction of a unit's session to the unit's tenant."""
    session.info[_CONFINED] = True


@event.listens_for(ScopedSession, "after_begin")
def _confine(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    scope = scope_of(session)
    if session.info.get(_CONFINED) and scope is not None and scope.tenant is not ALL:
        connection.execute(_CONFINE, {"tenant": scope.tenant or ""})
