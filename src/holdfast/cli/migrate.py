"""`holdfast migrate`: bring the database to where the models are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table

from holdfast.cli.migrate_lint import lint
from holdfast.cli.migrate_options import Folder, Phase
from holdfast.cli.migrate_progress import shown_progress
from holdfast.cli.migrate_safety import Unsafe, refuse, refuse_changes, unsafe
from holdfast.cli.migrate_tenants import tenants
from holdfast.cli.migrate_validate import validate
from holdfast.cli.models import metadata_of
from holdfast.cli.output import FAILED, USAGE, Database, Json, complain, console, help_of, print_json, say

if TYPE_CHECKING:
    from holdfast.hold import Holdfast
    from holdfast.migrate import Difference, Migrations
    from holdfast.settings import Settings

T = TypeVar("T")

Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for another process that migrates.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it in production too.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Bring the database to where the models are.",
    epilog='Example: holdfast migrate new "Add titles" && holdfast migrate up',
)


def new(
    title: Annotated[str, typer.Argument(help="What it does, in a few words.")],
    empty: Annotated[bool, typer.Option("--empty", help="Write a migration that does nothing yet.")] = False,
    folder: Folder = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write the migrations that bring the ones that are there to the models.

    They are run in a scratch that is thrown away; your tables are not touched. What adds, what takes long and what
    takes away land in files of their own, so that an old and a new program can run beside each other.

    Example:

    holdfast migrate new "Add titles"
    """
    from holdfast.migrate import writer

    async def work(hold: Holdfast, migrations: Migrations) -> Any:
        write = writer.write_empty if empty else writer.write_new
        return await write(migrations, title)

    if not any(sign.isalnum() for sign in title):
        complain(f"holdfast: {title!r} has no letters to make a name of; say in a few words what the migration does")
        raise typer.Exit(USAGE)
    written = _run(database, folder, work)
    if as_json:
        print_json({**_plain(written), "paths": [str(path) for path in written.paths]})
        return
    if not written.paths and not written.left:
        say("the migrations make what the models have; nothing to write")
    for path in written.paths:
        say(f"wrote {path}")
    for column in written.unfilled:
        say(f"  {column}: say in the file what the rows that are there get, it refuses to run until then", "yellow")
    for column in written.unfilled_back:
        say(f"  {column}: say in `downgrade` what the rows get, their values are gone by then", "yellow")
    for column in written.rewrites:
        say(f"  {column}: PostgreSQL writes the whole table anew for this change of type; see the guide", "yellow")
    for line in written.left:
        say(f"  not covered, write it yourself: {line}", "yellow")


def up(
    phase: Phase = None,
    to: Annotated[str | None, typer.Option(help="The last revision to run.")] = None,
    wait: Wait = 600.0,
    allow_unsafe: Unsafe = False,
    folder: Folder = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Run the migrations that the database lacks.

    Without a folder of migrations, make the tables, columns, indexes and capture that are missing; nothing is then
    dropped or altered. What `holdfast migrate lint` finds unsafe is told first, and in production refused.

    Example:

    holdfast migrate up --database postgresql://app@127.0.0.1/app
    """

    findings: list[str] = []

    async def work(hold: Holdfast, migrations: Migrations) -> tuple[str, Difference | list[Any]]:
        if not migrations.files():
            if phase is not None or to is not None or _is_named(folder, hold.settings):
                raise _no_folder(migrations)
            refuse_changes(hold, await hold.pending(), allow_unsafe)
            return hold.store.place, await hold.migrate()
        findings.extend(unsafe(hold, await migrations.chosen(phase=phase, to=to)))
        refuse(hold, findings, allow_unsafe)
        for line in [] if as_json else findings:
            say(f"unsafe beside a running application: {line}", "yellow")
        with shown_progress() as migrations.progress:
            done = await migrations.up(phase=phase, to=to, told=None if as_json else _begun)
        if done:
            await hold.journal.make_tick()
        return hold.store.place, done

    place, made = _run(database, folder, work, wait=wait)
    if not isinstance(made, list):
        _say_made(place, made, as_json)
    elif as_json:
        print_json({"applied": [_plain(done) for done in made], "unsafe": findings})
    elif made:
        say(f"{place}: applied {len(made)} in {sum(done.seconds for done in made):.1f} s")
    else:
        say(f"{place}: nothing to do")


def down(
    to: Annotated[
        str | None, typer.Option(help="The revision that is to be the newest then; base takes back all.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="How many to take back, without --to.")] = 1,
    yes: Yes = False,
    wait: Wait = 600.0,
    folder: Folder = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Take back the newest migrations; what they added is lost.

    Example:

    holdfast migrate down --steps 1
    """

    async def work(hold: Holdfast, migrations: Migrations) -> Any:
        from holdfast.errors import ConfigurationError

        if hold.settings.environment == "production" and not yes:
            raise ConfigurationError(
                "this is production, and taking migrations back loses what they added; say --yes if that is meant"
            )
        return await migrations.down(to=to, steps=steps, told=None if as_json else _begun)

    done = _run(database, folder, work, wait=wait)
    if as_json:
        print_json({"taken_back": [_plain(one) for one in done]})
    else:
        say(f"took back {len(done)}" if done else "nothing to take back")


def status(folder: Folder = None, database: Database = None, as_json: Json = False) -> None:
    """List the migrations and whether the database has them; exit 1 when something stands in their way.

    Example:

    holdfast migrate status --json
    """

    async def work(hold: Holdfast, migrations: Migrations) -> Any:
        return await migrations.status(), await migrations.problems()

    found, problems = _run(database, folder, work)
    if as_json:
        print_json({"migrations": [_plain(one) for one in found], "problems": [_plain(one) for one in problems]})
    else:
        table = Table("migration", "phase", "state", "applied")
        for one in found:
            state = f"{one.state} at step {one.steps + 1}" if one.state == "interrupted" else one.state
            table.add_row(one.revision, one.phase, state, f"{one.at:%Y-%m-%d %H:%M}" if one.at else "")
        if found:
            console().print(table)
        else:
            say("there are no migrations")
        _say_problems(problems)
    if problems:
        raise typer.Exit(FAILED)


def history(folder: Folder = None, database: Database = None, as_json: Json = False) -> None:
    """List what was done to the database, oldest first.

    Example:

    holdfast migrate history
    """

    async def work(hold: Holdfast, migrations: Migrations) -> Any:
        return await migrations.events()

    events = _run(database, folder, work)
    if as_json:
        for event in events:
            print_json(_plain(event))
        return
    table = Table("when", "what", "migration", "by", "took")
    for event in events:
        took = f"{(event.ended - event.began).total_seconds():.2f} s" if event.ended else "interrupted"
        table.add_row(f"{event.began:%Y-%m-%d %H:%M:%S}", event.kind, event.revision, event.actor, took)
    console().print(table) if events else say("nothing was done to this database yet")


def plan(phase: Phase = None, folder: Folder = None, database: Database = None, as_json: Json = False) -> None:
    """Print the SQL that `up` would run, and run nothing.

    Example:

    holdfast migrate plan > review.sql
    """
    from holdfast.migrate import inspection

    async def work(hold: Holdfast, migrations: Migrations) -> Any:
        return await inspection.plan(migrations, phase=phase)

    planned = _run(database, folder, work)
    if as_json:
        for file, statements in planned:
            print_json({"revision": file.revision, "phase": file.phase, "statements": statements})
        return
    for file, statements in planned:
        say(f"-- {file.revision} ({file.phase}): {file.title}")
        for statement in statements:
            say(statement.strip() if statement.startswith("--") else f"{statement.strip()};")
        say("")
    if not planned:
        say("-- nothing to do")


def check(folder: Folder = None, database: Database = None, as_json: Json = False) -> None:
    """Look whether the migrations make the models, can be taken back, are what the database has, and are safe to run.

    Exits with 1 if not. Of safety what is pending is asked, as `holdfast migrate lint` does.

    Example, in a pipeline:

    holdfast migrate check --database "$DATABASE_URL"
    """
    from holdfast.migrate import inspection

    async def work(hold: Holdfast, migrations: Migrations) -> dict[str, list[str]]:
        problems = [f"{problem.message}: {problem.fix}" for problem in await migrations.problems()]
        return {
            "problems": problems,
            "undeclared": await inspection.undeclared(migrations),
            "irreversible": await inspection.irreversible(migrations),
            "drift": [] if problems else await inspection.drift(migrations),
            "unsafe": [] if problems else unsafe(hold, await migrations.pending()),
        }

    found = _run(database, folder, work)
    if as_json:
        print_json(found)
    else:
        titles = {
            "problems": "the files are not what was applied",
            "undeclared": "the migrations do not make the models (`holdfast migrate new` writes or lists it)",
            "irreversible": "taking back does not lead back",
            "drift": "the database is not what its migrations make",
            "unsafe": "what is pending is unsafe beside a running application",
        }
        for name, title in titles.items():
            if found[name]:
                say(title, "red")
            for line in found[name]:
                say(f"  {line}")
        if not any(found.values()):
            say("the migrations make the models, can be taken back, are what the database has, and are safe to run")
    if any(found.values()):
        raise typer.Exit(FAILED)


def repair(
    accept: Annotated[str | None, typer.Option(metavar="REVISION", help="Take its edited file as applied.")] = None,
    forget: Annotated[str | None, typer.Option(metavar="REVISION", help="Drop it from what is applied.")] = None,
    move: Annotated[str | None, typer.Option(metavar="REVISION", help="Put its file behind all others.")] = None,
    adopt: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Take all up to it as applied; the database has their tables already."),
    ] = None,
    folder: Folder = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Put right what the history or the files say, once you have decided which of them is; runs no migration.

    Example:

    holdfast migrate repair --accept 0003_add_titles
    """
    from holdfast.migrate import repair as repairing

    chosen = {"accept": accept, "forget": forget, "move": move, "adopt": adopt}
    given = [(name, value) for name, value in chosen.items() if value is not None]
    if len(given) != 1:
        complain("holdfast: say one of --accept, --forget, --move and --adopt, with a revision")
        raise typer.Exit(USAGE)
    [(name, revision)] = given

    async def work(hold: Holdfast, migrations: Migrations) -> list[str]:
        if name == "move":
            return [str(repairing.move(migrations.folder, revision))]
        if name == "adopt":
            return await repairing.adopt(migrations, revision)
        await (repairing.accept if name == "accept" else repairing.forget)(migrations, revision)
        return [revision]

    done = _run(database, folder, work)
    if as_json:
        print_json({name: done})
    else:
        said = {"accept": "accepted", "forget": "forgot", "move": "rewrote", "adopt": "took as applied"}[name]
        say(f"{said} {', '.join(done) if done else 'nothing'}")


for _command in (new, up, down, status, lint, plan, check, validate, history, repair, tenants):
    app.command(_command.__name__, help=help_of(_command))(_command)


def _run(
    database: str | None,
    folder: Path | None,
    work: Callable[[Holdfast, Migrations], Awaitable[T]],
    *,
    wait: float = 600.0,
) -> T:
    async def run() -> T:
        async with _connected(database) as hold:
            return await work(hold, hold.migrations(folder, wait=wait))

    return asyncio.run(run())


@asynccontextmanager
async def _connected(database: str | None) -> AsyncIterator[Holdfast]:
    from holdfast.hold import Holdfast
    from holdfast.settings import Settings

    settings = Settings.from_environment(database_url=database)
    hold = Holdfast(settings, metadata=metadata_of(settings))
    try:
        await hold.store.start()
        yield hold
    finally:
        await hold.close()


def _is_named(folder: Path | None, settings: Settings) -> bool:
    """Whether somebody said where the migrations are: if there are none, they are elsewhere."""
    from holdfast.settings import DEFAULT_MIGRATIONS

    return folder is not None or settings.migrations != DEFAULT_MIGRATIONS


def _no_folder(migrations: Migrations) -> Exception:
    from holdfast.errors import ConfigurationError

    return ConfigurationError(
        f"there are no migrations in {migrations.folder}; write one with `holdfast migrate new`, or name their folder"
        " with --folder"
    )


def _begun(revision: str, title: str) -> None:
    say(f"{revision}  {title}")


def _say_made(place: str, made: Difference, as_json: bool) -> None:
    if as_json:
        print_json(asdict(made))
    elif made:
        say(f"{place}: made what was missing")
        for what, names in (("table", made.tables), ("column", made.columns), ("index", made.indexes)):
            for name in names:
                say(f"  {what} {name}")
        if made.capture:
            say("  capture: the journal, and what writes to it")
    else:
        say(f"{place}: nothing to do")


def _say_problems(problems: list[Any]) -> None:
    for problem in problems:
        say(f"{problem.message}", "red")
        say(f"  {problem.fix}")


def _plain(record: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(record)
