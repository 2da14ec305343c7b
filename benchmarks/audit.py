"""Audited writes over 200 tenants, beside the same writes unaudited, and beside chains that the writer makes himself.

On PostgreSQL, which waits for its disk, by sixteen connections that write one row a transaction, as programs do that
know nothing of the library. An audited write has ended when it is sealed; the follower that seals runs in this process,
beside the writers. The peers are as good as such a thing gets: one statement, a function that writes row, record and
head, with SHA-256 in place of an HMAC, and no index but the key on their records; once with one chain for all, once
with one for each tenant.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.harness import Options, Report
from devservers import start_postgres
from holdfast import AppendOnly, Audited, Holdfast, KeyedModel, Model, Policy, uuid7
from holdfast.guard.audit import AuditColumns, AuditHeadColumns
from holdfast.model import NAMING, Text
from holdfast.settings import Settings

A_SECOND = 2_000
TENANTS = 200
WRITERS = 16
WRITES = 10_000

METADATA = MetaData(naming_convention=NAMING)
WRITTEN, VERIFY = "writes of one row, one transaction each", "verification"


class Base(Model):
    __abstract__ = True
    metadata = METADATA


class Keyed(KeyedModel):
    __abstract__ = True
    metadata = METADATA


class Columns:
    """What a row of either table has."""

    org_id: Mapped[str] = mapped_column(Text(64))
    name: Mapped[str]
    email: Mapped[str]
    plan: Mapped[str] = mapped_column(default="free")
    seats: Mapped[int] = mapped_column(default=1)


class Customer(Columns, Base):
    __tablename__ = "audited_customers"
    __policy__ = Policy(Audited(subject="org_id"), tenant="org_id", private=("email",))


class Lead(Columns, Base):
    __tablename__ = "plain_customers"
    __policy__ = Policy(tenant="org_id", private=("email",))


class Record(AuditColumns, Keyed):
    __tablename__ = "records"
    __policy__ = Policy(AppendOnly(by_workers=True), tenant="tenant", capture=False)
    id: Mapped[UUID] = mapped_column(default=uuid7, sort_order=-88)  # type: ignore[assignment]


class End(AuditHeadColumns, Keyed):
    __tablename__ = "ends"
    __policy__ = Policy(internal=True, capture=False)


INSERT = "INSERT INTO {table} (id, org_id, name, email) VALUES ($1, $2, $3, $4)"
BY_HAND = "SELECT written_and_chained($1, $2, $3, $4, $5)"
BY_HAND_MADE = """
    CREATE TABLE own_records (
        chain text, seq bigint, tenant text, id uuid, body text, mac bytea, at timestamptz DEFAULT now(),
        PRIMARY KEY (chain, seq)
    );
    CREATE TABLE own_ends (chain text PRIMARY KEY, seq bigint, mac bytea) WITH (fillfactor = 50);
    CREATE FUNCTION written_and_chained(id uuid, org_id text, name text, email text, of_chain text) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
        ends own_ends;
        body text := json_build_object('id', id, 'org_id', org_id, 'name', name, 'email', email);
    BEGIN
        INSERT INTO plain_customers (id, org_id, name, email) VALUES (id, org_id, name, email);
        SELECT e.* INTO ends FROM own_ends e WHERE e.chain = of_chain FOR UPDATE;
        ends.seq := ends.seq + 1;
        ends.mac := sha256(ends.mac || convert_to(org_id || ends.seq || body, 'UTF8'));
        INSERT INTO own_records VALUES (of_chain, ends.seq, org_id, id, body, ends.mac);
        UPDATE own_ends e SET seq = ends.seq, mac = ends.mac WHERE e.chain = of_chain;
    END $$;
"""


async def run(options: Options) -> Report:
    """Measure writes a second, then how fast the trail is verified."""
    report = Report("audit", options)
    # A commit that waits for no disk holds the head of a chain for no time.
    with start_postgres({"fsync": "on"}) as server, server.database() as url:
        settings = Settings(database_url=url, encryption_keys=f"k1:{'A' * 43}=")
        async with await Holdfast.open(settings=settings, metadata=METADATA) as hold:
            async with hold.store.raw() as connection:
                await connection.execute(BY_HAND_MADE)
                chains = [("all",), *((tenant,) for tenant in _tenants())]
                await connection.executemany("INSERT INTO own_ends VALUES ($1, 0, '')", chains)
            await _sealed(report, hold, options.scaled(WRITES))
            await _written(report, hold, url, options.scaled(WRITES))
            await _verified(report, hold)
    return report


def _tenants() -> list[str]:
    return [f"tenant {number}" for number in range(TENANTS)]


async def _sealed(report: Report, hold: Holdfast, number: int) -> None:
    """What waits while nobody seals, once."""
    chance = random.Random(3)
    tenants = _tenants()
    rows = [(uuid7(), chance.choice(tenants), "Ada Lovelace", "ada@example.com") for _ in range(number)]
    async with hold.store.raw() as connection:
        await connection.executemany(INSERT.format(table="audited_customers"), rows)
    began = time.perf_counter()
    await hold.follow()
    await hold.audit.caught_up(timeout=600)
    report.record("sealing alone", "200 chains", "records/s", [number / (time.perf_counter() - began)])


async def _written(report: Report, hold: Holdfast, url: str, number: int) -> None:
    connections = [await asyncpg.connect(url) for _ in range(WRITERS)]
    chance = random.Random(7)
    tenants = _tenants()

    async def write(statement: str, *, chain: Callable[[str], tuple[str, ...]] = lambda tenant: ()) -> None:
        orgs = iter([chance.choice(tenants) for _ in range(number)])

        async def one(connection: Any) -> None:
            prepared = await connection.prepare(statement)
            for org in orgs:
                await prepared.fetch(uuid7(), org, "Ada Lovelace", "ada@example.com", *chain(org))

        await asyncio.gather(*map(one, connections))

    async def a_second(work: Callable[[], Awaitable[object]]) -> float:
        began = time.perf_counter()
        await work()
        return number / (time.perf_counter() - began)

    async def audited() -> None:
        await write(INSERT.format(table="audited_customers"))
        await hold.audit.caught_up(timeout=600)

    try:
        await report.measure(
            WRITTEN,
            "writes/s",
            {
                "audited": lambda: a_second(audited),
                "unaudited": lambda: a_second(lambda: write(INSERT.format(table="plain_customers"))),
                "by hand, one chain": lambda: a_second(lambda: write(BY_HAND, chain=lambda org: ("all",))),
                "by hand, 200 chains": lambda: a_second(lambda: write(BY_HAND, chain=lambda org: (org,))),
            },
        )
    finally:
        for connection in connections:
            await connection.close()
    report.target("audited writes a second", report.median(WRITTEN, "audited"), at_least=A_SECOND)


async def _verified(report: Report, hold: Holdfast) -> None:
    async def verified() -> float:
        began = time.perf_counter()
        found = await hold.audit.verify()
        assert not found.faults, found.faults[:3]
        assert found.chains == TENANTS
        return found.records / (time.perf_counter() - began)

    await report.measure(VERIFY, "records/s", {"200 chains": verified}, rounds=3)
