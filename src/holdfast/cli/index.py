"""`holdfast index`: copy what an upstream says into the store."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from holdfast.cli.opening import opened
from holdfast.cli.output import (
    DONE_IN_PART,
    INTERRUPTED,
    USAGE,
    Database,
    Json,
    complain,
    console,
    help_of,
    print_json,
    say,
)

if TYPE_CHECKING:
    from holdfast.apps.agents.indexing import SolanaFiles

_STDIN = "-"

app = typer.Typer(
    no_args_is_help=True,
    help="Copy what an upstream says into the store, once, without gaps.",
    epilog="Example: holdfast index solana block.json --all",
)


@app.callback()
def _group() -> None:
    """Copy what an upstream says into the store, once, without gaps."""


def solana(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders, or - for standard input.")],
    database: Database = None,
    keep_all: Annotated[bool, typer.Option("--all", help="Keep every token transfer, not only payments.")] = False,
    facilitators: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own facilitators, beside the shipped list.")
    ] = None,
    recognition: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What else the recogniser should know (docs/guides/x402.md).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Index Solana transactions: getTransaction or getBlock answers, JSON lines of any, .gz or .zst too.

    A record that is not what it should be is set aside with its file, line and reason, and the rest is indexed
    (exit 3). Indexing the same again adds nothing.

    Examples:

    holdfast index solana block.json more/ --all

    zcat history.jsonl.gz | holdfast index solana - --json
    """
    for path in paths:
        if path != _STDIN and not os.path.lexists(path):
            complain(f"holdfast: there is no file or folder {path!r}; nothing was indexed")
            raise typer.Exit(USAGE)
    done = asyncio.run(_solana(paths, database, keep_all, facilitators, recognition, as_json))
    if not done:
        raise typer.Exit(DONE_IN_PART)


app.command("solana", help=help_of(solana))(solana)


async def _solana(
    paths: list[str],
    database: str | None,
    keep_all: bool,
    facilitators: Path | None,
    recognition: Path | None,
    as_json: bool,
) -> bool:
    from holdfast.apps import agents
    from holdfast.apps.agents.indexing import SolanaFiles, make_recogniser
    from holdfast.errors import StoreError

    recogniser = make_recogniser(facilitators, recognition)
    began = time.perf_counter()
    async with opened(database, metadata=agents.metadata, migrate=True) as hold:
        run = SolanaFiles(hold, recogniser, keep_all=keep_all)
        try:
            await _with_progress(run, paths)
        except asyncio.CancelledError:
            _tell_kept(run, "interrupted")
            # A read of standard input may wait in its thread for ever, and Python would wait for the thread.
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        except StoreError:
            _tell_kept(run, "stopped")
            raise
    counts, seconds = run.counts, round(time.perf_counter() - began, 3)
    if as_json:
        print_json(
            {
                "transactions": counts.transactions,
                "failed": counts.failed,
                "transfers": counts.transfers,
                "payments": counts.payments,
                "duplicates": counts.duplicates,
                "rejected": run.rejected,
                "seconds": seconds,
            }
        )
    else:
        aside = f"; {run.rejected:,} records set aside" if run.rejected else ""
        say(
            f"{counts.transactions:,} transactions ({counts.failed:,} failed), {counts.transfers:,} token transfers,"
            f" {counts.payments:,} x402 payments; {counts.duplicates:,} were there already{aside}; {seconds:g} s"
        )
    _tell_rejected(run)
    return not run.rejected


async def _with_progress(run: SolanaFiles, paths: list[str]) -> None:
    from holdfast.upstreams.solana.sources import total_bytes

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    err = console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("Indexing", total=total_bytes(paths))
        await run.index(paths, on_bytes=lambda n: progress.advance(bar, n))


def _tell_kept(run: SolanaFiles, what: str) -> None:
    complain(
        f"holdfast: {what}; the {run.counts.transactions:,} transactions read so far are kept;"
        " run the same again for the rest"
    )


def _tell_rejected(run: SolanaFiles) -> None:
    lines = run.rejected_lines()
    for line in lines:
        complain(f"rejected: {line}")
    if run.rejected > len(lines):
        complain(f"rejected: {run.rejected - len(lines):,} more; all are in the table holdfast_rejected_records")
