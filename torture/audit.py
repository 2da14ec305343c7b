"""Every committed write of an audited model is on record, once and in its order, and the chains are whole.

Writers write by units and by raw SQL. Two processes seal, of which one has the lease; they are killed with -9 and
frozen past their lease, again and again, and the database is crashed once. At the end what is on record is held against
the rows, which were committed with what they tell.

Violations: `lost`, `twice`, `phantom` (on record, and never committed), `disordered` (of one row), `broken` (a chain
that does not verify, or not against the checkpoint that was made before somebody was at it), `unreadable` (the private
part of a record, with every key there).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import tempfile
from asyncio.subprocess import Process
from pathlib import Path

import msgspec

from devservers import start_postgres
from holdfast import ALL, Holdfast
from holdfast.errors import InvalidValue, StoreError
from holdfast.guard.audit import Checkpoint, Record
from holdfast.guard.audit.export import export
from holdfast.guard.audit.trail import FOLLOWER
from holdfast.journal import Journal
from holdfast.secrets import new_key
from torture.audit_check import SAID, Deed, Seen, Step, Verdict, check
from torture.audit_sealer import LEASE, Order, made
from torture.audit_writers import Writers
from torture.harness import Options, Result
from torture.processes import ProcessFailed, start

PLANTS = {
    "apart": "who seals commits the records, and how far it got, in transactions of their own",
    "forgetful": "who seals leaves a change out now and then",
    "keyless": "who seals encrypts under keys of its own, which it never keeps",
    "edited": "who owns the database changes one record",
    "cut": "who owns the database cuts the end of a chain off, and puts its head back",
}
VIOLATIONS = ("lost", "twice", "phantom", "disordered", "broken", "unreadable")
OPENED = 1_000  # records at a time
SEALERS = 2
BY_UNITS, BY_SQL = 4, 3
LEAST, WRITTEN = 2, 50  # kills and freezes, and transactions, however slow the machine
PATIENCE = 60.0  # seconds

COMMITTED = """
    SELECT tenant, id::text, version, false AS gone FROM deeds
    UNION ALL SELECT tenant, id::text, version, true FROM graves
"""
OWNER = {  # what is done to the trail by who may alter its table
    "edited": ["UPDATE audit_logs SET actor = 'nobody' WHERE tenant = 't1' AND seq = 2"],
    "cut": [
        "DELETE FROM audit_logs WHERE tenant = 't1' AND seq > 2",
        "UPDATE audit_heads SET seq = 2, mac = (SELECT mac FROM audit_logs WHERE tenant = 't1' AND seq = 2)"
        " WHERE tenant = 't1'",
    ],
}


async def run(options: Options) -> Result:
    """Write, kill, crash, and hold what is on record against what was committed."""
    result = Result("audit", options, VIOLATIONS)
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-torture-") as folder,
        start_postgres() as postgres,
        postgres.database() as url,
    ):
        order = Order(url=url, audit_keys=new_key("a1"), encryption_keys=new_key("k1"), plant=options.plant)
        hold = made(order)
        await hold.start(migrate=True)
        async with hold:
            sealers = _Sealers(Path(folder), order, hold.journal, options.random("sealers"))
            writers = Writers(hold)
            try:
                await sealers.start()
                await _work(hold, writers, sealers, options)
            finally:
                await sealers.abandon()
            before = await _sealed(hold)
            await hold.follow()
            await hold.audit.caught_up(timeout=120)
            known = Checkpoint.now((await hold.audit.verify()).heads)
            await _own(hold, OWNER.get(options.plant or "", []))
            verdict = await _judged(result, hold, known)
            result.figures |= {
                "transactions": writers.committed,
                "interrupted": writers.interrupted,
                "sealed amid it": before,
                "kills": sealers.kills,
                "freezes": sealers.freezes,
                "leases": await _leases(hold),
            }
            for name in ("lost", "twice", "phantom", "disordered"):
                for told in getattr(verdict, name):
                    result.violate(name, told)
    return result


async def _work(hold: Holdfast, writers: Writers, sealers: _Sealers, options: Options) -> None:
    tasks = [asyncio.create_task(writers.by_units(options.random("unit", number))) for number in range(BY_UNITS)]
    tasks += [asyncio.create_task(writers.by_sql(options.random("sql", number))) for number in range(BY_SQL)]
    tasks.append(asyncio.create_task(sealers.trouble()))
    crash = asyncio.create_task(_crash_once(hold, options.seconds / 2))
    end = asyncio.create_task(_end(hold, writers, sealers, options))
    try:
        await asyncio.wait([*tasks, end], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await end
        await crash
    finally:
        for task in (*tasks, crash, end):
            task.cancel()
        await asyncio.gather(*tasks, crash, end, return_exceptions=True)


async def _end(hold: Holdfast, writers: Writers, sealers: _Sealers, options: Options) -> None:
    """Return when it was long enough: somebody wrote, somebody sealed amid it, and was in trouble."""
    seconds, least = options.seconds, 0 if options.plant in OWNER else LEAST
    async with asyncio.timeout(seconds + PATIENCE):
        await asyncio.sleep(seconds)
        while (  # noqa: ASYNC110
            sealers.kills + sealers.freezes < least or writers.committed < WRITTEN or not await _sealed(hold)
        ):
            await asyncio.sleep(0.1)


async def _crash_once(hold: Holdfast, after: float) -> None:
    """End a process of the server with -9: it ends all others, and recovers from its log."""
    await asyncio.sleep(after)
    async with hold.read(tenant=ALL) as unit:
        pid = (await unit.execute("SELECT pg_backend_pid()")).scalar_one()
    os.kill(pid, signal.SIGKILL)  # of a connection that waits in the pool


class _Sealers:
    """The processes that seal.

    Attributes:
        kills, freezes: how often one was.
    """

    def __init__(self, folder: Path, order: Order, journal: Journal, draw: random.Random) -> None:
        self.kills = self.freezes = 0
        self._folder, self._order, self._journal, self._draw = folder, order, journal, draw
        self._processes: list[Process] = []

    async def start(self) -> None:
        """Start them all."""
        for number in range(SEALERS):
            self._processes.append(await start("audit_sealer", self._order, self._log(number)))

    async def trouble(self) -> None:
        """Kill who has the lease and start it again, or freeze it past its lease, for ever.

        Raises:
            ProcessFailed: one ended by itself.
        """
        while True:
            await asyncio.sleep(self._draw.uniform(0.2, 1.0))
            number = await self._victim()
            if number is None:
                continue
            process = self._processes[number]
            if process.returncode is not None:
                raise ProcessFailed(f"sealer {number}", process.returncode, self._log(number))
            if self._draw.random() < 0.7:
                process.kill()
                await process.wait()
                self.kills += 1
                self._processes[number] = await start("audit_sealer", self._order, self._log(number))
            else:
                process.send_signal(signal.SIGSTOP)
                self.freezes += 1
                try:
                    await asyncio.sleep(LEASE * self._draw.uniform(1.2, 1.8))
                finally:
                    process.send_signal(signal.SIGCONT)

    async def _victim(self) -> int | None:
        """Who has the lease; where nobody has now and then any, and mostly none."""
        with contextlib.suppress(StoreError):
            for follower in (await self._journal.status()).followers:
                for number, process in enumerate(self._processes):
                    if follower.name == FOLLOWER and f":{process.pid}:" in (follower.holder or ""):
                        return number
        return self._draw.randrange(SEALERS) if self._draw.random() < 0.1 else None

    async def abandon(self) -> None:
        """Kill them all: what they had begun is not waited for either."""
        for process in self._processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _log(self, number: int) -> Path:
        return self._folder / f"sealer-{number}.log"


async def _own(hold: Holdfast, statements: list[str]) -> None:
    if statements:
        async with hold.unit(tenant=ALL) as unit:
            for statement in ("ALTER TABLE audit_logs DISABLE TRIGGER append_only", *statements):
                await unit.execute(statement)


async def _judged(result: Result, hold: Holdfast, known: Checkpoint) -> Verdict:
    verified = await hold.audit.verify(known=known)
    for fault in verified.faults:
        result.violate("broken", f"{fault.tenant or 'nobody'}, record {fault.seq}: {fault.told}")
    async with hold.read(tenant=ALL) as unit:
        deeds = [Deed(row.tenant, row.id, row.version, row.gone) for row in await unit.execute(COMMITTED)]
        sayings = [(row.tenant, row.id) for row in await unit.execute("SELECT tenant, id::text FROM sayings")]
    found = [record async for record in export(hold.store, hold.audit.tables)]
    records = [_seen(record) for record in found]
    result.figures |= {"deeds": len(deeds), "sayings": len(sayings), "records": len(records)}
    await _opened(result, hold, found)
    return check(deeds, sayings, records)


async def _opened(result: Result, hold: Holdfast, records: list[Record]) -> None:
    """Whoever made the key of a subject and was killed, or lost his lease: records are under the one that is there."""
    assert hold.audit.box is not None
    for first in range(0, len(records), OPENED):
        part = records[first : first + OPENED]
        async with hold.read(tenant=ALL) as unit:
            try:
                await hold.audit.box.open(part, unit)
            except InvalidValue as error:
                result.violate("unreadable", str(error))


def _seen(record: Record) -> Seen:
    if record.target_type == "sayings":
        return record.tenant, str(record.target_id), SAID._replace(action=record.action)
    before, after = msgspec.json.decode(record.changes or "{}").get("version", (None, None))
    return record.tenant, str(record.target_id), Step(record.action, before, after)


async def _sealed(hold: Holdfast) -> int:
    """How many records there are; 0 while the database recovers."""
    with contextlib.suppress(StoreError):
        async with hold.read(tenant=ALL) as unit:
            return int((await unit.execute("SELECT count(*) FROM audit_logs")).scalar_one())
    return 0


async def _leases(hold: Holdfast) -> int:
    """How often the lease changed hands."""
    async with hold.read(tenant=ALL) as unit:
        return int((await unit.execute("SELECT token FROM holdfast_followers WHERE name = 'audit'")).scalar_one())
