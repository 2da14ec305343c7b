"""`holdfast up`: the service on one address, with the sample on a fresh laptop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from typing import Annotated

import typer

from holdfast.cli.output import Database, console
from holdfast.errors import ConfigurationError


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    database: Database = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the caches of several processes meet.")
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option("--sample/--no-sample", help="The sample ledger; by default only for an empty default database."),
    ] = None,
) -> None:
    """Migrate, then serve the overview page and the API until Ctrl-C.

    Examples:

      holdfast up

      holdfast up --port 9000 --database postgresql://app@127.0.0.1/app --no-sample
    """
    _must_be_free(host, port)
    asyncio.run(_up(host, port, database, redis, sample))


async def _up(host: str, port: int, database: str | None, redis: str | None, sample: bool | None) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    from holdfast.apps.agents.sampling import index_sample, wants_sample
    from holdfast.hold import Holdfast
    from holdfast.http import create_app

    out = console()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with await Holdfast.open(database, redis_url=redis, migrate=True) as hold:
        out.print(f"Holdfast on {hold.store.place}")
        if await wants_sample(hold, sample):
            counts = await index_sample(hold)
            out.print(
                f"Indexed the sample ledger: {counts.payments:,} payments in {counts.transactions:,} transactions"
            )
        await hold.follow()
        server = Server(
            create_app(hold), address=host, port=port, interface=Interfaces.ASGINL, log_enabled=False, websockets=False
        )
        serving = asyncio.ensure_future(server.serve())
        out.print(f"[bold]http://{f'[{host}]' if ':' in host else host}:{port}/[/bold]  (Ctrl-C ends it)")
        waiting = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not serving.done():
            server.stop()  # type: ignore[no-untyped-call]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(serving, 5)
        else:
            serving.result()
    out.print("Stopped.")


def _must_be_free(host: str, port: int) -> None:
    """Fail before anything is opened when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(f"port {port} on {host} is taken; try holdfast up --port {port + 1}") from None
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
