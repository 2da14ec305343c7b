"""`holdfast seed`: plant what a database begins with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdfast.cli.opening import opened
from holdfast.cli.output import Database, Json, console, print_json, say

if TYPE_CHECKING:
    from holdfast.migrate.seeds import Seed, Sown


def seed(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Which; else all for here.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say which there are, and plant nothing.")] = False,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="How many rows, where a seed can make any number.")
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Plant the seeds that are for this environment (HOLDFAST_ENV), each after those that it needs.

    Planting again changes nothing. Production takes only seeds that say so; asking for another there is an error.
    Seeds are found in the modules of HOLDFAST_SEEDS; without it in a module `seeds` in or beside those of
    HOLDFAST_MODELS.

    Example:

    holdfast seed --rows 100000
    """
    from holdfast.migrate.seeds import in_order, seeds_of
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    known = seeds_of(settings.seeds, settings.models)
    if listed:
        _list(known, settings.environment, as_json)
        return
    chosen = in_order(known, settings.environment, names or [])
    sown = asyncio.run(_sow(database, chosen, rows, as_json)) if chosen else []
    if as_json:
        for one in sown:
            print_json(one)
        return
    for one in sown:
        counts = f"{one.inserted:,} new, {one.updated:,} changed, {one.unchanged:,} as they were"
        say(f"{one.name}: {counts}, {one.seconds:.1f} s")
    if not sown:
        say(f"there is nothing to plant in {settings.environment}")


def _list(known: list[Seed], environment: str, as_json: bool) -> None:
    if as_json:
        for one in known:
            print_json({"name": one.name, "title": one.title, "environments": one.environments, "after": one.after})
        return
    table = Table("seed", "for", "after", "what")
    for one in known:
        style = "" if environment in one.environments else "dim"
        table.add_row(one.name, ", ".join(one.environments), ", ".join(one.after), one.title, style=style)
    console().print(table) if known else say("there are no seeds")


async def _sow(database: str | None, chosen: list[Seed], rows: int | None, as_json: bool) -> list[Sown]:
    from holdfast.migrate.seeds import sow

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with opened(database) as hold:
        with Progress(*columns, console=console(stderr=True), transient=True, disable=as_json) as progress:
            task = progress.add_task("", total=None)
            sown = await sow(
                hold.store,
                chosen,
                rows=rows,
                began=lambda one: progress.reset(task, description=one.name, total=None),
                told=lambda done: progress.advance(task, done),
            )
        await hold.journal.make_tick()
        return sown
