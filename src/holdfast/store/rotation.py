"""Rotation of encryption keys: what is under an older key is encrypted anew, a batch a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Table, and_, func, literal, or_, select, tuple_, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.errors import InvalidValue
from holdfast.model import Model
from holdfast.model.encrypted import BLIND, Blinded, encrypted_columns, ring_of
from holdfast.model.keyring import header_of
from holdfast.store.store import Store

BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """How far the rotation of one table is.

    Attributes:
        table: its name.
        rows: rows encrypted anew so far.
        done: whether nothing of the table is under an older key, but for rows that are unreadable, or are written
            meanwhile with a ring whose first key is another.
        unreadable: rows that were left as they are: the key of each, and why.
    """

    table: str
    rows: int
    done: bool
    unreadable: tuple[tuple[str, str], ...] = ()


async def rotate(
    store: Store,
    models: Iterable[type[Model]],
    *,
    batch: int = BATCH,
    progress: Callable[[Rotated], None] | None = None,
) -> list[Rotated]:
    """Encrypt anew, under the first key of the ring, what is under another, and its blind indexes; of every tenant.

    Each batch is a transaction of its own, so an interrupted rotation goes on where it was when it is called again. A
    row that is written meanwhile is left as it is written. Versions and times of rows stay; the journal carries the
    rows' keys as updated.

    Returns:
        A line for each table with encrypted columns.

    Raises:
        ConfigurationError: a key is missing.
    """
    if batch < 1:
        raise InvalidValue(f"a batch has at least 1 row, not {batch}")
    return [
        await _rotate_table(store, model.__table__, batch, progress)  # type: ignore[arg-type]
        for model in models
        if list(encrypted_columns(model.__table__))
    ]


async def count_by_key(store: Store, models: Iterable[type[Model]]) -> dict[str, dict[str, int]]:
    """How many values each encrypted column has under each key of the ring, by `table.column` and key id.

    What is under a key that the ring does not have, or is not encrypted, is counted as "other".
    """
    ids = ring_of(store.engine.dialect).ids
    columns = {f"{m.__tablename__}.{column.name}": column for m in models for column in encrypted_columns(m.__table__)}
    async with store.connect() as connection:
        return {place: await count_column(connection, column, ids) for place, column in columns.items()}


async def count_column(
    connection: AsyncConnection, column: ColumnElement[Any], ids: Sequence[str], *of: ColumnElement[bool]
) -> dict[str, int]:
    """How many values of one column, of those rows that are meant, are under each of these keys, and under "other"."""
    raw = type_coerce(column, LargeBinary())
    counts = [func.count().filter(_begins(raw, name)) for name in ids]
    row = (await connection.execute(select(func.count(raw), *counts).where(*of))).one()
    found: dict[str, int] = dict(zip(ids, row[1:], strict=True))
    if other := row[0] - sum(row[1:]):
        found["other"] = other
    return found


async def _rotate_table(store: Store, table: Table, batch: int, progress: Callable[[Rotated], None] | None) -> Rotated:
    ring = ring_of(store.engine.dialect)
    columns = list(encrypted_columns(table))
    raws = [type_coerce(column, LargeBinary()) for column in columns]
    outdated = or_(*(and_(raw.is_not(None), ~_begins(raw, ring.ids[0])) for raw in raws))
    key = list(table.primary_key.columns)
    found = select(*key, *(raw.label(f"raw_{number}") for number, raw in enumerate(raws))).where(outdated)
    found = found.order_by(*key).limit(batch)
    last: tuple[Any, ...] | None = None
    rows = 0
    unreadable: list[tuple[str, str]] = []
    while True:
        after = found
        if last is not None:
            after = found.where(tuple_(*key) > tuple_(*(literal(v, c.type) for v, c in zip(last, key, strict=True))))
        async with store.connect(write=True) as connection:
            part = (await connection.execute(after)).all()
            for row in part:
                values, olds = row[: len(key)], row[len(key) :]
                statement = table.update().where(
                    *(column == value for column, value in zip(key, values, strict=True)),
                    # What was written since it was read is newer.
                    *(raw.is_not_distinct_from(old) for raw, old in zip(raws, olds, strict=True)),
                )
                new: dict[str, Any] = {c.name: c for c in table.columns if c.onupdate is not None}
                try:
                    for column, old in zip(columns, olds, strict=True):
                        if old is not None:
                            plain = column.type.process_result_value(old, connection.dialect)
                            new[column.name] = plain
                            if column.type.blind:
                                new[f"{column.name}{BLIND}"] = Blinded(plain)
                except InvalidValue as error:  # one row must not keep all others under a key that is to go
                    unreadable.append((", ".join(map(str, values)), str(error)))
                    continue
                rows += (await connection.execute(statement.values(**new))).rowcount
        if part:
            last = tuple(part[-1][: len(key)])
        done = len(part) < batch
        state = Rotated(table=str(table.name), rows=rows, done=done, unreadable=tuple(unreadable))
        if progress is not None:
            progress(state)
        if state.done:
            return state


def _begins(raw: Any, name: str) -> Any:
    header = header_of(name)
    return func.substr(raw, 1, len(header), type_=LargeBinary()) == header
