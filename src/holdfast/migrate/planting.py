"""Rows that are to be there: inserted once, brought to what they should be, and otherwise left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint, Uuid, inspect, select, tuple_

from holdfast.errors import InvalidValue
from holdfast.model import Model, SoftDeleted
from holdfast.store import Query, Unit

_NAMESPACE = UUID("6f1c2a5e-7a39-5c0e-9a55-3d8f0f1d9f02")
_CHUNK = 500  # keys a statement
_PART = 5_000  # rows between two words about progress


class Planted(msgspec.Struct, kw_only=True):
    """What came of planting rows.

    Attributes:
        rows: every row that was asked for, with the `id` that it has in the database.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rows: list[dict[str, Any]] = []

    @property
    def keys(self) -> list[Any]:
        """The `id` of every row, in the order in which they were given."""
        return [row["id"] for row in self.rows]


def stable_id(model: type[Model], **natural: Any) -> UUID:
    """The id of the row with this natural key: the same on every machine and in every run."""
    told = [model.__tablename__, *(f"{name}={natural[name]}" for name in sorted(natural))]
    return uuid5(_NAMESPACE, "\0".join(told))


async def plant(
    unit: Unit, model: type[Model], rows: Iterable[Mapping[str, Any]], *, on: Sequence[str], told: Any = None
) -> Planted:
    """Have these rows be in the table. Planting the same again writes nothing, so the journal gets nothing.

    A row that is new gets an `id` made of its natural key, unless it gives one; one that is there keeps its own. One
    that was deleted softly stays deleted.

    Args:
        on: the natural key: the columns of a unique constraint, or of the key.
        told: called with the number of rows done.

    Raises:
        InvalidValue: `on` is no unique key, a row does not give it, or two rows have the same one.
    """
    _check_unique(model, on)
    planted = Planted(rows=[])
    seen: set[Any] = set()
    given = iter(rows)
    while part := list(islice(given, _PART)):
        await _plant(unit, model, [dict(row) for row in part], tuple(on), planted, seen)
        if told is not None:
            told(len(part))
    return planted


async def _plant(
    unit: Unit, model: type[Model], rows: list[dict[str, Any]], on: tuple[str, ...], planted: Planted, seen: set[Any]
) -> None:
    wanted: dict[Any, dict[str, Any]] = {}
    for row in rows:
        if missing := [name for name in on if row.get(name) is None]:
            raise InvalidValue(f"a row for {model.__name__} does not give {missing[0]!r}, which on=… names")
        key = tuple(row[name] for name in on)
        if key in seen:
            raise InvalidValue(f"two rows for {model.__name__} have {dict(zip(on, key, strict=True))!r}")
        seen.add(key)
        wanted[key] = row
    there = await _there(unit, model, wanted, on)
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    keys = _key_names(model)
    has_id = "id" in inspect(model).column_attrs and isinstance(model.__table__.c["id"].type, Uuid)
    for key, row in wanted.items():
        found = there.get(key)
        if found is None:
            if has_id and "id" not in row:
                row["id"] = stable_id(model, **dict(zip(on, key, strict=True)))
            new.append(row)
            continue
        if has_id:
            row["id"] = found["id"]
        differs = any(found[name] != value for name, value in row.items())
        if differs and found.get("deleted_at") is None:
            changed.append(row)
        else:
            planted.unchanged += 1
    if new:
        planted.inserted += await unit[model].add_many(new)
    for row in changed:
        found = there[tuple(row[name] for name in on)]
        values = {name: value for name, value in row.items() if found[name] != value}
        await unit[model].update(found[keys[0]] if len(keys) == 1 else tuple(found[k] for k in keys), **values)
    planted.updated += len(changed)
    planted.rows += rows


def _key_names(model: type[Model]) -> list[str]:
    """The attributes of the key."""
    return [str(inspect(model).get_property_by_column(column).key) for column in inspect(model).primary_key]


async def _there(
    unit: Unit, model: type[Model], wanted: Mapping[Any, Mapping[str, Any]], on: tuple[str, ...]
) -> dict[Any, dict[str, Any]]:
    """The rows with these natural keys that are there, with every column that was given."""
    query: Query[Any] = Query(model)
    if issubclass(model, SoftDeleted):
        query = query.with_deleted()
    keys = _key_names(model)
    deleted = ["deleted_at"] if issubclass(model, SoftDeleted) else []
    names = list(dict.fromkeys([*on, *keys, *deleted, *(name for row in wanted.values() for name in row)]))
    columns = [query.column(name) for name in names]
    natural = [query.column(name) for name in on]
    found: dict[Any, dict[str, Any]] = {}
    for part in _parts(list(wanted)):
        among = natural[0].in_([key[0] for key in part]) if len(on) == 1 else tuple_(*natural).in_(part)
        for row in await unit.execute(query.filtered(select(*columns)).where(among)):
            values = dict(zip(names, row, strict=True))
            found[tuple(values[name] for name in on)] = values
    return found


def _check_unique(model: type[Model], on: Sequence[str]) -> None:
    table: Table = model.__table__  # type: ignore[assignment]
    query: Query[Any] = Query(model)
    columns = {str(query.column(name).expression.name) for name in on}
    tenant = model.__policy__.tenant
    keys = [c.columns for c in table.constraints if isinstance(c, UniqueConstraint | PrimaryKeyConstraint)]
    keys += [index.columns for index in table.indexes if index.unique]
    unique = [{str(column.name) for column in key} for key in keys]
    if columns not in unique and (columns | {tenant} not in unique):
        known = "; ".join(sorted(", ".join(sorted(one)) for one in unique)) or "none"
        raise InvalidValue(
            f"on={tuple(on)!r} is no unique key of {model.__name__}, so that planting twice could make two rows; its"
            f" unique keys: {known}"
        )


def _parts(keys: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
