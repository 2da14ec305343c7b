"""How long a migration may make others wait, and what is tried again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event

from holdfast.store.failures import sqlstate

_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK = "40P01"
_LEAST = 5  # milliseconds that the last lock of a transaction is waited for, however late it comes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds.

    Attributes:
        lock_timeout: how long one transaction waits for locks, all its waits together. Whoever comes behind it in
            the queue waits as long.
        statement_timeout: how long a statement may run in a transaction, whose locks it holds; 0 for ever.
        give_up: how long locks that are not had are tried for anew.
    """

    lock_timeout: float = 1.0
    statement_timeout: float = 30.0
    give_up: float = 300.0


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same may succeed later: a lock was not had in time, or a deadlock was broken."""
    return sqlstate(error) in (_LOCK_NOT_AVAILABLE, _DEADLOCK)


def pause(attempt: int) -> float:
    """Seconds to wait before the next try: longer each time, and never in step with another's."""
    return random.uniform(0.5, 1.5) * min(5.0, 0.1 * 2.0**attempt)


class LockBudget:
    """Keeps all that a PostgreSQL transaction waits for locks within one lock timeout.

    With a timeout for each statement, a transaction that has its first lock and waits for a second would make
    whoever needs the first wait for both.
    """

    def __init__(self, connection: Connection, limits: Limits, *, statement_timeout: float | None = None) -> None:
        self._connection = connection
        self._limits = limits
        self._statement_timeout = limits.statement_timeout if statement_timeout is None else statement_timeout
        self._began: float | None = None
        self._setting = False

    def __enter__(self) -> None:
        event.listen(self._connection, "before_cursor_execute", self._before)

    def __exit__(self, *error: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._before)

    def _before(
        self, connection: Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        if self._setting:
            return
        self._began = self._began or time.monotonic()
        left = self._limits.lock_timeout - (time.monotonic() - self._began)
        self._setting = True
        try:
            connection.exec_driver_sql(
                "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)",
                (f"{max(_LEAST, round(left * 1000))}", f"{round(self._statement_timeout * 1000)}"),
            )
        finally:
            self._setting = False
