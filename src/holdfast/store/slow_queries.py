"""The slow-query log: statements that took longer than a limit, without their parameters."""

from __future__ import annotations

import time
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger("holdfast.store")


def watch(engine: AsyncEngine, limit: float) -> None:
    """Log every statement on `engine` that takes `limit` seconds or more; 0 switches the log off."""
    if not limit:
        return

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        context._holdfast_began = time.perf_counter()

    def after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        took = time.perf_counter() - context._holdfast_began
        if took >= limit:
            log.warning("slow_query", seconds=round(took, 4), statement=" ".join(statement.split())[:2000], many=many)

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    event.listen(engine.sync_engine, "after_cursor_execute", after)
