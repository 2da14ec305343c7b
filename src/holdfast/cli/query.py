"""`holdfast query`: read what was indexed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from holdfast.cli.opening import opened
from holdfast.cli.output import Database, Json, console, help_of, print_json, say

if TYPE_CHECKING:
    from holdfast.apps.agents.transfers import TransferRow

app = typer.Typer(
    no_args_is_help=True, help="Read what was indexed.", epilog="Example: holdfast query transfers --json"
)

_SHOWN = 50  # rows a person is shown; --json gives all


@app.callback()
def _group() -> None:
    """Read what was indexed."""


def transfers(
    database: Database = None,
    successful: Annotated[bool | None, typer.Option("--successful/--failed", help="Only of such transactions.")] = None,
    mint: Annotated[str | None, typer.Option(metavar="MINT", help="Only of this token.")] = None,
    as_json: Json = False,
) -> None:
    """The token transfers that were kept, in the order they were indexed.

    Examples:

    holdfast query transfers --successful --json | head

    holdfast query transfers --mint EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v
    """
    asyncio.run(_transfers(database, successful, mint, as_json))


app.command("transfers", help=help_of(transfers))(transfers)


async def _transfers(database: str | None, successful: bool | None, mint: str | None, as_json: bool) -> None:
    from holdfast.apps import agents
    from holdfast.apps.agents.transfers import stream_transfers

    shown: list[TransferRow] = []
    more = False
    async with opened(database, metadata=agents.metadata) as hold:
        async for row in stream_transfers(hold, successful=successful, mint=mint):
            if as_json:
                print_json(row)
            elif len(shown) < _SHOWN:
                shown.append(row)
            else:
                more = True
                break
    if as_json:
        return
    if shown:
        _show(shown)
    elif successful is None and mint is None:
        say("No transfers. Index some: holdfast index solana FILE --all")
    else:
        say("No transfers fit.")
    if more:
        say(f"… and more: --json gives all of them, not only the first {_SHOWN}")


def _show(rows: list[TransferRow]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("signature", "slot", "at", "mint"):
        table.add_column(name, no_wrap=True)
    table.add_column("amount", justify="right", overflow="fold")  # a figure that is cut off is another figure
    for name in ("from", "to", "x402"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        judged = f"{row.confidence:.2f}" if row.payment else ""
        table.add_row(
            Text(f"{row.signature[:8]}…"),
            str(row.slot or ""),
            f"{row.instruction}" if row.inner is None else f"{row.instruction}.{row.inner}",
            Text(_short(row.mint)),
            _amount(row),
            Text(_short(row.source_owner or row.source)),
            Text(_short(row.destination_owner or row.destination)),
            judged if row.successful else Text(f"{judged} failed".strip(), "red"),
        )
    console().print(table)


def _amount(row: TransferRow) -> str:
    """In whole tokens where the mint's decimals are known, else in base units and marked so."""
    if row.decimals is None:
        return f"{row.amount} base units"
    if row.decimals == 0:
        return row.amount
    digits = row.amount.rjust(row.decimals + 1, "0")
    whole, part = digits[: -row.decimals], digits[-row.decimals :].rstrip("0")
    return f"{whole}.{part}" if part else whole


def _short(address: str | None) -> str:
    return "" if address is None else address if len(address) <= 12 else f"{address[:4]}…{address[-4:]}"
