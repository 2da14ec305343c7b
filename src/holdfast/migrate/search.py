"""Full-text search in migrations: its operations, and what the models want beside what the migrations make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alembic.autogenerate.render import renderers
from alembic.operations import Operations, ops

from holdfast.migrate.operations import SteppedOp, partitions_of
from holdfast.migrate.phases import Plan
from holdfast.migrate.steps import Step, concurrent_drop, concurrent_index, partitioned_index, plain_drop
from holdfast.model import Model
from holdfast.store import search_index
from holdfast.store.search import search_indexes
from holdfast.store.search_index import SearchIndex


class SearchOp(SteppedOp):
    """Makes or drops what a table is searched by.

    Attributes:
        concurrently: on PostgreSQL beside readers and writers, which takes a migration without a transaction.
    """

    def __init__(self, index: SearchIndex, *, concurrently: bool = False) -> None:
        self.index = index
        self.table_name = index.table
        self.concurrently = self.in_steps = concurrently

    def rendered(self) -> str:
        """The call in a migration."""
        index = self.index
        given = f"{index.table!r}, {list(index.columns)!r}, weights={index.weights!r}"
        if index.language != "simple":
            given += f", language={index.language!r}"
        return f"op.{self.directive}({given}{', concurrently=True' if self.concurrently else ''})"

    def sql(self, operations: Operations) -> str:
        """What PostgreSQL is told, in one statement."""
        raise NotImplementedError


@Operations.register_operation("create_search")
class CreateSearchOp(SearchOp):
    """Have the rows of a table be found by words in some columns, those that are there too."""

    directive = "create_search"

    @classmethod
    def create_search(
        cls,
        operations: Operations,
        table: str,
        columns: Sequence[str],
        *,
        weights: str | None = None,
        language: str = "simple",
        concurrently: bool = False,
    ) -> None:
        """Make the index, on SQLite a table with triggers. `weights` are PostgreSQL's classes, a letter a column."""
        operations.invoke(cls(_index(table, columns, weights, language), concurrently=concurrently))

    def reverse(self) -> ops.MigrateOperation:
        return DropSearchOp(self.index, concurrently=self.concurrently)

    def sql(self, operations: Operations) -> str:
        return search_index.creation(self.index, _quote(operations), concurrently=self.concurrently)

    def steps(self, operations: Operations) -> list[Step]:
        quote, name, table = _quote(operations), self.index.name, self.index.table
        parts = partitions_of(operations, table)
        if parts is None:
            return concurrent_index(quote(name), self.sql(operations))
        return partitioned_index(name, table, self.sql(operations), parts, quote)

    def at_once(self, operations: Operations) -> None:
        search_index.create(operations.get_bind(), self.index)


@Operations.register_operation("drop_search")
class DropSearchOp(SearchOp):
    """Take the search of a table away; the definition says which one, and how to make it again."""

    directive = "drop_search"

    @classmethod
    def drop_search(
        cls,
        operations: Operations,
        table: str,
        columns: Sequence[str],
        *,
        weights: str | None = None,
        language: str = "simple",
        concurrently: bool = False,
    ) -> None:
        """Drop what `create_search` with the same arguments made."""
        operations.invoke(cls(_index(table, columns, weights, language), concurrently=concurrently))

    def reverse(self) -> ops.MigrateOperation:
        return CreateSearchOp(self.index, concurrently=self.concurrently)

    def sql(self, operations: Operations) -> str:
        return search_index.removal(self.index, _quote(operations), concurrently=self.concurrently)

    def steps(self, operations: Operations) -> list[Step]:
        quoted = _quote(operations)(self.index.name)
        if partitions_of(operations, self.index.table) is not None:
            return plain_drop(quoted)
        return concurrent_drop(quoted, self.sql(operations))

    def at_once(self, operations: Operations) -> None:
        search_index.drop(operations.get_bind(), self.index)


@renderers.dispatch_for(CreateSearchOp)
@renderers.dispatch_for(DropSearchOp)
def _render(context: Any, operation: SearchOp) -> str:
    return operation.rendered()


def search_changes(
    plan: Plan, made: Iterable[SearchIndex], models: Iterable[type[Model]], found: Sequence[ops.MigrateOperation]
) -> None:
    """Put into `plan` what brings the searches that the migrations make to those of the models.

    The new one is made before the deployment and the old one dropped after it, so that both programs find what they
    look for.
    """
    there, wanted = set(made), set(search_indexes(models))
    new = {operation.table_name for operation in found if isinstance(operation, ops.CreateTableOp)}
    for index in sorted(wanted - there):
        if index.table in new:
            plan.expand.append(CreateSearchOp(index))
        else:
            plan.build.append(CreateSearchOp(index, concurrently=True))
    plan.drop_indexes += [DropSearchOp(index, concurrently=True) for index in sorted(there - wanted)]


def _index(table: str, columns: Sequence[str], weights: str | None, language: str) -> SearchIndex:
    return SearchIndex(str(table), tuple(columns), weights or "A" * len(columns), language)


def _quote(operations: Operations) -> search_index.Quote:
    quote: search_index.Quote = operations.impl.dialect.identifier_preparer.quote
    return quote
