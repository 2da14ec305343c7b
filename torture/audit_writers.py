"""Those who write: by units, and by raw SQL that knows nothing of Holdfast. None of them keeps books.

What they have committed is in the tables, whether they were told so or not.
"""

from __future__ import annotations

import asyncio
import random

import asyncpg

from holdfast import ALL, Holdfast
from holdfast.errors import HoldfastError
from holdfast.model import uuid7
from torture.audit_models import TENANTS, Deed, Saying

PAUSE = 0.01  # seconds on average between two transactions of one writer
LONG = 0.4  # seconds for which a transaction stays open now and then

SOME = """
    SELECT id FROM deeds WHERE id >= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
"""
UPDATE = f"""
    UPDATE deeds SET version = version + 1, word = 'word ' || (version + 1) WHERE id IN ({SOME})
"""  # noqa: S608  constants
DELETE = f"""
    WITH gone AS (DELETE FROM deeds WHERE id IN ({SOME}) RETURNING id, tenant, version)
    INSERT INTO graves (id, tenant, version) SELECT id, tenant, version FROM gone
"""  # noqa: S608
AGAIN = "UPDATE deeds SET version = version + 1, word = 'word ' || (version + 1) WHERE id = :id"
FIRST = "SELECT id FROM deeds ORDER BY random() LIMIT 1"


class Undone(Exception):
    """Rolls back what was done."""


class Writers:
    """Write until they are cancelled, through a database that is gone for a while.

    Attributes:
        committed: transactions that they know of; interrupted: those that the database ended.
    """

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold
        self.committed = self.interrupted = 0

    async def by_units(self, draw: random.Random) -> None:
        """Write by units and repositories, for one tenant or all."""
        while True:
            await asyncio.sleep(draw.expovariate(1 / PAUSE))
            try:
                await self._unit(draw)
                self.committed += 1
            except Undone:
                pass
            except HoldfastError:
                await self._wait()

    async def _unit(self, draw: random.Random) -> None:
        tenant = draw.choice(TENANTS)
        async with self._hold.unit(actor=f"unit {draw.random():.3f}", tenant=tenant, request_id="r") as unit:
            for _ in range(draw.randint(1, 3)):
                row = await unit[Deed].add(Deed(version=1, word="word 1"))
                if draw.random() < 0.5:  # in one transaction with its insert
                    await unit[Deed].update(row.id, version=2, word="word 2")
            if draw.random() < 0.3:
                key = uuid7()
                await self._hold.audit.record(unit, "say", target=("sayings", key), private={"word": "said"})
                await unit[Saying].add(Saying(id=key, tenant=tenant))
            if draw.random() < 0.1:
                raise Undone
        if draw.random() < 0.3:
            async with self._hold.unit(actor="unit", tenant=ALL) as unit:
                await unit.execute(AGAIN, {"id": row.id})

    async def by_sql(self, draw: random.Random) -> None:
        """Write by a driver: many rows at once, COPY, transactions that stay open."""
        connection: asyncpg.Connection | None = None
        try:
            while True:
                await asyncio.sleep(draw.expovariate(1 / PAUSE))
                try:
                    if connection is None:
                        connection = await asyncpg.connect(self._hold.settings.database_url)
                    await self._transaction(connection, draw)
                    self.committed += 1
                except Undone:
                    pass
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    if connection is not None:
                        connection.terminate()
                    connection = None
                    await self._wait()
        finally:
            if connection is not None:
                connection.terminate()

    async def _transaction(self, connection: asyncpg.Connection, draw: random.Random) -> None:
        async with connection.transaction():
            for _ in range(draw.randint(1, 3)):
                what = draw.random()
                if what < 0.25:
                    rows = [(uuid7(), draw.choice(TENANTS), 1, "word 1") for _ in range(draw.randint(1, 6))]
                    await connection.copy_records_to_table(
                        "deeds", records=rows, columns=("id", "tenant", "version", "word")
                    )
                elif (first := await connection.fetchval(FIRST)) is not None:
                    await connection.execute(UPDATE if what < 0.8 else DELETE, first, draw.randint(1, 5))
            if draw.random() < 0.05:
                await asyncio.sleep(draw.uniform(0, LONG))
            if draw.random() < 0.1:
                raise Undone

    async def _wait(self) -> None:
        self.interrupted += 1
        await asyncio.sleep(0.1)
