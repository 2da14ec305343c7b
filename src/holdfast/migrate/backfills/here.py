"""A backfill as part of somebody's transaction: on SQLite, in a scratch, and where a migration is taken back whole."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import MigrationError
from holdfast.migrate.backfills.asked import Asked
from holdfast.migrate.backfills.place import prepare
from holdfast.migrate.backfills.source import Key


async def backfill_here(connection: AsyncConnection, asked: Asked) -> None:
    """Do it all in the transaction of `connection`.

    Raises:
        MigrationError: a row is refused, or others hold rows, for which a transaction that locks more must not wait.
    """
    versioned = connection.dialect.name != "sqlite" and asked.work.reads
    last: Key | None = None
    while rows := (await connection.execute(asked.source.page(last, asked.batch, versions=versioned))).all():
        batch = prepare(asked, rows, versioned=versioned, stops=True)
        written = await asked.work.write(connection, batch.items) if batch.items else None
        held = len(batch.items) - len(written.keys) if written is not None else 0
        if held:
            raise MigrationError(
                f"{held} rows of {asked.source.table.name} are held by others, and this migration is one transaction;"
                " try again, or say transactional = False in it, so that its backfill goes batch by batch"
            )
        last = batch.keys[-1]
