"""`holdfast roles`: the roles of a PostgreSQL server that row security wants."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from holdfast.cli.output import Database, Json, help_of, print_json, say

Serving = Annotated[
    list[str] | None,
    typer.Option(metavar="LOGIN", help="A login of processes that answer requests and follow the journal; several."),
]
Migrating = Annotated[
    list[str] | None, typer.Option(metavar="LOGIN", help="A login that runs migrations and makes partitions; several.")
]

app = typer.Typer(
    no_args_is_help=True,
    help="The roles that row security wants: made, or told.",
    epilog="Example: holdfast roles create --serving app --migrating deploy",
)


@app.callback()
def _group() -> None:
    """The roles that row security wants: made, or told."""


def create(
    serving: Serving = None, migrating: Migrating = None, database: Database = None, as_json: Json = False
) -> None:
    """Make the roles that the server lacks, and admit logins to them. It wants a superuser.

    Doing it again changes nothing. The policies of the tables come with `holdfast migrate up` under
    HOLDFAST_ROW_SECURITY=on.

    Example:

    holdfast roles create --serving app --migrating deploy --database postgresql://postgres@db.internal/shop
    """
    statements = asyncio.run(_create(database, serving or [], migrating or []))
    if as_json:
        print_json({"statements": statements})
        return
    for statement in statements:
        say(statement)
    say("Set HOLDFAST_ROW_SECURITY=on, and run `holdfast migrate up` with a login that migrates.")


def sql(serving: Serving = None, migrating: Migrating = None) -> None:
    """Print the statements, for whoever has the superuser. Nothing is asked of any database.

    Example:

    holdfast roles sql --serving app --migrating deploy | psql
    """
    from holdfast.migrate.roles import PURPOSES, admission, creation

    for name, purpose in PURPOSES.items():
        typer.echo(f"-- {name}: {purpose}")
    for statement in (*creation(), *admission(serving=serving or [], migrating=migrating or [])):
        typer.echo(f"{statement};")


app.command("create", help=help_of(create))(create)
app.command("sql", help=help_of(sql))(sql)


async def _create(database: str | None, serving: list[str], migrating: list[str]) -> list[str]:
    from holdfast.errors import ConfigurationError
    from holdfast.migrate import roles
    from holdfast.settings import Settings
    from holdfast.store import Store

    # Without row security, which a login of a server without the roles could not have.
    store = Store(Settings.from_environment(database_url=database, row_security=False))
    try:
        if store.dialect != "postgresql":
            raise ConfigurationError(f"{store.place} is no PostgreSQL, and has no roles; name one with --database")
        async with store.connect(write=True) as connection:
            return await roles.create(connection, serving=serving, migrating=migrating)
    finally:
        await store.close()
