"""What Holdfast logged while a test ran."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from holdfast import logs


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(record.event)  # type: ignore[attr-defined]  which every record of Holdfast's has


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The events logged inside, debug events too."""
    logger, collector = logging.getLogger(logs.ROOT), _Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector.events
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
