"""The database that a revision sees while it is rendered: it takes every statement, and it is empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, inspection
from sqlalchemy.exc import NoResultFound

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.tokens import tokens_of

if TYPE_CHECKING:
    from alembic.migration import MigrationContext

_READS = ("select", "show", "values", "table")


def empty_database(context: MigrationContext, write: Callable[[str], Any], note: Callable[[Problem], None]) -> None:
    """Have `op.get_bind()` answer as an empty database does; `note` is told of each question."""
    connection = context.impl.connection
    if connection is not None:
        setattr(context.impl, "connection", EmptyDatabase(connection, write, note))  # noqa: B010 - of another type


class EmptyDatabase:
    """Alembic's stand-in for a connection, which answers nothing, with the answers of a database without rows."""

    def __init__(self, connection: Any, write: Callable[[str], Any], note: Callable[[Problem], None]) -> None:
        self._connection, self._write, self._note = connection, write, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: Any, *arguments: Any, **options: Any) -> NoRows:
        """Render the statement; it gives no rows."""
        if _reads(statement):
            self.asked("reads rows")
        self._connection.execute(statement, *arguments, **options)
        return NoRows()

    def scalar(self, statement: Any, *arguments: Any, **options: Any) -> None:
        """Render the statement; it gives nothing."""
        self.execute(statement, *arguments, **options)

    def scalars(self, statement: Any, *arguments: Any, **options: Any) -> NoRows:
        """Render the statement; it gives no rows."""
        return self.execute(statement, *arguments, **options)

    def commit(self) -> None:
        """Render the end of the transaction; SQLAlchemy begins the next one by itself."""
        self._write("COMMIT;\nBEGIN;\n")

    def begin(self) -> nullcontext[EmptyDatabase]:
        """A transaction inside of the one that is rendered."""
        return nullcontext(self)

    begin_nested = begin

    def asked(self, what: str) -> None:
        """Say that the revision does with an answer what cannot be seen here."""
        self._note(
            Problem(
                "migration-not-rendered",
                f"upgrade() {what}: it is looked at as it is on an empty database, and what it does elsewhere is not",
                "keep what reads rows out of the migration: a backfill, or a .sql file of its own",
                "warning",
            )
        )


class NoRows:
    """A result without rows."""

    rowcount = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def fetchall(self) -> list[Any]:
        """No rows."""
        return []

    all = fetchmany = partitions = keys = fetchall

    def first(self) -> None:
        """No row."""

    fetchone = one_or_none = scalar = scalar_one_or_none = close = first

    def one(self) -> Any:
        """Raises, as a database without rows does."""
        raise NoResultFound("the revision needs a row, and is rendered without a database")

    scalar_one = one

    def mappings(self) -> NoRows:
        """No rows, otherwise."""
        return self

    scalars = unique = yield_per = tuples = mappings


class EmptyInspector:
    """What `sqlalchemy.inspect()` gives of an empty database."""

    def __init__(self, database: EmptyDatabase) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith(("get_", "has_")):
            raise AttributeError(name)

        def answer(*_: Any, **__: Any) -> Any:
            self._database.asked("asks what there is")
            if name.startswith("has_"):
                return False
            return {} if name == "get_pk_constraint" else []

        return answer


inspection._inspects(EmptyDatabase)(EmptyInspector)


def _reads(statement: Any) -> bool:
    if isinstance(statement, TextClause):
        words = (token.value for token in tokens_of(statement.text) if token.kind == "word")
        return next(words, "") in _READS
    return bool(getattr(statement, "is_select", False))
