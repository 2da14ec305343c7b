"""The `holdfast` command: its subcommands, and how errors reach a person."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import structlog
import typer

from holdfast.cli import doctor, index, journal, migrate, query, up
from holdfast.cli.output import DONE_IN_PART, FAILED
from holdfast.errors import HoldfastError

app = typer.Typer(
    name="holdfast",
    help="A data layer: models with policies, one ordered journal, and what follows it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="The database is --database, else HOLDFAST_DATABASE_URL, else ./holdfast.db. Try: holdfast up",
)
app.command("up")(up.up)
app.add_typer(index.app, name="index")
app.add_typer(query.app, name="query")
app.add_typer(migrate.app, name="migrate")
app.add_typer(journal.app, name="journal")
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("holdfast"))
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, to standard error.")] = False,
) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """Run the command line; exit 0 done, 1 wrong, 2 usage, 3 done in part."""
    try:
        app()
    except HoldfastError as error:
        typer.echo(f"holdfast: {error}", err=True)
        sys.exit(FAILED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): point stdout elsewhere, or the exit flushes into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE_IN_PART)
    except KeyboardInterrupt:
        sys.exit(130)
