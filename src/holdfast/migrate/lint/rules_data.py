"""Hazards of changing rows inside of a migration."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.reader import Name, split
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import Tokens, Write


def write(record: Write, situation: Situation) -> Iterator[Problem]:
    """UPDATE or DELETE of a whole table; work on a table that this transaction keeps locked."""
    for part in record.parts:
        yield from write(part, situation)
    if record.what in ("update", "delete"):
        if situation.is_fresh(record.table):
            return
        if record.where is None or _always(record.where) or _is_backfill(record, situation):
            yield _whole_table(record)
        elif record.table.key in situation.held and situation.in_transaction:
            yield _under_lock(record.table, situation)
    elif situation.in_transaction and not record.limited:
        for name in record.reads:
            if name.key in situation.held and not situation.is_fresh(name):
                yield _under_lock(name, situation)
                return


def _whole_table(record: Write) -> Problem:
    table = record.table.text
    if record.what == "delete":
        return Problem(
            "delete-all-rows",
            f"one statement deletes every row of {table}: its rows stay locked, replicas lag, and it cannot resume",
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE … LIMIT 1000); "
            "-- again until none is left, each in a transaction of its own",
        )
    return Problem(
        "update-all-rows",
        f"one statement updates every row of {table}: its rows stay locked, replicas lag, and it cannot resume",
        f"UPDATE {table} SET {record.assignments} WHERE id > … AND id <= …; -- in batches of some thousand rows, "
        "each in a transaction of its own (holdfast: a backfill)",
    )


def _under_lock(name: Name, situation: Situation) -> Problem:
    return Problem(
        "work-under-lock",
        f"{name.text} is under ACCESS EXCLUSIVE since line {situation.held[name.key]}: everybody waits for this too",
        "COMMIT; -- before it, or move it to a migration of its own",
    )


def _always(where: Tokens) -> bool:
    values = [token.value for token in where if token.text not in ("(", ")")]
    if values == ["true"]:
        return True
    return len(values) == 3 and values[1] == "=" and values[0] == values[2]


def _is_backfill(record: Write, situation: Situation) -> bool:
    """Whether the condition is only that the column is still empty: one that is set, or that this script has added."""
    added = situation.added.get(record.table.key, set()).union(record.assigned)
    if record.what != "update":
        return False
    for part in split(record.where or (), "and"):
        values = [token.value for token in part if token.text not in ("(", ")")]
        if len(values) >= 3 and values[-2:] == ["is", "null"] and values[-3] in added:
            continue
        return False
    return True
