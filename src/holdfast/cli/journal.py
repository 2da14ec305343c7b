"""`holdfast journal`: what changed, in order, and who follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from holdfast.cli.output import Database, Json, console, print_json

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="What changed, in order, and who follows it.")

Follower = Annotated[str, typer.Argument(metavar="FOLLOWER", help="As `holdfast journal status` names it.")]


@app.callback()
def _group() -> None:
    """What changed, in order, and who follows it."""


@app.command("status")
def status(database: Database = None, as_json: Json = False) -> None:
    """The journal's position and every durable follower: how far behind, what it could not take.

    Example:

      holdfast journal status --json
    """
    found = asyncio.run(_with(database, lambda hold: hold.journal.status()))
    if as_json:
        print_json(found)
        return
    from rich.table import Table

    out = console()
    out.print(f"position {found.position}")
    if not found.followers:
        out.print("No followers yet; `holdfast up` runs those of the rollups.")
        return
    table = Table("follower", "state", "position", "changes behind", "seconds behind", "parked", "run by", box=None)
    for f in found.followers:
        numbers = (f"{f.lag_changes:,}", f"{f.lag_seconds:.1f}", str(f.parked))
        table.add_row(f.name, f.state, f.position, *numbers, f.holder or "nobody")
        if f.reason:
            table.add_row("", f"[red]{f.reason}[/red]")
    out.print(table)


@app.command("tail")
def tail(
    database: Database = None,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="Begin behind it; else with what comes.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table or topic; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many changes.")] = None,
    as_json: Json = False,
) -> None:
    """Changes as they are committed, by whatever program, until Ctrl-C.

    Examples:

      holdfast journal tail --table agents

      holdfast journal tail --after 1-0-0 --limit 10 --json
    """
    asyncio.run(_with(database, lambda hold: _tail(hold, after, table, limit, as_json)))


async def _tail(hold: Holdfast, after: str | None, tables: list[str] | None, limit: int | None, as_json: bool) -> None:
    from holdfast.journal import Position

    out = console()
    start = None if after is None else Position.parse(after)
    seen = 0
    async for change in hold.journal.tail(start, tables=tables):
        if as_json:
            print_json(change)
        else:
            by = f" by {change.actor}" if change.actor else ""
            facts = "" if change.new is None else f" {msgspec.json.encode(change.new).decode()}"
            out.print(f"{change.seq} {change.op} {change.table} {change.key or ''}{by}{facts}", markup=False)
        seen += 1
        if seen == limit:
            return


@app.command("retry")
def retry(follower: Follower, database: Database = None) -> None:
    """Have a follower take its dead letters again, in order, wherever it runs.

    Example:

      holdfast journal retry rollups
    """
    asyncio.run(_with(database, lambda hold: hold.journal.retry(follower)))
    console().print(f"{follower} will take its dead letters again within seconds, if a process runs it")


@app.command("skip")
def skip(
    follower: Follower,
    table: Annotated[str | None, typer.Option(help="Only of this table.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key.")] = None,
    database: Database = None,
) -> None:
    """Drop dead letters of a follower; later changes of their keys are delivered again.

    Example:

      holdfast journal skip rollups --table x402_payments
    """
    dropped = asyncio.run(_with(database, lambda hold: hold.journal.skip(follower, table=table, key=key)))
    console().print(f"dropped {dropped} dead letters of {follower}")


@app.command("rebuild")
def rebuild(follower: Follower, database: Database = None) -> None:
    """Have a follower begin anew with a reset of everything.

    Example:

      holdfast journal rebuild rollups
    """
    asyncio.run(_with(database, lambda hold: hold.journal.rebuild(follower)))
    console().print(f"{follower} will rebuild when a process runs it")


@app.command("forget")
def forget(follower: Follower, database: Database = None) -> None:
    """Remove a follower that no process will run again, so that the journal need not be kept for it.

    Example:

      holdfast journal forget old-exporter
    """
    asyncio.run(_with(database, lambda hold: hold.journal.forget(follower)))
    console().print(f"{follower} is forgotten")


async def _with(database: str | None, work: Callable[[Holdfast], Awaitable[T]]) -> T:
    from holdfast.apps import agents  # noqa: F401  declares the models
    from holdfast.hold import Holdfast

    async with await Holdfast.open(database, migrate=False) as hold:
        return await work(hold)
