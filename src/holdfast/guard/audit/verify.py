"""Verifying chains as they lie in the database, or in a file that was exported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

import msgspec

from holdfast.guard.audit.chain import Fault, Head, Verification
from holdfast.guard.audit.checkpoint import Checkpoint
from holdfast.guard.audit.keys import AuditKeys
from holdfast.guard.audit.record import Record
from holdfast.guard.audit.tables import Tables
from holdfast.store import Store

_TOLD = 500  # records between two calls of `progress`


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a verification.

    Attributes:
        chains, records: how many were looked at.
        faults: of each chain that is broken the first thing that is wrong.
        heads: the ends of the chains that are whole.
    """

    chains: int
    records: int
    faults: list[Fault]
    heads: dict[str, Head]


Progress = Callable[[int, int], None]


async def verify(
    store: Store,
    tables: Tables,
    keys: AuditKeys,
    *,
    tenant: str | None = None,
    known: Checkpoint | None = None,
    after: Checkpoint | None = None,
    progress: Progress = lambda chains, records: None,
) -> Verified:
    """Go along the chains, of one tenant or all, while others may write.

    Args:
        known: a checkpoint that the chains must agree with.
        after: a checkpoint before which nothing is looked at.
        progress: told of chains and records now and then.

    Raises:
        Unavailable: the database cannot be reached.
    """
    seen: set[str] = set()
    records, faults, heads = 0, [], {}
    expected = {} if known is None else known.heads
    begun = {} if after is None else after.heads

    def one(chain: str) -> Verification:
        return Verification(keys, chain, start=begun.get(chain), known=expected.get(chain))

    async for chain in _chains(store, tables, tenant, {**begun, **expected}):
        seen.add(chain)
        verification = one(chain)
        count = 0

        def looked(count_now: int) -> None:
            nonlocal count
            count = count_now
            if count % _TOLD == 0:
                progress(len(seen), records + count)  # noqa: B023  it is called before the next chain

        fault = await _along(store, tables, verification, looked)
        records += count
        if fault is not None:
            faults.append(fault)
        else:
            heads[chain] = verification.head
        progress(len(seen), records)
    return Verified(chains=len(seen), records=records, faults=faults, heads=heads)


async def _chains(store: Store, tables: Tables, tenant: str | None, expected: dict[str, Head]) -> AsyncIterator[str]:
    """Whose chains to verify: those that are there, then those that a checkpoint alone knows."""
    if tenant is not None:
        yield tenant
        return
    there = set()
    async for chain in tables.tenants(store):
        there.add(chain)
        yield chain
    for chain in expected:
        if chain not in there:
            yield chain


async def _along(store: Store, tables: Tables, chain: Verification, looked: Callable[[int], None]) -> Fault | None:
    """What is wrong with a chain; `looked` is told how many records were looked at, after each.

    Records and the head are committed together. So of a chain to which others write, the head that is read behind the
    records is never before them; and where it is further on, those up to it are there when they are looked for again.
    """
    count, wanted = 0, 0
    while True:
        async for record in tables.chain(store, chain.tenant, after=chain.head.seq):
            count += 1
            looked(count)
            if (fault := chain.take(record)) is not None:
                return fault
        if chain.head.seq < wanted:  # what the head knew is still not there
            return chain.end(Head(wanted))
        head = await tables.head(store, chain.tenant)
        if head.seq <= chain.head.seq:
            return chain.end(head)
        wanted = head.seq


def verify_exported(records: Iterable[Record], keys: AuditKeys, *, known: Checkpoint | None = None) -> Verified:
    """Verify records that lie one chain after the other, each from its beginning: what was exported whole.

    A chain of which the end is missing is known by a checkpoint alone.
    """
    chains: dict[str, Verification] = {}
    faults: dict[str, Fault] = {}
    count = 0
    expected = {} if known is None else known.heads
    for record in records:
        count += 1
        chain = chains.setdefault(record.tenant, Verification(keys, record.tenant, known=expected.get(record.tenant)))
        if record.tenant not in faults and (fault := chain.take(record)) is not None:
            faults[record.tenant] = fault
    for tenant in expected:
        chains.setdefault(tenant, Verification(keys, tenant, known=expected[tenant]))
    for tenant, chain in chains.items():
        if tenant not in faults and (fault := chain.end(chain.head)) is not None:
            faults[tenant] = fault
    heads = {tenant: chain.head for tenant, chain in chains.items() if tenant not in faults}
    return Verified(chains=len(chains), records=count, faults=list(faults.values()), heads=heads)
