"""`python -m torture.cache_writer ORDER`: writers that change documents, by raw SQL and by units, and note each commit.

They write from the first line of standard input until its end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from pathlib import Path

import asyncpg
import msgspec

from holdfast import Holdfast, logs
from holdfast.cache.clock import boottime
from holdfast.settings import Settings
from torture.cache_models import COMMIT, DOCUMENTS, Base, Document, Order
from torture.cache_plants import Told, told_by_writers

PAUSE = 0.15  # seconds on average between two commits of one writer
RAISE = "UPDATE documents SET version = version + 1 WHERE number = $1 RETURNING version"


async def write(order: Order, number: int, hold: Holdfast, notes: list[bytes], told: Told, stop: asyncio.Event) -> int:
    """One writer's work; returns how many commits it made."""
    draw = random.Random(f"{order.seed}/writer/{order.number}/{number}")
    connection = await asyncpg.connect(order.url)
    count = 0
    while not stop.is_set():
        document = min(int(draw.expovariate(6 / DOCUMENTS)), DOCUMENTS - 1)
        if draw.random() < 0.5:
            version = await connection.fetchval(RAISE, document)
        else:
            async with hold.unit(actor="writer") as unit:
                row = await unit[Document].get(document)
                result = await unit.execute(
                    "UPDATE documents SET version = version + 1 WHERE number = :number RETURNING version",
                    {"number": row.number},
                )
                version = result.scalar_one()
        notes.append(COMMIT.pack(boottime(), document, version))
        await told(document)
        count += 1
        await asyncio.sleep(draw.expovariate(1 / PAUSE))
    await connection.close()
    return count


async def main(order: Order) -> None:
    """Write from the first line of standard input until its end."""
    settings = Settings(database_url=order.url, start_timeout=30)
    hold = await Holdfast.open(settings=settings, metadata=Base.metadata, migrate=False)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    stop, notes = asyncio.Event(), list[bytes]()
    async with told_by_writers(order) as told:
        writers = [
            asyncio.create_task(write(order, number, hold, notes, told, stop)) for number in range(order.readers)
        ]
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([end, *writers], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        done = await asyncio.gather(*writers)
    await hold.close()
    await asyncio.to_thread(Path(order.file).write_bytes, b"".join(notes))
    print(msgspec.json.encode({"commits": sum(done)}).decode(), flush=True)


if __name__ == "__main__":
    logs.show(sys.stderr, logging.WARNING)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
