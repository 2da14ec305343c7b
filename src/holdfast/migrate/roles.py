"""The roles of a PostgreSQL server that row security wants, and who may act as them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.store.row_security import APP, BACKUP, OWNER, READONLY, WORKER

PURPOSES = {
    OWNER: "owns every table and function, and migrates; no policy reaches it",
    APP: "what a unit of one tenant runs as: it owns nothing, and sees its tenant's rows",
    WORKER: "works for all tenants: followers, backfills, roll-ups, keys",
    READONLY: "reads, within a tenant, what the application shows; no secret columns",
    BACKUP: "reads everything but the keys of people, for pg_dump --role=holdfast_backup; no policy reaches it",
}
_ATTRIBUTES = {OWNER: " BYPASSRLS", BACKUP: " BYPASSRLS"}


def quoted(name: str) -> str:
    """A role's name, as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def creation(there: Sequence[str] = ()) -> list[str]:
    """The statements that make the roles a server lacks; `there` is what it has. Nobody can log in as one of them."""
    return [f"CREATE ROLE {name} NOLOGIN{_ATTRIBUTES.get(name, '')}" for name in PURPOSES if name not in there]


def admission(*, serving: Sequence[str] = (), migrating: Sequence[str] = ()) -> list[str]:
    """The statements that let logins act as the roles.

    Args:
        serving: logins of processes that answer requests and follow the journal.
        migrating: logins that run migrations and make partitions too.
    """
    made = [f"GRANT {APP}, {WORKER} TO {quoted(login)}" for login in (*serving, *migrating)]
    return [*made, *(f"GRANT {OWNER} TO {quoted(login)}" for login in migrating)]


async def create(
    connection: AsyncConnection, *, serving: Sequence[str] = (), migrating: Sequence[str] = ()
) -> list[str]:
    """Make the roles that the server lacks, and admit logins, in the connection's transaction; returns what was run."""
    names = list(PURPOSES)
    found = await connection.exec_driver_sql("SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)", (names,))
    statements = [*creation(list(found.scalars())), *admission(serving=serving, migrating=migrating)]
    for statement in statements:
        await connection.exec_driver_sql(statement)
    return statements
