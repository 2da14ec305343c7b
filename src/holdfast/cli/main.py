"""The `holdfast` command: its subcommands, and how errors reach a person."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from holdfast import logs
from holdfast.cli import (
    audit,
    cache,
    doctor,
    encrypt,
    index,
    journal,
    keys,
    migrate,
    privacy,
    query,
    roles,
    seed,
    up,
    webhooks,
    work,
)
from holdfast.cli.output import DONE_IN_PART, FAILED, INTERRUPTED, OutputLost, ReaderGone, complain, help_of, mute
from holdfast.errors import HoldfastError

_TRACE = "HOLDFAST_TRACEBACK"

app = typer.Typer(
    name="holdfast",
    help="A data layer: models with policies, one ordered journal, and what follows it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="The database is --database, else HOLDFAST_DATABASE_URL, else ./holdfast.db. Example: holdfast up",
)
app.command("up", help=help_of(up.up))(up.up)
app.add_typer(index.app, name="index")
app.add_typer(query.app, name="query")
app.add_typer(migrate.app, name="migrate")
app.command("seed", help=help_of(seed.seed))(seed.seed)
app.add_typer(journal.app, name="journal")
app.add_typer(cache.app, name="cache")
app.add_typer(encrypt.app, name="encrypt")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(privacy.app, name="privacy")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(roles.app, name="roles")
app.add_typer(work.app, name="work")
app.command("doctor", help=help_of(doctor.doctor))(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("holdfast"))
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, to standard error.")] = False,
) -> None:
    # What a command has to say it says itself; a service has nobody else to tell.
    level = (
        logging.INFO if verbose else logging.WARNING if context.invoked_subcommand in ("up", "work") else logging.ERROR
    )
    logs.show(sys.stderr, level)


def main() -> None:
    """Run the command line; exit 0 done, 1 wrong, 2 usage, 3 done in part, 130 interrupted."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (ReaderGone, BrokenPipeError):
        mute()
        sys.exit(DONE_IN_PART)
    except HoldfastError as error:
        if isinstance(error, OutputLost):
            mute()
        complain(f"holdfast: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        mute()
        named = f" {error.filename!r}" if error.filename is not None else " the output"
        complain(f"holdfast: cannot read or write{named}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get(_TRACE):
            raise
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        complain(f"holdfast: this should not happen ({said}); please report it with what {_TRACE}=1 shows")
    sys.exit(FAILED)
