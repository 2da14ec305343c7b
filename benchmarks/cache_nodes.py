"""What following the journal costs where many nodes do: the database's time, and the nodes' own.

Nodes in processes of their own keep their caches fresh while 500 rows a second are written, each by a commit of its
own. The database's time is what PostgreSQL counts for the two functions that renewals call: `holdfast_make_tick`, and
`holdfast_page`, which reads the changes. `pause` has nodes wait between two renewals, which the cache itself does not.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from typing import Any

import asyncpg
import msgspec

from benchmarks.harness import Options, Report, started
from benchmarks.journal_databases import PostgresTemplate, opened, postgres
from benchmarks.journal_models import ENTRIES, KeyedEntry, metadata, rows_of, table_of
from holdfast import Holdfast, Load
from holdfast.settings import Settings

TABLE = table_of(ENTRIES.keyed)
RATE = 500  # commits a second
WRITERS = 4
PAUSE = 0.025  # seconds
SECONDS = 8.0

COUNTED = "SELECT funcname, total_time FROM pg_stat_user_functions WHERE funcname = ANY ($1)"
FUNCTIONS = ("holdfast_make_tick", "holdfast_page")
CHANGE = f"UPDATE {TABLE.name} SET quantity = quantity + 1 WHERE account_id = :account"  # noqa: S608


async def run(options: Options) -> Report:
    """Measure with one node and with eight, and with eight that pause between renewals."""
    report = Report("cache_nodes", options)
    with postgres(fsync=False) as server:
        template = PostgresTemplate(server)
        await template.make()
        for nodes, pause in ((1, 0.0), (8, 0.0), (8, PAUSE)):
            case = f"{nodes} node{'s' if nodes > 1 else ''}{f', {pause * 1e3:g} ms between' if pause else ''}"
            figures: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                with template.copy() as url:
                    for name, figure in (await _measured(url, nodes, pause, SECONDS * options.scale)).items():
                        figures.setdefault(name, []).append(figure)
            for name, runs in figures.items():
                report.record(case, name, "1/s" if name in ("commits", "renewals", "reads") else "ms/s", runs)
    return report


async def _measured(url: str, nodes: int, pause: float, seconds: float) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE \"{name}\" SET track_functions = 'pl'")
        async with opened(url) as hold:
            rows = [dict(zip(ENTRIES.columns, row, strict=True)) for row in rows_of(ENTRIES, 64)]
            async with hold.unit() as unit:
                await unit[KeyedEntry].add_many([{**row, "account_id": i} for i, row in enumerate(rows)])
            processes = [await started("benchmarks.cache_nodes", url, str(pause), str(seconds)) for _ in range(nodes)]
            try:
                for process in processes:
                    assert process.stdout is not None
                    await process.stdout.readline()
                await connection.execute("SELECT pg_stat_reset()")
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(b"go\n")
                commits = await _write(hold, seconds)
                told = [msgspec.json.decode((await process.communicate())[0]) for process in processes]
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
        await asyncio.sleep(1.5)  # PostgreSQL counts a second late
        spent = dict(await connection.fetch(COUNTED, list(FUNCTIONS)))
    finally:
        await connection.close()
    sums = {name: sum(one[name] for one in told) / seconds for name in ("renewals", "reads", "nodes")}
    ticks, reads = (spent.get(function, 0.0) / seconds for function in FUNCTIONS)
    return {"commits": commits / seconds, **sums, "database, ticks": ticks, "database, reads": reads}


async def _write(hold: Holdfast, seconds: float) -> int:
    """Commit `RATE` times a second; returns how often."""
    end, commits = time.monotonic() + seconds, 0

    async def writer(number: int) -> None:
        nonlocal commits
        due = time.monotonic()
        while time.monotonic() < end:
            async with hold.unit() as unit:
                await unit.execute(CHANGE, {"account": (commits * WRITERS + number) % 64})
            commits += 1
            due += WRITERS / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    return commits


async def main(url: str, pause: float, seconds: float) -> None:
    """One of the nodes: it says how often it renewed and read, and the milliseconds of processor time it took."""
    renewals = reads = 0

    async def load(load: Load) -> str:
        return load.key

    async with await Holdfast.open(metadata=metadata, migrate=False, settings=Settings(database_url=url)) as hold:
        await hold.cache.get_or_load("followed", load)
        renewal, feed = hold.cache._renewal, hold.journal._feed
        renew, page = renewal._renew, feed.page

        async def renewed() -> None:
            nonlocal renewals
            renewals += 1
            await renew()
            await asyncio.sleep(pause)

        async def read(*given: Any) -> Any:
            nonlocal reads
            reads += 1
            return await page(*given)

        renewal._now._load = renewed
        feed.page = read  # type: ignore[method-assign, assignment]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        before, renewals, reads = _spent(), 0, 0
        await asyncio.sleep(seconds)
        figures = {"renewals": renewals, "reads": reads, "nodes": (_spent() - before) * 1e3}
    print(msgspec.json.encode(figures).decode(), flush=True)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
