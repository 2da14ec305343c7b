"""Hazards of how a script begins and ends its transactions, and of what they may hold."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Alter, Control, Create, Drop, Record
from holdfast.migrate.lint.tokens import Token


def begin(record: Control, situation: Situation) -> Iterator[Problem]:
    """BEGIN inside a transaction: the COMMIT that follows ends the outer one."""
    if record.what == "begin" and situation.in_transaction and not situation.wrapped:
        yield Problem(
            "nested-transaction",
            "a transaction is open already: PostgreSQL only warns, and the first COMMIT ends both",
            "SAVEPOINT step; -- and RELEASE SAVEPOINT step",
        )


def end(record: Control, situation: Situation) -> Iterator[Problem]:
    """COMMIT after a COMMIT: what stands between them was no transaction, whatever its author thought.

    One that comes first may end the transaction of a runner; a ROLLBACK never does, for that undid the migration.
    """
    if situation.in_transaction or record.what not in ("commit", "rollback"):
        return
    if situation.has_ended or record.what == "rollback":
        yield Problem(
            "unmatched-commit",
            f"no transaction is open here: PostgreSQL only warns, and nothing is left for this {record.what.upper()} "
            "to keep together",
            "BEGIN; -- where the transaction is to begin; or leave it out",
        )


def refused(record: Record, situation: Situation) -> Iterator[Problem]:
    """What PostgreSQL does in no transaction, for it cannot be undone: databases, tablespaces, ALTER SYSTEM."""
    if not situation.in_transaction or not isinstance(record, Create | Drop | Alter):
        return
    if record.what not in (("system",) if isinstance(record, Alter) else ("database", "tablespace", "subscription")):
        return
    word = type(record).__name__.upper()
    yield Problem(
        "concurrently-in-transaction",
        f"{word} {record.what.upper()} is refused inside a transaction",
        "-- outside of BEGIN … COMMIT, in a migration that runs without a transaction",
    )


def uncommitted(situation: Situation) -> Iterator[Problem]:
    """The script ends inside the transaction that it began: nothing of it stays."""
    if situation.in_transaction and not situation.wrapped:
        yield Problem(
            "uncommitted-transaction",
            "BEGIN without COMMIT: when the connection closes everything since is rolled back",
            "COMMIT;",
        )


def enum_value_used(tokens: tuple[Token, ...], situation: Situation) -> Iterator[Problem]:
    """A value that this transaction has added to an enum cannot be used in it."""
    if not (situation.in_transaction and situation.enum_values):
        return
    for token in tokens:
        if token.kind == "string" and token.value in situation.enum_values:
            kind = situation.enum_values[token.value]
            if f"type {kind.lower()}" in situation.fresh:
                continue
            yield Problem(
                "enum-value-in-transaction",
                f"{token.text} was added to {kind} in this transaction, and can be used only after its COMMIT",
                f"ALTER TYPE {kind} ADD VALUE {token.text}; -- in a migration of its own, before this one",
            )
            return
