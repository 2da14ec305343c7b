"""`holdfast work`: what is done on a schedule, and a worker that does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.text import Text

from holdfast.cli.opening import opened
from holdfast.cli.output import DONE_IN_PART, FAILED, Database, Json, console, help_of, print_json, say, visible
from holdfast.cli.signals import end_on_signals

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.operate import PastRun

T = TypeVar("T")

app = typer.Typer(
    invoke_without_command=True,
    help="Run what is due, until Ctrl-C; or look after the schedules.",
    epilog="Example: holdfast work --once",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `holdfast work list` names it.")]


@app.callback()
def work(
    context: typer.Context,
    database: Database = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end.")] = False,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Runs at a time.")] = 4,
    as_json: Json = False,
) -> None:
    """Run what is due, until Ctrl-C; or look after the schedules.

    Schedules and handlers are those of the modules in HOLDFAST_MODELS. Any number of workers may run: one of them takes
    each turn, and one runs each handler. With --once only schedules are run.
    With --once the exit is 1 where all runs failed, and 3 where some did.

    Examples:

    holdfast work

    holdfast work --once --json
    """
    if context.invoked_subcommand is not None:
        if once or as_json or database is not None:
            raise typer.BadParameter(f"options go behind the command: holdfast work {context.invoked_subcommand} …")
        return
    ended: list[PastRun] = []

    def note(run: PastRun) -> None:
        ended.append(run)
        _show(run, as_json)
        if not once:
            del ended[:-1]

    asyncio.run(_work(database, once, concurrency, note))
    failed = sum(run.state != "done" for run in ended)
    if once and failed:
        raise typer.Exit(FAILED if failed == len(ended) else DONE_IN_PART)


async def _work(database: str | None, once: bool, concurrency: int, note: Callable[[PastRun], None]) -> None:
    end_on_signals()
    with contextlib.suppress(asyncio.CancelledError):
        async with opened(database) as hold:
            await hold.schedules.states()  # a database that is not migrated is an error, not one to wait for
            if not once:
                await hold.follow()
            worker = hold.worker(concurrency=concurrency, ended=note)
            await (worker.once() if once else worker.run())


def list_(database: Database = None, as_json: Json = False) -> None:
    """Every schedule: when it is due next, and how its last run ended.

    Example:

    holdfast work list
    """
    states = asyncio.run(_with(database, lambda hold: hold.schedules.states()))
    if as_json:
        for state in states:
            print_json(state)
        return
    if not states:
        say("No schedules yet; declare one with @scheduled(…), and run `holdfast work`.")
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("schedule", "rhythm", "next", "last", "ended", "run by"):
        table.add_column(heading, overflow="fold")
    for state in states:
        table.add_row(
            Text(state.name),
            Text(state.rhythm),
            _told(state.next_at) if state.enabled else "paused",
            state.last_state or "–",
            _told(state.last_ended),
            Text(state.run_by or "–"),
        )
    console().print(table)
    for state in states:
        if (problem := state.problem()) is not None:
            say(visible(problem), "red")


def history(
    name: Name,
    database: Database = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="The newest so many.")] = 20,
    as_json: Json = False,
) -> None:
    """The runs of one schedule, newest first; a hundred are kept.

    Example:

    holdfast work history nightly
    """
    for run in asyncio.run(_with(database, lambda hold: hold.schedules.history(name, limit))):
        _show(run, as_json)


def run(name: Name, database: Database = None, as_json: Json = False) -> None:
    """Run one schedule now, also a paused one; its own turns stay as they are. Exits with 1 when it fails.

    Example:

    holdfast work run nightly
    """
    ended = asyncio.run(_with(database, lambda hold: hold.run_schedule(name)))
    _show(ended, as_json)
    if ended.state != "done":
        raise typer.Exit(FAILED)


def pause(name: Name, database: Database = None) -> None:
    """Let no further run of a schedule begin, in any worker; one that runs goes on to its end.

    Example:

    holdfast work pause nightly
    """
    asyncio.run(_with(database, lambda hold: hold.schedules.pause(name)))
    say(visible(f"{name} is paused; `holdfast work resume {name}` takes it up again"))


def resume(name: Name, database: Database = None) -> None:
    """Take up a paused schedule with its next turn; those that came meanwhile are left out.

    Example:

    holdfast work resume nightly
    """
    asyncio.run(_with(database, lambda hold: hold.schedules.resume(name)))
    say(visible(f"{name} runs again at its next turn"))


def forget(name: Name, database: Database = None) -> None:
    """Remove a schedule that no code declares any more, with its history.

    Example:

    holdfast work forget old-report
    """
    asyncio.run(_with(database, lambda hold: hold.schedules.forget(name)))
    say(visible(f"{name} is forgotten"))


for _command in (list_, history, run, pause, resume, forget):
    app.command(_command.__name__.rstrip("_"), help=help_of(_command))(_command)


def _show(run: PastRun, as_json: bool) -> None:
    if as_json:
        print_json(run, flush=True)
        return
    took = "" if run.ended is None else f" after {(run.ended - run.began) / 1_000:.1f} s"
    why = f": {run.error}" if run.error else ""
    again = f", attempt {run.attempt}" if run.attempt > 1 else ""
    say(visible(f"{_told(run.planned)} {run.name} {run.state}{took}{again}{why}"), "" if run.state == "done" else "red")


def _told(moment: int | None) -> str:
    from holdfast.operate.rhythm import time_of

    return "–" if moment is None else f"{time_of(moment):%Y-%m-%d %H:%M:%S}Z"


async def _with(database: str | None, work: Callable[[Holdfast], Awaitable[Any]]) -> Any:
    async with opened(database) as hold:
        return await work(hold)
