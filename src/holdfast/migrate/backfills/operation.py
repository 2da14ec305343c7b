"""`op.backfill`: a data migration among the migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic.operations import Operations
from sqlalchemy import ColumnElement, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import await_only

from holdfast.errors import MigrationError
from holdfast.migrate.backfills.asked import Asked
from holdfast.migrate.backfills.here import backfill_here
from holdfast.migrate.backfills.run import backfill
from holdfast.migrate.backfills.runner import Told
from holdfast.migrate.backfills.writing import Into, Transform
from holdfast.migrate.operations import SteppedOp
from holdfast.migrate.steps import Step
from holdfast.store import Store


@Operations.register_operation("backfill")
class BackfillOp(SteppedOp):
    """Change every row of a table in short transactions, from where an interrupted run left it."""

    directive = "backfill"

    def __init__(self, source: Any, asked: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.source = source
        self.asked = dict(asked)
        self.options = dict(options)

    @classmethod
    def backfill(
        cls,
        operations: Operations,
        source: Any,
        *,
        transform: Transform | None = None,
        set_: Mapping[str, Any] | None = None,
        write: Into | None = None,
        columns: Sequence[str] | None = None,
        where: Sequence[ColumnElement[bool]] = (),
        **options: Any,
    ) -> None:
        """Do what `holdfast.migrate.backfill` does; `source` may be a table's name, as it stands in the database.

        On SQLite, in a scratch, and in a transactional migration that is taken back, it is part of the transaction.

        Raises:
            MigrationError: a row is refused, or rows are left that `verify` finds.
        """
        asked = {"transform": transform, "set_": set_, "write": write, "columns": columns, "where": where}
        operations.invoke(cls(source, asked, options))

    def steps(self, operations: Operations) -> list[Step]:
        return [Step(f"-- backfill of {self.source if isinstance(self.source, str) else 'rows'}, batch by batch")]

    def at_once(self, operations: Operations) -> None:
        asked = Asked("in a migration", self._source(operations), **self.asked)
        connection = operations.get_bind()
        await_only(backfill_here(AsyncConnection(AsyncEngine(connection.engine), connection), asked))

    def beside_others(
        self, operations: Operations, store: Store, event: int, number: int, told: Told | None = None
    ) -> None:
        """Do it on a database in use; `event` and `number` say which run of which operation it is."""
        source = self._source(operations)
        operations.get_bind().rollback()
        name = f"migration {event}, operation {number}"
        report = await_only(backfill(store, name=name, source=source, **self.asked, **{"told": told, **self.options}))
        if not report.verified:
            raise MigrationError(
                f"the backfill is done, and {report.remaining} rows are left that `verify` finds; look at them, then"
                " run `holdfast migrate up` again"
            )

    def _source(self, operations: Operations) -> Any:
        if isinstance(self.source, str):
            return Table(self.source, MetaData(), autoload_with=operations.get_bind())
        return self.source
