"""Some of what a backfill wrote, to be looked at again in the end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.migrate.backfills.source import Key, Source
from holdfast.migrate.backfills.writing import Item

_MOST = 100
_OF_A_BATCH = 2


class Sample:
    """Rows at random, with the values that they were given."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: list[tuple[Key, Mapping[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def remember(self, items: Sequence[Item], written: set[Key]) -> None:
        """Keep some of the rows of a batch that were written."""
        chosen = random.sample(items, min(_OF_A_BATCH, len(items)))
        self._rows += [(item.key, item.values) for item in chosen if item.key in written]
        if len(self._rows) > 2 * _MOST:
            self._rows = random.sample(self._rows, _MOST)

    async def differing(self, connection: AsyncConnection) -> int:
        """How many of the rows have other values now."""
        table, found = self._source.table, 0
        for key, values in self._rows:
            is_it = [column == value for column, value in zip(self._source.key, key, strict=True)]
            row = (await connection.execute(select(*(table.c[name] for name in values)).where(*is_it))).first()
            found += row is None or list(row) != list(values.values())
        return found
