"""What a backfill is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement

from holdfast.errors import InvalidValue
from holdfast.migrate.backfills.ledger import checksum
from holdfast.migrate.backfills.report import Failure
from holdfast.migrate.backfills.source import source_of
from holdfast.migrate.backfills.writing import Inserting, Into, Setting, Transform, Updating, Work
from holdfast.migrate.backfills.writing import checked_expressions as checked


class Asked:
    """What a backfill is to do, looked at before anything is done."""

    def __init__(
        self,
        name: str,
        source: Any,
        transform: Transform | None = None,
        set_: Mapping[str, Any] | None = None,
        write: Into | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: Sequence[ColumnElement[bool]] = (),
        batch: int = 1_000,
        max_lock: float = 0.05,
        duty: float = 1.0,
    ) -> None:
        if (transform is None) == (set_ is None):
            raise InvalidValue("a backfill takes transform=… or set_=…, one of them")
        if write is not None and transform is None:
            raise InvalidValue("write=… takes the rows that transform=… returns; give one")
        if not name or batch < 1 or max_lock <= 0 or not 0 < duty <= 1:
            raise InvalidValue("a backfill has a name, batch ≥ 1, max_lock > 0 seconds and 0 < duty ≤ 1")
        self.name = name
        self.batch, self.max_lock, self.duty = batch, max_lock, duty
        self.source = source_of(source, where, () if set_ is not None else columns)
        actor = f"backfill:{name}"
        if set_ is not None:
            self.work: Work = Setting(self.source, checked(self.source, set_), actor)
        elif write is not None:
            self.work = Inserting(self.source, transform or _nothing, write)
        else:
            self.work = Updating(self.source, transform or _nothing, actor)
        self._said = (write.table.name, *write.on, *write.update) if write is not None else tuple(sorted(set_ or ()))

    def checksum(self) -> str:
        """Of source, columns and target; the transform's code may be mended between two runs."""
        told = self.source.count().compile(compile_kwargs={"literal_binds": False})
        return checksum(told, sorted(map(str, told.params.items())), self.source.columns, self._said)


def _nothing(row: Any) -> None:
    """What is asked for has no transform."""


def prepared(asked: Asked, row: Any) -> Any:
    """What is to be written for a row, None for nothing, or why it cannot be told."""
    try:
        return asked.work.prepare(row)
    except Exception as error:  # noqa: BLE001  the transform is not ours
        key = asked.source.encode(tuple(row[: len(asked.source.key)]))
        return Failure(", ".join(map(str, key)), f"{type(error).__name__}: {error}"[:300])


def refused(asked: Asked, failure: Failure) -> str:
    """That a row could not be dealt with, and what to do."""
    return (
        f"the backfill {asked.name!r} stopped at the row {failure.key} of {asked.source.table.name}: {failure.reason};"
        " mend the row or the transform and run it again, or say on_error='skip'"
    )
