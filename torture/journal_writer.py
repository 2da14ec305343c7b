"""`python -m torture.journal_writer ORDER`: some of the 16 writers, in a process of their own.

They write from the first line of standard input until its end. Each has a manner of writing, and notes what it
committed in its own file.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from holdfast import logs
from holdfast.journal import Journal
from holdfast.settings import Settings
from holdfast.store import Store
from torture.journal_manners import MANNERS, Hand
from torture.journal_plants import plant_in_writer
from torture.journal_transactions import Transactor

PAUSE = 0.03  # seconds at most between two transactions of a writer


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of writers is told.

    Attributes:
        url: the database; `sibling`: another one of the same server.
        numbers: which of the writers it runs.
        folder: where their notes go.
        hold: seconds for which the long transactions stay open, at least and at most.
        seed, plant: as in the run's options.
    """

    url: str
    sibling: str | None
    numbers: tuple[int, ...]
    folder: str
    hold: tuple[float, float]
    seed: int
    plant: str | None = None


async def write(order: Order, store: Store, number: int, stop: asyncio.Event) -> tuple[int, int]:
    """One writer's work; returns how many transactions it made, and how many were ended by the database."""
    draw = random.Random(f"{order.seed}/{store.dialect}/writer/{number}")
    name, manner = MANNERS[store.dialect][number]
    transactor = Transactor(number, store, Path(order.folder) / f"writer-{number}.jsonl")
    hand = Hand(number, name, draw, transactor, order.hold, order.sibling, stop)
    step: Callable[[Hand], Awaitable[None]] = manner
    while not stop.is_set():
        await step(hand)
        await asyncio.sleep(draw.uniform(0, PAUSE))
    await hand.close()
    await transactor.close()
    return transactor.count, transactor.lost


async def main(order: Order) -> None:
    """Write from the first line of standard input until its end."""
    store = Store(Settings(database_url=order.url, start_timeout=30))
    journal = Journal(store)
    plant_in_writer(order.plant, store)
    await store.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    stop = asyncio.Event()
    writers = [asyncio.create_task(write(order, store, number, stop)) for number in order.numbers]
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([end, *writers], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    done = await asyncio.gather(*writers)
    await journal.close()
    await store.close()
    print(msgspec.json.encode([sum(column) for column in zip(*done, strict=True)]).decode(), flush=True)


if __name__ == "__main__":
    logs.show(sys.stderr, logging.INFO)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
