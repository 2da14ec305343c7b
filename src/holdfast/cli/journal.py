"""`holdfast journal`: what changed, in order, and who follows it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.text import Text

from holdfast.cli.opening import opened
from holdfast.cli.output import Database, Json, console, help_of, print_json, say, visible

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.journal import Change, DeadLetter

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="What changed, in order, and who follows it.",
    epilog="Example: holdfast journal status",
)

Follower = Annotated[str, typer.Argument(metavar="FOLLOWER", help="As `holdfast journal status` names it.")]


@app.callback()
def _group() -> None:
    """What changed, in order, and who follows it."""


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

    say(f"position {found.position}")
    if not found.followers:
        say("No followers yet; `holdfast up` runs those of rollups and handlers.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("follower", "state", "position", "behind", "handled", "failures", "parked", "run by"):
        table.add_column(name, overflow="fold")
    for f in found.followers:
        behind = f"{f.lag_changes:,} changes, {f.lag_seconds:.1f} s"
        counts = (f"{count:,}" for count in (f.handled, f.failures, f.parked))
        table.add_row(Text(f.name), f.state, f.position, behind, *counts, Text(f.holder or "nobody"))
    console().print(table)
    for problem in [problem for f in found.followers for problem in f.problems()]:
        say(visible(problem), "red")


def tail(
    database: Database = None,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="Begin behind it; else with what comes.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="TABLE", help="Only this table or topic; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after so many changes.")] = None,
    as_json: Json = False,
) -> None:
    """Changes as they are committed, by whatever program, until Ctrl-C; without the values of private columns.

    What is no longer kept after POSITION is told as a reset of everything.

    Examples:

    holdfast journal tail --table agents

    holdfast journal tail --after 1-0-0 --limit 10 --json
    """
    asyncio.run(_with(database, lambda hold: _tail(hold, after, table, limit, as_json)))


async def _tail(hold: Holdfast, after: str | None, tables: list[str] | None, limit: int | None, as_json: bool) -> None:
    from holdfast.guard.audit.masking import masking
    from holdfast.journal import Position

    masked = masking(hold.models)
    start = None if after is None else Position.parse(after)
    seen = 0
    async for whole in hold.journal.tail(start, tables=tables):
        change = masked(whole)
        if as_json:
            print_json(change, flush=True)
        else:
            say(_told(change))
        seen += 1
        if seen == limit:
            return


def _told(change: Change) -> str:
    if change.table == "*":
        return "reset of everything: the changes after that position are no longer kept"
    by = f" by {change.actor}" if change.actor else ""
    facts = "" if change.new is None else f" {msgspec.json.encode(change.new).decode()}"
    return visible(f"{change.seq} {change.op} {change.table} {change.key or ''}{by}{facts}")


def parked(follower: Follower, database: Database = None, as_json: Json = False) -> None:
    """The changes that a follower could not take, oldest first, and why: its dead letters.

    Example:

    holdfast journal parked rollups
    """
    letters = asyncio.run(_with(database, lambda hold: _letters(hold, follower)))
    for letter in letters:
        if as_json:
            print_json(letter)
            continue
        change = letter.change
        at = dt.datetime.fromtimestamp(letter.parked, dt.UTC)
        say(visible(f"{at:%Y-%m-%d %H:%M:%S}Z {change.op} {change.table} {change.key or ''}: {letter.error}"))
    if not letters and not as_json:
        say(f"{follower} has no dead letters")


async def _letters(hold: Holdfast, follower: str) -> list[DeadLetter]:
    from holdfast.guard.audit.masking import masking

    masked = masking(hold.models)
    letters = await hold.journal.dead_letters(follower)
    return [msgspec.structs.replace(letter, change=masked(letter.change)) for letter in letters]


def retry(follower: Follower, database: Database = None) -> None:
    """Have a follower take its dead letters again, in order, wherever it runs.

    Example:

    holdfast journal retry rollups
    """
    asyncio.run(_with(database, lambda hold: hold.journal.retry(follower)))
    say(f"{follower} will take its dead letters again within seconds, if a process runs it")


def skip(
    follower: Follower,
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Only of this table.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only of this key.")] = None,
    database: Database = None,
) -> None:
    """Drop dead letters of a follower; later changes of their keys are delivered again.

    Example:

    holdfast journal skip rollups --table x402_payments
    """
    dropped = asyncio.run(_with(database, lambda hold: hold.journal.skip(follower, table=table, key=key)))
    say(f"dropped {dropped:,} dead letter{'' if dropped == 1 else 's'} of {follower}")


def rebuild(follower: Follower, database: Database = None) -> None:
    """Have a follower begin anew with a reset of everything.

    Example:

    holdfast journal rebuild rollups
    """
    asyncio.run(_with(database, lambda hold: hold.journal.rebuild(follower)))
    say(f"{follower} will rebuild when a process runs it")


def forget(follower: Follower, database: Database = None) -> None:
    """Remove a follower that no process will run again, so that the journal need not be kept for it.

    Example:

    holdfast journal forget old-exporter
    """
    asyncio.run(_with(database, lambda hold: hold.journal.forget(follower)))
    say(f"{follower} is forgotten")


for _command in (status, tail, parked, retry, skip, rebuild, forget):
    app.command(_command.__name__, help=help_of(_command))(_command)


async def _with(database: str | None, work: Callable[[Holdfast], Awaitable[T]]) -> T:
    async with opened(database) as hold:
        return await work(hold)
