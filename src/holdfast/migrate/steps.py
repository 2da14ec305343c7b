"""Changes that PostgreSQL takes one by one, each in a transaction of its own or in none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.errors import MigrationError

_NAME = 63  # bytes PostgreSQL keeps of an identifier

Question = tuple[str, tuple[object, ...]]  # SQL with $n, and what is bound: true when there is nothing to do

_IS_VALID = (
    "SELECT coalesce(bool_and(indisvalid AND indisready), false) FROM pg_index WHERE indexrelid = to_regclass($1)"
)
_IS_NOT_INVALID = (
    "SELECT coalesce(bool_and(indisvalid AND indisready), true) FROM pg_index WHERE indexrelid = to_regclass($1)"
)
_IS_THERE = "SELECT to_regclass($1) IS NOT NULL"
_IS_ATTACHED = "SELECT count(*) > 0 FROM pg_inherits WHERE inhrelid = to_regclass($1)"
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
        refused: the statement counts what stands in the way: a MigrationError says so, with `{count}`, unless it is 0.
    """

    sql: str
    done: Sequence[Question] = ()
    alone: bool = False
    long: bool = False
    refused: str = ""


def refuse(count: int, message: str) -> None:
    """Raise `MigrationError` for what stands in the way of a step."""
    if count:
        raise MigrationError(message.format(count=count))


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


def partitioned_index(
    name: str, table: str, create: str, partitions: Sequence[str], quote: Callable[[str], str]
) -> list[Step]:
    """An index of a table in partitions: of each concurrently, then put together."""
    whole = create.replace(" CONCURRENTLY ", " ", 1).replace(f" ON {quote(table)} ", f" ON ONLY {quote(table)} ", 1)
    steps = [Step(whole, done=[(_IS_THERE, (quote(name),))])]
    for partition in partitions:
        part = of_partition(partition, name)
        of_part = create.replace(f" {quote(name)} ON {quote(table)} ", f" {quote(part)} ON {quote(partition)} ", 1)
        attached = (_IS_ATTACHED, (quote(part),))
        steps += concurrent_index(quote(part), of_part, done=[attached])
        steps.append(Step(f"ALTER INDEX {quote(name)} ATTACH PARTITION {quote(part)}", done=[attached]))
    return steps


def of_partition(partition: str, name: str) -> str:
    """What the part of an index or constraint `name` is called that a partition has."""
    return f"{partition}_{name}"[:_NAME]


def plain_drop(quoted: str) -> list[Step]:
    """Drop the index of a table in partitions, which PostgreSQL does not do concurrently; it takes an instant."""
    return [Step(f"DROP INDEX IF EXISTS {quoted}")]
