"""The tables of the trail, and what is asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, Table, func, select, union_all

from holdfast.errors import ConfigurationError
from holdfast.guard.audit.chain import Head
from holdfast.guard.audit.columns import AuditColumns, AuditHeadColumns
from holdfast.guard.audit.record import Record
from holdfast.store import Store, Unit, copying
from holdfast.store.bulk import write

PAGE = 2_000  # records a statement

_FIELDS = Record.__struct_fields__


class Tables:
    """The table of the records and that of the ends of their chains."""

    def __init__(self, records: Table, heads: Table) -> None:
        self.records = records
        self.heads = heads

    @classmethod
    def of(cls, models: Iterable[type[Any]]) -> Tables | None:
        """Those of the models that mix in `AuditColumns` and `AuditHeadColumns`; None where there are none.

        Raises:
            ConfigurationError: there are several, or one without the other.
        """
        known = list(models)
        records = [model for model in known if issubclass(model, AuditColumns)]
        heads = [model for model in known if issubclass(model, AuditHeadColumns)]
        if not records and not heads:
            return None
        if len(records) != 1 or len(heads) != 1:
            names = ", ".join(model.__name__ for model in (*records, *heads))
            raise ConfigurationError(
                f"the audit trail wants one model with AuditColumns and one with AuditHeadColumns, not {names}"
            )
        found: tuple[Any, Any] = records[0], heads[0]
        return cls(found[0].__table__, found[1].__table__)

    async def lock_heads(self, unit: Unit, tenants: Iterable[str]) -> dict[str, Head]:
        """The ends of these chains, which nobody else moves until the unit ends; of new ones there is none."""
        columns = self.heads.c
        asked = (
            select(columns.tenant, columns.seq, columns.mac)
            .where(columns.tenant.in_(list(tenants)))
            .order_by(columns.tenant)
            .with_for_update()
        )
        connection = await unit.connection()
        with unit.translated():
            return {row.tenant: Head(row.seq, row.mac) for row in await connection.execute(asked)}

    async def append(self, unit: Unit, records: Sequence[Record], heads: dict[str, Head]) -> None:
        """Add `records`, and move the ends of their chains to `heads`."""
        connection = await unit.connection()
        added = [msgspec.structs.asdict(record) for record in records]
        moved = [{"tenant": tenant, "seq": head.seq, "mac": head.mac} for tenant, head in heads.items()]
        with unit.translated():
            if copying.fits(connection.dialect, self.records, added):
                await copying.copy(connection, self.records, added)
            else:
                await write(connection, self.records, added)
            await write(connection, self.heads, moved, (("tenant",), ("seq", "mac")))

    async def head(self, store: Store, tenant: str) -> Head:
        """The end of a chain; of none the beginning."""
        columns = self.heads.c
        row: Any = await _first(store, select(columns.seq, columns.mac).where(columns.tenant == tenant))
        return Head() if row is None else Head(row.seq, row.mac)

    async def is_empty(self, store: Store) -> bool:
        """Whether nothing was put on record yet."""
        return await _first(store, select(self.heads.c.tenant).limit(1)) is None

    async def tenants(self, store: Store) -> AsyncIterator[str]:
        """Whose chains there are, by records or by heads, in order."""
        row: Any = await _first(store, self.next_tenant(None))
        while row is not None and row[0] is not None:
            yield row[0]
            row = await _first(store, self.next_tenant(row[0]))

    async def chain(self, store: Store, tenant: str, *, after: int = 0) -> AsyncIterator[Record]:
        """The records of a chain behind a place, in order."""
        found: list[Any] = [None] * PAGE
        while len(found) == PAGE:
            found = await _all(store, self.page(tenant, after))
            for row in found:
                yield Record(**dict(zip(_FIELDS, row, strict=True)))
                after = row.seq

    def next_tenant(self, last: str | None) -> Select[Any]:
        """Asks for the first tenant, or the first behind another: the ends of two indexes."""
        asked = []
        for column in (self.records.c.tenant, self.heads.c.tenant):
            least = select(func.min(column).label("tenant"))
            asked.append(least if last is None else least.where(column > last))
        return select(func.min(union_all(*asked).subquery().c.tenant))

    def page(self, tenant: str, after: int) -> Select[Any]:
        """Asks for the next records of a chain: a stretch of the key."""
        columns = self.records.c
        asked = select(*(columns[name] for name in _FIELDS)).where(columns.tenant == tenant, columns.seq > after)
        return asked.order_by(columns.seq).limit(PAGE)


async def _all(store: Store, asked: Select[Any]) -> list[Any]:
    async with store.connect() as connection:
        return list((await connection.execute(asked)).all())


async def _first(store: Store, asked: Select[Any]) -> Any:
    async with store.connect() as connection:
        return (await connection.execute(asked)).first()
