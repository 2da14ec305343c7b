"""The follower of the journal that turns what it has into records, and seals them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from holdfast.guard.audit.chain import Head, sealed
from holdfast.guard.audit.declaring import Rules
from holdfast.guard.audit.entries import Entry, Origin, entry_of, origin_of
from holdfast.guard.audit.keys import AuditKeys
from holdfast.guard.audit.private import Box
from holdfast.guard.audit.record import Record
from holdfast.guard.audit.tables import Tables
from holdfast.journal import Batch, Change
from holdfast.store import Unit

_REQUESTS = 10_000  # whose origin is remembered
_AT_ONCE = 100  # records made before others get a turn


class Sealing:
    """Seals batches, each in the unit that keeps how far the follower got: a record is there once, whoever is killed.

    Only the follower moves the ends of chains. One that lost its lease and does not know it yet waits for the new one's
    locks, and is undone by its fencing token.

    Args:
        rules: of the audited tables.
        box: encrypts what is private; without one it is left out.
    """

    def __init__(self, tables: Tables, rules: Mapping[str, Rules], keys: AuditKeys, box: Box | None) -> None:
        self._tables = tables
        self._rules = rules
        self._keys = keys
        self._box = box
        self._origins: OrderedDict[tuple[str, str | None], Origin] = OrderedDict()

    async def __call__(self, batch: Batch, unit: Unit) -> None:
        """Put the changes of a batch on record, in their order."""
        entries: list[Entry] = []
        for number, change in enumerate(batch.changes, 1):
            entries.append(entry_of(change, self._rules, self._origin_of(change)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        made = [entry.record for entry in entries] if self._box is None else await self._box.close(entries, unit)
        heads = await self._tables.lock_heads(unit, sorted({record.tenant for record in made}))
        records: list[Record] = []
        for number, record in enumerate(made, 1):
            placed = sealed(self._keys, record, heads.get(record.tenant, Head()))
            heads[record.tenant] = Head(placed.seq, placed.mac)
            records.append(placed)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._tables.append(unit, records, heads)

    def _origin_of(self, change: Change) -> Origin | None:
        """Where the request of a change came from, as it said itself before.

        It is known by its id and its actor: an id is what a client says, and may be another's.
        """
        if change.request is None:
            return None
        known = change.request, change.actor
        said = origin_of(change)
        if said is not None:
            self._origins[known] = said
            self._origins.move_to_end(known)
            if len(self._origins) > _REQUESTS:
                self._origins.popitem(last=False)
        return self._origins.get(known)
