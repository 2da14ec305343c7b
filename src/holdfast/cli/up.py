"""`holdfast up`: the service on one address, with the sample on a fresh laptop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.opening import opened
from holdfast.cli.output import Database, say
from holdfast.cli.signals import end_on_signals
from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from holdfast.hold import Holdfast

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STARTING = 10.0  # seconds the server may take until it listens
_STOPPING = 2.0  # seconds that open requests have to end; idle connections would wait for ever


def up(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port to listen on.")] = 8000,
    database: Database = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the caches of several processes meet.")
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option("--sample/--no-sample", help="The sample ledger; by default only for an empty default database."),
    ] = None,
    work: Annotated[
        bool, typer.Option("--work", help="Also run what is due on a schedule, as `holdfast work`.")
    ] = False,
) -> None:
    """Migrate, then serve the overview page and the API until Ctrl-C.

    Examples:

    holdfast up

    holdfast up --port 9000 --database postgresql://app@127.0.0.1/app --no-sample
    """
    asyncio.run(_up(host, port, database, redis, sample, work))
    _leave()


async def _up(host: str, port: int, database: str | None, redis: str | None, sample: bool | None, work: bool) -> None:
    from holdfast.apps.agents.sampling import index_sample, wants_sample

    end_on_signals()
    # Any moment is a good one to end: what was committed stays, and what was not is done again next time.
    with contextlib.suppress(asyncio.CancelledError):
        await _must_be_free(host, port)
        async with opened(database, migrate=True, redis_url=redis) as hold:
            say(f"Holdfast on {hold.store.place}")
            if await wants_sample(hold, sample):
                counts = await index_sample(hold)
                there = f"; {counts.duplicates:,} rows were there already" if counts.duplicates else ""
                say(f"The sample ledger: {counts.payments:,} payments in {counts.transactions:,} transactions{there}")
            await hold.follow()
            hold.cache.warmer.start()
            working = asyncio.create_task(hold.worker().run(drain=_STOPPING)) if work else None
            try:
                await _serve(hold, host, port)
            finally:
                if working is not None:
                    working.cancel()
                    await asyncio.gather(working, return_exceptions=True)
    say("Stopped.")


async def _serve(hold: Holdfast, host: str, port: int) -> None:
    """Serve until cancelled; then open requests have `_STOPPING` seconds."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    from holdfast.http import create_app

    # What only this machine can reach answers to this machine's names alone: a page whose own name resolves to here
    # could read it otherwise.
    app = create_app(hold, hosts=_LOOPBACK if host in _LOOPBACK else ())
    await _must_be_free(host, port)  # still: the sample took its time, and the server would share the port silently
    server = Server(app, address=host, port=port, interface=Interfaces.ASGINL, log_enabled=False, websockets=False)
    serving = asyncio.ensure_future(server.serve())
    try:
        await _accepts(host, port, serving)
        say(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends it)", "bold")
        await asyncio.wait({serving})
        serving.result()
        raise ConfigurationError(f"the server on {host}:{port} ended by itself; start again with holdfast -v up")
    finally:
        await app.state.live.close()  # the event streams, which would go on for minutes
        if not serving.done():
            server.stop()  # type: ignore[no-untyped-call]
            _, late = await asyncio.wait({serving}, timeout=_STOPPING)
            if late:
                # Whoever still holds a request open is left behind, and granian's own stop then comes too late.
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)


def _leave() -> None:
    """End the process at once: everything is closed, and what was said is written.

    The server's threads may ask for the interpreter once more, and abort the process where it is being taken down:
    https://github.com/emmett-framework/granian/issues/693 and 881.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _accepts(host: str, port: int, serving: asyncio.Future[None]) -> None:
    """Wait until the server takes connections."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    deadline = time.monotonic() + _STARTING
    while not serving.done():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(here, port)
            writer.close()
            return
        if time.monotonic() > deadline:
            raise ConfigurationError(f"the server does not listen on {host}:{port} after {_STARTING:g} s; try again")
        await asyncio.sleep(0.02)


async def _must_be_free(host: str, port: int) -> None:
    """Fail when the address cannot be listened on.

    Raises:
        ConfigurationError: it is taken, or none of this machine's.
    """
    try:
        loop = asyncio.get_running_loop()
        family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else 8000
            raise ConfigurationError(f"port {port} on {host} is taken; try holdfast up --port {other}") from None
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}); name an address of this machine, such as 127.0.0.1"
        ) from None
