"""How a backfill fares, and how it went."""

from __future__ import annotations

from typing import Any

import msgspec

FAILURES = 100  # that are told one by one; the others are counted


class Failure(msgspec.Struct, frozen=True):
    """A row that was left as it is: its key, and why."""

    key: str
    reason: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a backfill came; kept in the database with each batch.

    Attributes:
        total: rows of the source when it began.
        read: rows of the source that were looked at.
        written: rows that were changed, or inserted into the other table.
        skipped: rows for which there was nothing to do: the transform said so, or they changed or went meanwhile.
        failed: rows that the transform or the table refused.
        failures: the first 100 of them.
        seconds: at work, over all runs.
        slowest: the longest that one transaction may have held a lock, in seconds.
        last: the key of the last row of the last page.
        pending: keys of rows on pages before, which others held or changed when they were to be written.
    """

    total: int = 0
    read: int = 0
    written: int = 0
    skipped: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    batches: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    last: tuple[Any, ...] | None = None
    pending: tuple[tuple[Any, ...], ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill did. The counts are those of `Progress`.

    Attributes:
        remaining: rows that `verify` still finds; None without it.
        sampled: rows whose written values were read again at the end.
        differing: those of them that have others now; rows that somebody changed after the backfill are among them.
        verified: False when `verify` was given and finds rows.
        resumed: whether an earlier run had begun it.
    """

    name: str
    total: int
    read: int
    written: int
    skipped: int
    failed: int
    failures: tuple[Failure, ...]
    batches: int
    seconds: float
    rows_per_second: float
    slowest: float
    remaining: int | None
    sampled: int
    differing: int
    verified: bool
    resumed: bool
