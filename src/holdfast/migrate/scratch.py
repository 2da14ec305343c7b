"""An empty place like the database, for a while: to run migrations in and look at what comes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import StaticPool

from holdfast.store import Store

SCHEMA = "holdfast_scratch"
_EXTENSIONS = """
    SELECT DISTINCT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE n.nspname <> 'pg_catalog'
        AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm'))
"""


@asynccontextmanager
async def scratch(store: Store) -> AsyncIterator[AsyncConnection]:
    """A connection on which all tables are missing; whatever is made on it is gone at the end.

    On PostgreSQL it is a schema of its own in a transaction that is rolled back, beside the extensions that
    have a schema without tables; for SQLite and libSQL a database in memory.

    Raises:
        StoreError: the role may not create schemas.
    """
    if store.dialect == "sqlite":
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()
        return
    async with store.connect() as connection:
        try:
            await connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            # Not the application's schema: what a migration does not find in the scratch it would change there.
            others = (await connection.exec_driver_sql(_EXTENSIONS)).scalars()
            quote = connection.dialect.identifier_preparer.quote
            await connection.exec_driver_sql(f"SET LOCAL search_path = {', '.join([SCHEMA, *map(quote, others)])}")
            yield connection
        finally:
            await connection.rollback()
