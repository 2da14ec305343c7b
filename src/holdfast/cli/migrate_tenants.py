"""`holdfast migrate tenants`: the migrations over every tenant's file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.migrate_options import Folder, Phase
from holdfast.cli.migrate_safety import Unsafe, refuse, unsafe
from holdfast.cli.models import metadata_of
from holdfast.cli.output import DONE_IN_PART, FAILED, USAGE, Json, complain, console, print_json, say

if TYPE_CHECKING:
    from holdfast.migrate.files import MigrationFile

_SHOWN = 20  # failures that are told to a person; --json has all


def tenants(
    files: Annotated[Path, typer.Argument(help="The folder of the tenants' databases, one *.db each.")],
    phase: Phase = None,
    to: Annotated[str | None, typer.Option(help="The last revision to run.")] = None,
    allow_unsafe: Unsafe = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Run the migrations over every tenant's SQLite file; one that fails is reported, and the others go on.

    It may be stopped and run again: what was migrated is not touched twice. Exit 3 when some failed. What `holdfast
    migrate lint` finds unsafe is told, and in production refused, before it is run on the first file that lacks it.

    Example:

    holdfast migrate tenants var/tenants --phase pre
    """
    found = sorted(files.glob("*.db")) if files.is_dir() else []
    if not found:
        complain(f"holdfast: {files} has no *.db; name the folder of the tenants' databases")
        raise typer.Exit(USAGE)
    report = asyncio.run(_migrate(found, folder, phase, to, allow_unsafe))
    if as_json:
        print_json(report)
    else:
        counts = f"{report.migrated} migrated, {report.unchanged} unchanged"
        say(f"{len(found)} databases in {report.seconds:.1f} s: {counts}")
        for one in report.failed[:_SHOWN]:
            say(f"  {one.file}: {one.reason}", "red")
        if report.failed[_SHOWN:]:
            say(f"  and {len(report.failed) - _SHOWN} more; --json lists them all", "red")
    if not report.whole:
        raise typer.Exit(FAILED if len(report.failed) == len(found) else DONE_IN_PART)


async def _migrate(found: list[Path], folder: Path | None, phase: Any, to: str | None, allow_unsafe: bool) -> Any:
    from rich.progress import Progress

    from holdfast.errors import ConfigurationError, MigrationError
    from holdfast.hold import Holdfast
    from holdfast.migrate import Migrations, migrate_fleet
    from holdfast.migrate.files import read_folder
    from holdfast.settings import Settings

    base = Settings.from_environment()
    metadata = metadata_of(base)
    chosen = folder or Path(base.migrations)
    known = read_folder(chosen)
    if not known:
        raise ConfigurationError(f"there are no migrations in {chosen}; write one with `holdfast migrate new`")

    looked: set[str] = set()

    def look(hold: Holdfast, chosen: list[MigrationFile]) -> None:
        new = [one for one in chosen if one.revision not in looked]
        lines = unsafe(hold, new)
        try:
            refuse(hold, lines, allow_unsafe)
        except MigrationError as error:  # it concerns every file
            complain(f"holdfast: {error}")
            raise typer.Exit(FAILED) from error
        looked.update(one.revision for one in new)
        for line in lines:
            complain(f"unsafe beside a running application: {line}")

    async def open_one(file: Path) -> Migrations:
        settings = Settings.from_environment(database_url=f"sqlite:///{file}")
        hold = Holdfast(settings, metadata=metadata)
        migrations = hold.migrations(chosen, known=known)
        try:
            look(hold, await migrations.chosen(phase=phase, to=to))
        except BaseException:
            await hold.store.close()
            raise
        return migrations

    err = console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("migrating", total=len(found))
        return await migrate_fleet(found, open_one, phase=phase, to=to, told=lambda file: progress.advance(task))
