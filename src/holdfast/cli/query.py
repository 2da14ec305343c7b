"""`holdfast query`: read what was indexed."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from holdfast.cli.output import Database, Json, console, print_json

app = typer.Typer(no_args_is_help=True, help="Read what was indexed.")

_SHOWN = 50  # rows a person is shown; --json gives all


@app.callback()
def _group() -> None:
    """Read what was indexed."""


@app.command("transfers")
def transfers(
    database: Database = None,
    successful: Annotated[bool | None, typer.Option("--successful/--failed", help="Only of such transactions.")] = None,
    mint: Annotated[str | None, typer.Option(help="Only of this token.")] = None,
    as_json: Json = False,
) -> None:
    """The token transfers that were kept, in the order they were indexed.

    Examples:

      holdfast query transfers --successful --json | head

      holdfast query transfers --mint EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v
    """
    asyncio.run(_transfers(database, successful, mint, as_json))


async def _transfers(database: str | None, successful: bool | None, mint: str | None, as_json: bool) -> None:
    from rich.table import Table

    from holdfast.apps.agents.transfers import TransferRow, stream_transfers
    from holdfast.hold import Holdfast

    async with await Holdfast.open(database, migrate=False) as hold:
        if as_json:
            async for row in stream_transfers(hold, successful=successful, mint=mint):
                print_json(row)
            return
        shown: list[TransferRow] = []
        more = False
        async for row in stream_transfers(hold, successful=successful, mint=mint):
            if len(shown) == _SHOWN:
                more = True
                break
            shown.append(row)
    table = Table("signature", "slot", "place", "mint", "amount", "from", "to", "payment", box=None)
    for row in shown:
        place = f"{row.instruction}" if row.inner is None else f"{row.instruction}.{row.inner}"
        table.add_row(
            f"{row.signature[:8]}…",
            str(row.slot or ""),
            place,
            _short(row.mint),
            row.amount if row.successful else f"[dim]{row.amount} failed[/dim]",
            _short(row.source_owner or row.source),
            _short(row.destination_owner or row.destination),
            f"{row.confidence:.2f}" if row.payment else "",
        )
    out = console()
    out.print(table if shown else "No transfers. Index some: holdfast index solana FILE --all")
    if more:
        out.print(f"… and more: --json gives all of them, not only the first {_SHOWN}")


def _short(address: str | None) -> str:
    return "" if address is None else address if len(address) <= 12 else f"{address[:4]}…{address[-4:]}"
