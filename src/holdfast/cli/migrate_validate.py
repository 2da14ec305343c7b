"""`holdfast migrate validate`: whether the schema is whole and every row can be read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdfast.cli.models import metadata_of
from holdfast.cli.output import FAILED, Database, Json, console, print_json, say

if TYPE_CHECKING:
    from holdfast.migrate.validation import Validation


def validate(database: Database = None, as_json: Json = False) -> None:
    """Look for rows that refer to nothing, constraints that were never validated, indexes that are not usable, columns
    that are not what the models declare, and values that their types cannot read; exit 1 if there are any.

    Nothing is changed. Every row of the models' tables is looked at, which takes its time on large ones.

    Example:

    holdfast migrate validate --json
    """
    found = asyncio.run(_validate(database))
    if as_json:
        print_json(found)
    else:
        table = Table("table", "rows")
        for name, rows in found.rows.items():
            table.add_row(name, f"{rows:,}")
        if found.rows:
            console().print(table)
        for finding in found.findings:
            say(finding.message, "yellow" if finding.kind == "extra" else "red")
            say(f"  {finding.fix}")
        if not found.findings:
            say("the schema is whole, and every row can be read")
    if found.faults:
        raise typer.Exit(FAILED)


async def _validate(database: str | None) -> Validation:
    from holdfast.hold import Holdfast
    from holdfast.migrate.validation import validate as look
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    hold = Holdfast(settings, metadata=metadata_of(settings))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("the schema", total=None)
        try:
            await hold.start(migrate=False)
            return await look(
                hold.store,
                hold.migrations().metadatas,
                told=lambda table: progress.update(task, description=table),
            )
        finally:
            await hold.close()
