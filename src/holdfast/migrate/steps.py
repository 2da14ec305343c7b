"""Changes that PostgreSQL takes one by one, each in a transaction of its own or in none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Question = tuple[str, tuple[object, ...]]  # SQL with $n, and what is bound: true when there is nothing to do

_IS_VALID = (
    "SELECT coalesce(bool_and(indisvalid AND indisready), false) FROM pg_index WHERE indexrelid = to_regclass($1)"
)
_IS_NOT_INVALID = (
    "SELECT coalesce(bool_and(indisvalid AND indisready), true) FROM pg_index WHERE indexrelid = to_regclass($1)"
)
_IS_GONE = "SELECT to_regclass($1) IS NULL"


@dataclass(frozen=True)
class Step:
    """One statement.

    Attributes:
        sql: what is run.
        done: the step is left out when one of these questions is answered with true: it may have been interrupted
            after it was done and before that was noted.
        alone: it cannot run in a transaction, and waits for others without making anybody wait.
        long: it reads the whole table under a lock that no reader or writer waits for.
    """

    sql: str
    done: Sequence[Question] = ()
    alone: bool = False
    long: bool = False


def concurrent_index(quoted: str, create: str, *, done: Sequence[Question] = ()) -> list[Step]:
    """Build an index while others write; what an interrupted attempt left behind goes first."""
    return [
        Step(
            f"DROP INDEX CONCURRENTLY IF EXISTS {quoted}",
            done=[*done, (_IS_NOT_INVALID, (quoted,))],
            alone=True,
        ),
        Step(create, done=[*done, (_IS_VALID, (quoted,))], alone=True),
    ]


def concurrent_drop(quoted: str, drop: str) -> list[Step]:
    """Drop an index without blocking anybody."""
    return [Step(drop, done=[(_IS_GONE, (quoted,))], alone=True)]
