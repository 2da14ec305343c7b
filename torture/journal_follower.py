"""`python -m torture.journal_follower ORDER`: a follower in a process of its own, meant to be killed.

It follows until its standard input ends. Its effects are rows of `effects`, committed with its position, or lines of
a file, kept on the disk before its position is. A second file notes when effects were there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import sys
import time
from typing import Any

import msgspec

from holdfast import logs
from holdfast.errors import StoreError
from holdfast.journal import Batch, Change, Journal
from holdfast.settings import Settings
from holdfast.store import Store, Unit
from torture.journal_plants import planted_feed

LEASE = 1.5  # seconds; whoever takes over from a killed follower waits for so long
KEEP = 3.0  # seconds; pruning, too, must lose nothing
FAILING = 0.01  # of the batches fail once in the handler

INSERT = "INSERT INTO effects (batch, change) VALUES (:batch, :change)"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower's process is told.

    Attributes:
        url: the database.
        name: the follower.
        transactional: whether effects are rows, else lines of `effects`.
        effects, times: files that are appended to.
        tables: what it wants; all unless given.
        seed: what the handler's own failures follow from.
        plant: the planted fault.
    """

    url: str
    name: str
    transactional: bool
    effects: str
    times: str
    seed: int
    tables: tuple[str, ...] | None = None
    plant: str | None = None


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A change as a follower took it; `version` and `generation` are the row's, the old ones of a deleted row."""

    tick: int
    seq: int
    table: str
    key: str | None
    op: str
    version: int | None
    generation: int | None
    actor: str | None


def taken(change: Change) -> Taken:
    """What of a change is checked."""
    facts = change.new or change.old or {}
    return Taken(
        change.tick,
        change.seq,
        change.table,
        change.key,
        change.op,
        facts.get("version"),
        facts.get("generation"),
        change.actor,
    )


class Effects:
    """The handler: what it did stays done, whatever becomes of the process."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._batches = itertools.count()
        self._random = random.Random(order.seed)
        self._times = open(order.times, "ab", buffering=0)  # noqa: SIM115  for as long as the process lives
        self._effects = os.open(order.effects, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _mend(self._effects)

    async def rows(self, batch: Batch, unit: Unit) -> None:
        """Transactional: the effects are in the unit."""
        name = self._name()
        await unit.execute(
            INSERT, [{"batch": name, "change": msgspec.json.encode(taken(c)).decode()} for c in batch.changes]
        )
        self._fail_sometimes()

        async def committed() -> None:
            self._note(name)

        unit.after_commit(committed)

    async def lines(self, batch: Batch) -> None:
        """External: the effects are on the disk when this returns."""
        self._fail_sometimes()
        name = self._name()
        text = b"".join(msgspec.json.encode((name, taken(c))) + b"\n" for c in batch.changes)
        os.write(self._effects, text)
        os.fsync(self._effects)
        self._note(name)
        # A kill between the effect and the position is what tells at least once from exactly once: make it likely.
        await asyncio.sleep(self._random.uniform(0, 0.01))

    def _name(self) -> str:
        return f"{os.getpid()}-{time.monotonic_ns()}-{next(self._batches)}"

    def _fail_sometimes(self) -> None:
        if self._random.random() < FAILING:
            raise RuntimeError("the handler fails now and then, as handlers do")

    def _note(self, batch: str) -> None:
        self._times.write(f"{batch} {time.monotonic_ns()}\n".encode())


def _mend(file: int) -> None:
    """Cut off a line of which a killed process wrote only the beginning."""
    size = os.fstat(file).st_size
    end = os.pread(file, size, 0).rfind(b"\n") + 1
    if end < size:
        os.ftruncate(file, end)


async def main(order: Order) -> None:
    """Follow until standard input ends."""
    store = Store(Settings(database_url=order.url, start_timeout=30))
    feed = planted_feed(order.plant, store)
    journal = Journal(store, lease=LEASE, keep=KEEP if order.plant is None else 3_600, feed=feed)
    await journal.start()
    effects = Effects(order)
    handler: Any = effects.rows if order.transactional else effects.lines
    while True:
        try:
            await journal.subscribe(order.name, handler, tables=order.tables, transactional=order.transactional)
            break
        except StoreError as error:  # the database is being exchanged
            print(f"not yet: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.2)
    await asyncio.to_thread(sys.stdin.read)
    await journal.close()
    await store.close()


if __name__ == "__main__":
    logs.show(sys.stderr, logging.INFO)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
