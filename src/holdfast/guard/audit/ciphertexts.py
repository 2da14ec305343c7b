"""Under which keys the private parts of records are: they are never encrypted anew, for seals cover the ciphertext."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import LargeBinary, func

from holdfast.guard.audit.tables import Tables
from holdfast.model.keyring import begins_with
from holdfast.store import Store
from holdfast.store.rotation import count_column


async def count_by_key(store: Store, tables: Tables, ids: Sequence[str]) -> dict[str, int]:
    """How many records have a private part under each of these keys of encrypted columns, and under "other" ones.

    What is under the keys of people is not counted: those are rotated by themselves. It reads the whole
    trail.
    """
    sealed = tables.records.c.sealed
    mark = begins_with()
    async with store.connect() as connection:
        is_ours = func.substr(sealed, 1, len(mark), type_=LargeBinary()) == mark
        return await count_column(connection, sealed, ids, is_ours)
