"""Partitions of the months to come, for every model that is `Monthly`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.model import Model
from holdfast.store.partitions import Monthly, make_partitions, months


async def keep_partitions(connection: AsyncConnection, models: Iterable[type[Model]]) -> list[str]:
    """Make the partitions that are missing, in the connection's transaction; returns which. Nothing on SQLite.

    They are not captured yet: `journal.install` follows.
    """
    made: list[str] = []
    if connection.dialect.name != "postgresql":
        return made
    now = dt.datetime.now(dt.UTC)
    for model in models:
        monthly = model.__policy__.aspect(Monthly)
        if monthly is None:
            continue
        made += await make_partitions(connection, str(model.__tablename__), monthly.by, months(now, monthly.ahead))
    return made
