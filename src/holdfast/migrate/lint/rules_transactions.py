"""Hazards of how a script begins and ends its transactions."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Control
from holdfast.migrate.lint.tokens import Token


def begin(record: Control, situation: Situation) -> Iterator[Problem]:
    """BEGIN inside a transaction: the COMMIT that follows ends the outer one."""
    if record.what == "begin" and situation.in_transaction and not situation.wrapped:
        yield Problem(
            "nested-transaction",
            "a transaction is open already: PostgreSQL only warns, and the first COMMIT ends both",
            "SAVEPOINT step; -- and RELEASE SAVEPOINT step",
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
