"""`python -m torture.audit_sealer ORDER`: a process that seals, meant to be killed. It ends with its standard input."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import msgspec

from holdfast import ALL, Holdfast, logs
from holdfast.errors import StoreError
from holdfast.guard.audit.sealing import Sealing
from holdfast.guard.subject_keys import SubjectKey, SubjectKeys
from holdfast.journal import Batch
from holdfast.settings import Settings
from torture.audit_models import metadata

LEASE = 0.6  # seconds; whoever takes over from one that was killed waits for so long
GAP = 1.0  # seconds between the two transactions of the planted fault
FORGETS = 20  # of so many changes the forgetful one leaves one out


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealer is told: the database, the keys, and the planted fault."""

    url: str
    audit_keys: str
    encryption_keys: str
    plant: str | None = None


def settings_of(order: Order) -> Settings:
    """Those of every process of the run."""
    return Settings(
        database_url=order.url, audit_keys=order.audit_keys, encryption_keys=order.encryption_keys, start_timeout=30
    )


def made(order: Order) -> Holdfast:
    """A data layer whose leases are short."""
    hold = Holdfast(settings_of(order), metadata=metadata)
    hold.journal._leases.ttl = LEASE
    return hold


def plant(fault: str | None) -> None:
    """Plant a fault in whoever seals here."""
    real: Any = Sealing.__call__
    patched: Any = Sealing

    if fault == "apart":  # the effect in a transaction, how far it got in another

        async def apart(self: Sealing, batch: Batch, unit: Any) -> None:
            async with unit.store.unit(tenant=ALL) as own:
                await real(self, batch, own)
            await asyncio.sleep(GAP)

        patched.__call__ = apart
    elif fault == "forgetful":  # a change is left out now and then

        async def forgetful(self: Sealing, batch: Batch, unit: Any) -> None:
            kept = [change for change in batch.changes if change.seq % FORGETS]
            await real(self, Batch(kept, batch.position), unit)

        patched.__call__ = forgetful
    elif fault == "keyless":  # as if keys that are made in a transaction were used beyond it
        of: Any = SubjectKeys.of

        async def own(self: SubjectKeys, unit: Any, subjects: Any, *, make: bool) -> dict[str, SubjectKey | None]:
            return {
                subject: SubjectKey(subject, os.urandom(32)) for subject in await of(self, unit, subjects, make=make)
            }

        SubjectKeys.of = own  # type: ignore[method-assign]


async def main(order: Order) -> None:
    """Seal until the end of standard input, through a database that is gone for a while."""
    plant(order.plant)
    while True:
        hold = made(order)
        try:
            await hold.start(migrate=False, follow=True)
            break
        except StoreError as error:
            print(f"not yet: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.2)
    await asyncio.to_thread(sys.stdin.read)
    await hold.close()


if __name__ == "__main__":
    logs.show(sys.stderr, logging.WARNING)
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Order)))
