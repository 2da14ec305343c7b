"""Tables in partitions: made, migrated, captured, and indexed without blocking."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Index, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import Holdfast, KeyedModel, Monthly, Policy, uuid7
from holdfast.errors import InvalidValue
from holdfast.migrate import inspection, writer
from holdfast.model import NAMING
from holdfast.store import Store
from holdfast.store.partitions import months
from tests.backends import settings_for
from tests.migrate.versions import migrations

NOW = dt.datetime.now(dt.UTC)


@cache
def usage() -> MetaData:
    class Base(KeyedModel):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class Usage(Base):
        __tablename__ = "usage"
        __policy__ = Policy(Monthly("at", ahead=2))
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
        at: Mapped[dt.datetime] = mapped_column(primary_key=True)
        what: Mapped[str]

    return Base.metadata


@cache
def indexed() -> MetaData:
    class Base(KeyedModel):
        __abstract__ = True
        metadata = MetaData(naming_convention=NAMING)

    class IndexedUsage(Base):
        __tablename__ = "usage"
        __policy__ = Policy(Monthly("at", ahead=2))
        __table_args__ = (Index("ix_usage_what", "what"),)
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
        at: Mapped[dt.datetime] = mapped_column(primary_key=True)
        what: Mapped[str]

    return Base.metadata


async def test_rows_of_every_month_land_in_its_partition_and_in_the_journal(database_url: str) -> None:
    async with await Holdfast.open(settings=settings_for(database_url), metadata=usage(), migrate=True) as hold:
        [model] = hold.models
        position = await hold.journal.make_tick()
        moments = [dt.datetime.fromisoformat(month.begin()) for month in months(NOW, 2)]
        async with hold.unit() as unit:
            await unit[model].add_many([{"at": at, "what": "x"} for at in moments])
        changes = [
            change
            async for page in hold.journal.read(position, await hold.journal.make_tick())
            for change in page.changes
        ]
        assert len(changes) == len(moments) == 4
        if hold.store.dialect == "postgresql":
            async with hold.read() as unit:
                parted = (await unit.execute("SELECT count(DISTINCT tableoid) FROM usage")).scalar()
            assert parted == 4
            with pytest.raises(InvalidValue, match="no partition"):
                async with hold.unit() as unit:
                    await unit[model].add_many([{"at": NOW + dt.timedelta(days=400), "what": "x"}])
        assert not await hold.pending()


async def test_migrations_make_partitions_and_do_not_take_them_for_tables_of_their_own(
    store: Store, folder: Path
) -> None:
    begun = migrations(store, folder, usage())
    [path] = (await writer.write_new(begun, "Begin")).paths
    assert "op.create_partitions('usage', by='at', ahead=2)" in path.read_text()
    await begun.up()
    assert await inspection.undeclared(begun) == []
    assert await inspection.drift(begun) == []
    assert await inspection.irreversible(begun) == []
    grown = migrations(store, folder, indexed())
    await writer.write_new(grown, "Index")
    await grown.up()
    assert await inspection.drift(grown) == []
    if store.dialect == "postgresql":
        async with store.read() as unit:
            sql = "SELECT count(*), bool_and(indisvalid) FROM pg_index JOIN pg_class ON oid = indexrelid"
            found = (await unit.execute(f"{sql} WHERE relname LIKE '%ix_usage_what'")).one()
        assert tuple(found) == (5, True)
    await grown.down(to="base")
    assert await inspection.drift(grown) == []


async def test_months_to_come_are_made_when_migrations_run_again(postgres: Store, folder: Path) -> None:
    runner = migrations(postgres, folder, usage())
    await writer.write_new(runner, "Begin")
    await runner.up()
    [*_, last] = months(NOW, 2)
    name = f"usage_{last.year:04d}_{last.number:02d}"
    async with postgres.unit() as unit:
        await unit.execute(f"DROP TABLE {name}")
    await runner.up()
    async with postgres.read() as unit:
        found = await unit.execute(f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{name}'::regclass")
        assert found.scalar() == 4
