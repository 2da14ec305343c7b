"""Loggers that are the host's to configure: structured events through the standard library's `logging`.

A library must not print. Until somebody gives the logger "holdfast" a handler, Python shows warnings and errors on
standard error and nothing else. Each record's message is the event as logfmt, for any handler to show; the same
event as a dict is `record.event`, for handlers that keep its structure.
"""

from __future__ import annotations

import logging
import re
from typing import Any, TextIO

import structlog

ROOT = "holdfast"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_logfmt = structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger called `name`, under "holdfast". Its methods take an event's name and its facts as keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.contextvars.merge_contextvars, _to_record],
    )
    return logger


def show(stream: TextIO, level: int) -> None:
    """Have the events of `level` and above printed to `stream`, a line each, and by nobody else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def hide() -> None:
    """Take back what `show` did."""
    logger = logging.getLogger(ROOT)
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def _to_record(_logger: Any, _method: str, event: Any) -> tuple[tuple[()], dict[str, Any]]:
    # A traceback is rendered by the handler, if any wants it: plainly, since rendering every local variable of every
    # frame stops an event loop for seconds.
    passed = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    # What a fact holds may come from outside: a line of the log stays a line, and moves no cursor.
    facts = {name: value if isinstance(value, int | float) else str(value) for name, value in event.items()}
    line = _CONTROL.sub(lambda found: repr(found[0])[1:-1], _logfmt(_logger, _method, dict(facts)))
    return (), {"msg": line, "extra": {"event": dict(event)}, **passed}
