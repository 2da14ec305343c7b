"""Hazards of making, dropping and rebuilding indexes and materialized views."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import CreateIndex, Drop, Maintain

_WIDE = 3


def create_index(record: CreateIndex, situation: Situation) -> Iterator[Problem]:
    """CREATE INDEX: without CONCURRENTLY writes wait for the whole build."""
    table, name = record.table.text, record.name.text
    unique = "UNIQUE " if record.unique else ""
    safe = f"CREATE {unique}INDEX CONCURRENTLY {name or '…'} ON {table} {record.text};"
    if record.concurrently:
        if situation.in_transaction:
            yield in_transaction("CREATE INDEX CONCURRENTLY", safe)
    elif not situation.is_fresh(record.table) and not record.only:
        yield Problem("create-index", f"writes to {table} wait until the index is built", safe)
    if len(record.columns) > _WIDE and not record.unique and not situation.is_fresh(record.table):
        yield Problem(
            "wide-index",
            f"an index of {len(record.columns)} columns seldom helps more than its first columns do, "
            "and every write pays for it",
            f"CREATE INDEX CONCURRENTLY {name or '…'} ON {table} ({', '.join(record.columns[:_WIDE])});",
            "warning",
        )


def drop_index(record: Drop, situation: Situation) -> Iterator[Problem]:
    """DROP INDEX: without CONCURRENTLY it needs ACCESS EXCLUSIVE on the table."""
    for name in record.names:
        known = situation.indexes.get(name.last)
        safe = f"DROP INDEX CONCURRENTLY {name.text};"
        if record.concurrently:
            if situation.in_transaction:
                yield in_transaction("DROP INDEX CONCURRENTLY", safe)
        elif known is None or known.table not in situation.fresh:
            yield Problem(
                "drop-index", f"dropping {name.text} takes ACCESS EXCLUSIVE on its table: reads and writes wait", safe
            )


def reindex(record: Maintain, situation: Situation) -> Iterator[Problem]:
    """REINDEX: without CONCURRENTLY writes wait, and reads that would use the index."""
    name = record.names[0].text if record.names else ""
    safe = f"REINDEX {record.kind.upper() or 'TABLE'} CONCURRENTLY {name}".rstrip() + ";"
    if record.kind == "system":
        safe = "-- REINDEX SYSTEM cannot run concurrently: do it in a maintenance window"
    if record.concurrently:
        if situation.in_transaction:
            yield in_transaction("REINDEX CONCURRENTLY", safe)
    elif not (record.names and situation.is_fresh(record.names[0])):
        yield Problem("reindex", "writes, and reads that use the index, wait until it is rebuilt", safe)


def refresh(record: Maintain, situation: Situation) -> Iterator[Problem]:
    """REFRESH MATERIALIZED VIEW: without CONCURRENTLY reads of it wait."""
    if record.concurrently or not record.names or situation.is_fresh(record.names[0]):
        return
    name = record.names[0].text
    yield Problem(
        "refresh-materialized-view",
        f"reads of {name} wait until it is computed anew",
        f"REFRESH MATERIALIZED VIEW CONCURRENTLY {name}; -- which needs a unique index on it",
    )


def in_transaction(what: str, statement: str) -> Problem:
    """PostgreSQL refuses it inside a transaction."""
    return Problem(
        "concurrently-in-transaction",
        f"{what} is refused inside a transaction",
        f"-- outside of BEGIN … COMMIT, in a migration that runs without a transaction:\n{statement}",
    )
