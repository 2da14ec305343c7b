"""The slow-query log: statements that took longer than a limit, without their parameters.

A statement that writes many rows at once is measured by the row: a bulk load is long, not slow.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.logs import get_logger

log = get_logger("holdfast.store")

ROWS = "holdfast_rows"
"""The execution option by which a statement says how many rows it carries in its parameters."""
_SHOWN = 1_000  # characters of a statement


def watch(engine: AsyncEngine, limit: float) -> None:
    """Log every statement on `engine` that takes `limit` seconds or more; 0 switches the log off."""
    if not limit:
        return

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        context._holdfast_began = time.perf_counter()

    def after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        took = time.perf_counter() - context._holdfast_began
        rows = len(parameters) if many else context.execution_options.get(ROWS, 1)
        if took >= limit * max(1, rows):
            log.warning("slow_query", seconds=round(took, 4), rows=rows, statement=" ".join(statement.split())[:_SHOWN])

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    event.listen(engine.sync_engine, "after_cursor_execute", after)
