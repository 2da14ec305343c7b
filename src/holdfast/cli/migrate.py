"""`holdfast migrate`: bring the database to where the models are."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from holdfast.cli.migrate_lint import lint
from holdfast.cli.models import metadata_of
from holdfast.cli.output import Database, Json, help_of, print_json, say

app = typer.Typer(
    no_args_is_help=True,
    help="Bring the database to where the models are.",
    epilog="Example: holdfast migrate up",
)


@app.callback()
def _group() -> None:
    """Bring the database to where the models are."""


def up(database: Database = None, as_json: Json = False) -> None:
    """Make the tables, columns, indexes and capture that are missing; nothing is dropped or altered.

    Example:

    holdfast migrate up --database postgresql://app@127.0.0.1/app
    """
    asyncio.run(_up(database, as_json))


app.command("up", help=help_of(up))(up)
app.command("lint", help=help_of(lint))(lint)


async def _up(database: str | None, as_json: bool) -> None:
    from holdfast.hold import Holdfast
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    hold = Holdfast(settings, metadata=metadata_of(settings))
    try:
        await hold.store.start()
        made = await hold.migrate()
    finally:
        await hold.close()
    if as_json:
        print_json(asdict(made))
    elif made:
        say(f"{hold.store.place}: made what was missing")
        for what, names in (("table", made.tables), ("column", made.columns), ("index", made.indexes)):
            for name in names:
                say(f"  {what} {name}")
        if made.capture:
            say("  capture: the journal, and what writes to it")
    else:
        say(f"{hold.store.place}: nothing to do")
