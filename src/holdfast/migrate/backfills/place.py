"""How far a backfill came: rules only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast.errors import MigrationError
from holdfast.migrate.backfills.asked import Asked, prepared, refused
from holdfast.migrate.backfills.report import FAILURES, Failure, Progress
from holdfast.migrate.backfills.source import Key, Source
from holdfast.migrate.backfills.writing import Item


@dataclass(frozen=True)
class Batch:
    """What a transform made of some rows: their keys, what is to be written, what was refused."""

    keys: list[Key]
    items: list[Item]
    failures: list[Failure]


def prepare(asked: Asked, rows: Sequence[Any], *, versioned: bool, stops: bool) -> Batch:
    """The batch of `rows`.

    Args:
        versioned: whether a row ends with its version.
        stops: whether a row that is refused ends the backfill, as a MigrationError.
    """
    keys = len(asked.source.key)
    batch = Batch([tuple(row[:keys]) for row in rows], [], [])
    for key, row in zip(batch.keys, rows, strict=True):
        values = prepared(asked, row)
        if isinstance(values, Failure):
            if stops:
                raise MigrationError(refused(asked, values))
            batch.failures.append(values)
        elif values is not None:
            batch.items.append(Item(key, row[-1] if versioned else 0, values))
    return batch


@dataclass(frozen=True)
class Place:
    """Where a backfill stands.

    Attributes:
        pending: the keys of `progress.pending`: rows to come back to.
    """

    source: Source
    progress: Progress
    pending: list[Key]

    @classmethod
    def of(cls, source: Source, progress: Progress) -> Place:
        """The place that was kept as `progress`."""
        return cls(source, progress, [source.decode(key) for key in progress.pending])

    @property
    def last(self) -> Key | None:
        """The key of the last row of the last page."""
        return None if self.progress.last is None else self.source.decode(self.progress.last)

    def after(self, batch: Batch, dealt: set[Key], count: int, *, back: int = 0) -> Place:
        """The place behind a batch.

        Args:
            dealt: the keys that need no coming back to.
            count: rows written.
            back: how many of the first pending rows the batch came back to; 0 for the next page.
        """
        now = self.progress
        held = [item.key for item in batch.items if item.key not in dealt]
        looked = min(back, len(self.pending)) if back else len(batch.keys)
        left = self.pending[back:] + held
        progress = msgspec.structs.replace(
            now,
            read=now.read + (0 if back else looked),
            written=now.written + count,
            skipped=now.skipped + looked - len(batch.items) - len(batch.failures),
            failed=now.failed + len(batch.failures),
            failures=(*now.failures, *batch.failures)[:FAILURES],
            batches=now.batches + (looked > 0),
            last=now.last if back or not batch.keys else self.source.encode(batch.keys[-1]),
            pending=tuple(map(self.source.encode, left)),
        )
        return Place(self.source, progress, left)

    def taking(self, seconds: float, slowest: float) -> Place:
        """The same place, after so many seconds more and a transaction that held locks for `slowest`."""
        now = self.progress
        progress = msgspec.structs.replace(now, seconds=now.seconds + seconds, slowest=max(now.slowest, slowest))
        return Place(self.source, progress, self.pending)
