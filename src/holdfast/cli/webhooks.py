"""`holdfast webhooks`: the inbox of what providers told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import DONE_IN_PART, Database, Json, console, help_of, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="What providers told by webhooks.", epilog="Example: holdfast webhooks list --waiting"
)


@app.callback()
def _group() -> None:
    """What providers told by webhooks."""


def list_(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what was not applied.")] = False,
    limit: Annotated[int, typer.Option(metavar="ROWS", min=1, max=1_000, help="How many at most.")] = 50,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """The inbox, the newest first.

    Example:

    holdfast webhooks list --waiting --json
    """
    found = asyncio.run(_list(database, waiting, limit))
    if as_json:
        for event in found:
            print_json({name: getattr(event, name) for name in _SHOWN})
        return
    if not found:
        say("Nothing waits." if waiting else "The inbox is empty.")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("source", "event", "kind", "received", "applied"):
        table.add_column(heading, overflow="fold")
    for event in found:
        applied = "waits" if event.applied_at is None else f"{event.applied_at:%Y-%m-%d %H:%M:%S}"
        received = f"{event.received_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(Text(event.source), Text(event.event_id), Text(event.kind), received, applied)
    console().print(table)


def replay(database: Database = None, as_json: Json = False) -> None:
    """Apply what lies in the inbox and was not applied, the oldest first; exit 3 where some of it failed again.

    What failed lies among the dead letters of its handler too: `holdfast journal parked on:accounts.webhooks`.

    Example:

    holdfast webhooks replay
    """
    done, failed = asyncio.run(_replay(database))
    if as_json:
        print_json({"applied": done, "failed": failed})
    else:
        say(f"{done:,} applied, {failed:,} failed.", "red" if failed else "")
    if failed:
        raise typer.Exit(DONE_IN_PART)


_SHOWN = ("source", "event_id", "kind", "occurred_at", "received_at", "applied_at")

app.command("list", help=help_of(list_))(list_)
app.command("replay", help=help_of(replay))(replay)


async def _list(database: str | None, waiting: bool, limit: int) -> Sequence[Any]:
    from holdfast.apps.accounts import WebhookEvent, metadata
    from holdfast.store import ALL

    async with opened(database, metadata=metadata) as hold, hold.read(tenant=ALL) as unit:
        query = unit[WebhookEvent].query().order_by("-received_at", "-id").limit(limit)
        if waiting:
            query = query.where(WebhookEvent.applied_at.is_(None))
        return await unit[WebhookEvent].list(query)


async def _replay(database: str | None) -> tuple[int, int]:
    from holdfast.apps.accounts import metadata, webhooks

    async with opened(database, metadata=metadata) as hold:
        with console(stderr=True).status("applying") as shown:
            return await webhooks.replay(
                hold, progress=lambda done, failed: shown.update(f"{done:,} applied, {failed:,} failed")
            )
