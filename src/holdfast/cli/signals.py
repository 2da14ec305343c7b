"""How commands that run until they are told end."""

from __future__ import annotations

import asyncio
import os
import signal

from holdfast.cli.output import INTERRUPTED


def end_on_signals() -> None:
    """Have SIGINT and SIGTERM cancel the present task, and a second one end the process where it is."""
    main = asyncio.current_task()
    assert main is not None
    asked = False

    def end() -> None:
        nonlocal asked
        if asked:
            os._exit(INTERRUPTED)
        asked = True
        main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
