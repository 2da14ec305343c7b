"""`holdfast index`: copy what an upstream says into the store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from holdfast.cli.output import DONE_IN_PART, Database, Json, console, print_json

app = typer.Typer(no_args_is_help=True, help="Copy what an upstream says into the store, once, without gaps.")


@app.callback()
def _group() -> None:
    """Copy what an upstream says into the store, once, without gaps."""


@app.command("solana")
def solana(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files, folders, or - for standard input.")],
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

    A record that is not what it should be is set aside with its place and reason, and the rest is indexed
    (exit 3). Indexing the same again adds nothing.

    Examples:

      holdfast index solana block.json more/ --all

      zcat history.jsonl.gz | holdfast index solana - --json
    """
    done = asyncio.run(_solana(paths, database, keep_all, facilitators, recognition, as_json))
    if not done:
        raise typer.Exit(DONE_IN_PART)


async def _solana(
    paths: list[str],
    database: str | None,
    keep_all: bool,
    facilitators: Path | None,
    recognition: Path | None,
    as_json: bool,
) -> bool:
    from holdfast.apps.agents.indexing import SolanaFiles, make_recogniser
    from holdfast.hold import Holdfast
    from holdfast.upstreams.solana.sources import total_bytes

    recogniser = make_recogniser(facilitators, recognition)
    began = time.perf_counter()
    async with await Holdfast.open(database, migrate=True) as hold:
        run = SolanaFiles(hold, recogniser, keep_all=keep_all)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console(stderr=True), transient=True, disable=as_json) as progress:
            bar = progress.add_task("Indexing", total=total_bytes(paths))
            await run.index(paths, on_bytes=lambda n: progress.advance(bar, n))
        rejected = run.rejected_lines()
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
        out = console()
        out.print(
            f"{counts.transactions:,} transactions ({counts.failed:,} failed), {counts.transfers:,} token transfers,"
            f" {counts.payments:,} x402 payments; {counts.duplicates:,} were there already; {seconds:g} s"
        )
    for line in rejected:
        typer.echo(f"rejected: {line}", err=True)
    if run.rejected > len(rejected):
        typer.echo(f"rejected: {run.rejected - len(rejected)} more; see the table holdfast_rejected_records", err=True)
    return not run.rejected
