"""Changes that a follower could not take: kept per key, in order, until they are tried again or skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.journal.changes import Change
from holdfast.journal.clock import UNIX_NOW
from holdfast.store import Store, Unit

_PAGE = 500  # letters

Key = tuple[str, str]
"""A table and a key in it."""

PARK = """
    INSERT INTO holdfast_dead_letters (follower, seq, tbl, key, change, error, parked)
    VALUES (:follower, :seq, :tbl, :key, :change, :error, {now})
    ON CONFLICT (follower, seq) DO NOTHING
"""
KEYS = "SELECT DISTINCT tbl, key FROM holdfast_dead_letters WHERE follower = :follower AND key IS NOT NULL"
COUNT = "SELECT count(*) FROM holdfast_dead_letters WHERE follower = :follower"
LETTERS = """
    SELECT seq, tbl, key, change, error, parked FROM holdfast_dead_letters
    WHERE follower = :follower ORDER BY seq LIMIT :limit
"""
PAGE = """
    SELECT follower, seq, change FROM holdfast_dead_letters
    WHERE follower > :follower OR (follower = :follower AND seq > :seq)
    ORDER BY follower, seq LIMIT :limit
"""
REWRITE = """
    UPDATE holdfast_dead_letters SET change = :change, error = :error WHERE follower = :follower AND seq = :seq
"""
REMOVE = "DELETE FROM holdfast_dead_letters WHERE follower = :follower AND seq = :seq"
CLEAR = "DELETE FROM holdfast_dead_letters WHERE follower = :follower"


class DeadLetter(msgspec.Struct, frozen=True):
    """A parked change, why it was parked, and when (seconds since 1970)."""

    change: Change
    error: str
    parked: float


def key_of(change: Change) -> Key | None:
    """What later changes must wait for when this one is parked; None when nothing depends on it."""
    return None if change.key is None else (change.table, change.key)


async def rewrite_letters(unit: Unit, rewritten: Callable[[Change], Change], *, error: str) -> int:
    """Put `rewritten(change)` in the place of the change of every letter of every follower; returns how many differ.

    Args:
        error: what stands for the reason of these, which may repeat what was in them.
    """
    done = 0
    last = {"follower": "", "seq": -1}
    while True:
        rows = (await unit.execute(PAGE, {**last, "limit": _PAGE})).all()
        for row in rows:
            change = msgspec.json.decode(row.change, type=Change)
            if (other := rewritten(change)) != change:
                written = msgspec.json.encode(other).decode()
                values = {"follower": row.follower, "seq": row.seq, "change": written, "error": error}
                await unit.execute(REWRITE, values)
                done += 1
        if len(rows) < _PAGE:
            return done
        last = {"follower": rows[-1].follower, "seq": rows[-1].seq}


class DeadLetters:
    """The dead letters of one follower."""

    def __init__(self, store: Store, follower: str) -> None:
        self._store = store
        self._follower = follower
        self._park = text(PARK.format(now=UNIX_NOW[store.dialect]))

    async def park(self, changes: Sequence[Change], error: str, unit: Unit | None = None) -> None:
        """Keep `changes`, in `unit` when there is one; those that are kept already stay as they are."""
        rows = [
            {
                "follower": self._follower,
                "seq": change.seq,
                "tbl": change.table,
                "key": change.key,
                "change": msgspec.json.encode(change).decode(),
                "error": error,
            }
            for change in changes
        ]
        if unit is not None:
            await unit.execute(self._park, rows)
            return
        async with self._store.connect(write=True) as connection:
            await connection.execute(self._park, rows)

    async def keys(self) -> set[Key]:
        """The keys that have dead letters."""
        async with self._store.connect() as connection:
            return {(row.tbl, row.key) for row in await connection.execute(text(KEYS), {"follower": self._follower})}

    async def count(self) -> int:
        """How many there are."""
        async with self._store.connect() as connection:
            return int((await connection.execute(text(COUNT), {"follower": self._follower})).scalar_one())

    async def letters(self, limit: int = 1_000) -> list[DeadLetter]:
        """The oldest of them, in the order of their changes."""
        async with self._store.connect() as connection:
            rows = (await connection.execute(text(LETTERS), {"follower": self._follower, "limit": limit})).all()
        return [DeadLetter(msgspec.json.decode(row.change, type=Change), row.error, row.parked) for row in rows]

    async def remove(self, seq: int, unit: Unit | None = None) -> None:
        """Drop one of them."""
        values = {"follower": self._follower, "seq": seq}
        if unit is not None:
            await unit.execute(REMOVE, values)
            return
        async with self._store.connect(write=True) as connection:
            await connection.execute(text(REMOVE), values)

    async def clear(self, connection: AsyncConnection | Unit) -> None:
        """Drop all of them."""
        statement: Any = text(CLEAR)
        await connection.execute(statement, {"follower": self._follower})
