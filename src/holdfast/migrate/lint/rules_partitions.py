"""Hazards of attaching and detaching partitions."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.rules_indexes import in_transaction
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Action, Alter


def attach(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """ATTACH PARTITION: unless a valid CHECK says the same, every row of the partition is read under a lock."""
    is_empty = situation.is_fresh(action.name) and action.name.key not in situation.filled
    if alter.what == "index" or is_empty or situation.has_valid_check(action.name):
        return
    part = action.name.text
    check = f"{part.rpartition('.')[2].strip(chr(34))}_bounds"
    yield Problem(
        "attach-partition",
        f"every row of {part} is read under ACCESS EXCLUSIVE, for no valid CHECK says that it fits",
        f"ALTER TABLE {part} ADD CONSTRAINT {check} CHECK (…) NOT VALID; -- the bounds of the partition\n"
        f"ALTER TABLE {part} VALIDATE CONSTRAINT {check}; -- in a transaction of its own\n"
        f"ALTER TABLE {alter.name.text} {action.text};",
    )


def detach(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    """DETACH PARTITION: without CONCURRENTLY the whole parent is under ACCESS EXCLUSIVE."""
    parent, part = alter.name.text, action.name.text
    safe = f"ALTER TABLE {parent} DETACH PARTITION {part} CONCURRENTLY;"
    if action.concurrently:
        if situation.in_transaction and "concurrently" in action.text.lower():
            yield in_transaction("DETACH PARTITION … CONCURRENTLY", safe)
        return
    yield Problem(
        "detach-partition", f"{parent} and all its partitions are under ACCESS EXCLUSIVE: reads and writes wait", safe
    )
