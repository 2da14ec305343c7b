"""`python -m benchmarks.journal_follower URL`: a process that follows the benchmark's tables and notes when.

Says `ready` when it follows. When its standard input ends it writes one JSON object: for each key, the nanoseconds
of the monotonic clock, which all processes of a machine share, when the handler was given its insert.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from benchmarks.journal_models import ENTRIES, metadata, table_of
from holdfast import Holdfast
from holdfast.journal import Batch
from holdfast.settings import Settings


async def main(url: str) -> None:
    """Follow until standard input ends."""
    seen: dict[str, int] = {}

    async def handle(batch: Batch) -> None:
        now = time.monotonic_ns()
        for change in batch.changes:
            if change.op == "insert" and change.key is not None:
                seen[change.key] = now

    async with await Holdfast.open(metadata=metadata, migrate=False, settings=Settings(database_url=url)) as hold:
        tables = (table_of(ENTRIES.factual).name,)
        await hold.journal.subscribe("latency", handle, tables=tables, start="now")
        await hold.journal.wait_until(await hold.journal.make_tick(), "latency")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
