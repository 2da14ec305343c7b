"""The rows that are about a person, found, and erased some at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    and_,
    delete,
    literal,
    not_,
    null,
    or_,
    select,
    tuple_,
    update,
)

from holdfast.errors import InvalidValue
from holdfast.model import Encrypted, Model
from holdfast.operate.privacy.marks import Marks
from holdfast.operate.privacy.personal import Mentions, Personal, blank_of, blanked, subject_kind, table_of
from holdfast.store import Unit

BATCH = 500  # rows a transaction

Opened = Callable[[], AbstractAsyncContextManager[Unit]]
"""Opens a unit for all tenants."""


def personal_models(models: Iterable[type[Model]]) -> list[tuple[type[Model], Personal]]:
    """The models whose rows are about people, in their order."""
    found = ((model, model.__policy__.aspect(Personal)) for model in models)
    return [(model, personal) for model, personal in found if personal is not None]


def about(model: type[Model], personal: Personal, subject: str) -> ColumnElement[bool] | None:
    """The condition that a row is about this person; None where none can be, for his key is of another kind."""
    value = _key(subject_kind(model, personal.subject), subject)
    if value is None:
        return None
    return cast("ColumnElement[bool]", table_of(model).columns[personal.subject] == value)


def canonical_subject(models: Iterable[type[Model]], subject: object) -> str:
    """The key of a person as everything that is kept of him has it: a UUID in small letters with its hyphens.

    Raises:
        InvalidValue: it is none that could be kept.
    """
    text = str(subject)
    if not 0 < len(text) <= 255 or not text.isprintable():
        raise InvalidValue(f"a person is known by a key: 1 to 255 characters that can be seen, not {text[:60]!r}")
    kinds = {subject_kind(model, personal.subject) for model, personal in personal_models(models)}
    found = _key(UUID, text) if UUID in kinds else None
    return text if found is None else str(found)


def _key(kind: type[Any], text: str) -> Any:
    """A key of this kind from its text; None where it is none. A number is written in one way only."""
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if kind is UUID or str(value) == text else None


def rows_of(model: type[Model], personal: Personal, subject: str, *more: Column[Any]) -> Select[Any] | None:
    """Asks for the keys of a person's rows, in their order, and for more columns of them."""
    condition = about(model, personal, subject)
    keys = _keys(model)
    return None if condition is None else select(*keys, *more).where(condition).order_by(*keys)


async def find_marks(unit: Unit, models: Iterable[type[Model]], subject: str, marks: Marks) -> int:
    """Add what tells a person from others to `marks`; returns of how many rows, at least, he is known."""
    marks.add(subject)
    known = 0
    for model, personal in personal_models(models):
        table = table_of(model)
        asked = rows_of(model, personal, subject, *(table.columns[name] for name in personal.marks))
        if asked is None:
            continue
        if not personal.marks:
            known += len((await unit.execute(asked.limit(1))).all())
            continue
        async for row in pages(unit, table, asked):
            known += 1
            for name, value in zip(personal.marks, row[len(_keys(model)) :], strict=True):
                if value is not None and not await _is_anothers(unit, model, personal, subject, name, value):
                    marks.add(value)
    return known


async def _is_anothers(unit: Unit, model: type[Model], personal: Personal, subject: str, name: str, value: Any) -> bool:
    """Whether somebody else has the same value there, so that it tells neither from the other."""
    column = table_of(model).columns[name]
    his = about(model, personal, subject)
    if column.unique or his is None or isinstance(column.type, Encrypted):  # which is another text in each row
        return False
    asked = select(column).where(column == value, or_(his.is_(None), not_(his))).limit(1)
    return (await unit.execute(asked)).first() is not None


async def erase_rows(opened: Opened, models: Sequence[type[Model]], subject: str) -> Counter[str]:
    """Delete a person's rows, or blank what is private in them, as their models say; returns how many, by table.

    Those that refer to others go first. Each transaction takes some hundred rows.

    Raises:
        StoreError: the database refuses, for a row that refers to one of these.
    """
    done: Counter[str] = Counter()
    for model, personal in reversed(personal_models(models)):
        asked = rows_of(model, personal, subject)
        if asked is None or personal.erase == "keep":
            continue
        table = table_of(model)
        if personal.erase == "blank":
            done[table.name] += await _blank_rows(opened, model, personal, subject)
            continue
        while True:
            async with opened() as unit:
                found = (await unit.execute(asked.limit(BATCH))).all()
                if found:
                    gone: Any = await unit.execute(delete(table).where(_among(model, found)))
                    done[table.name] += gone.rowcount
            if len(found) < BATCH:
                break
    return +done


async def blank_mentions(opened: Opened, models: Sequence[type[Model]], marks: Marks) -> Counter[str]:
    """Blank the documents that speak of a person, of models that say `Mentions`; returns how many rows, by table.

    It reads these tables from end to end.
    """
    done: Counter[str] = Counter()
    for model in models:
        mentions = model.__policy__.aspect(Mentions)
        if mentions is None:
            continue
        table = table_of(model)
        documents = [table.columns[name] for name in mentions.columns]
        blanks = {name: blank_of(model, name) for name in mentions.columns}
        asked = select(*_keys(model), *documents).order_by(*_keys(model))
        async with aclosing(_pages(opened, model, asked)) as found:
            async for unit, rows in found:
                spoken = [row for row in rows if any(marks.among(_document(one)) for one in row[-len(documents) :])]
                done[table.name] += await _blank(unit, model, spoken, blanks)
    return +done


async def _blank_rows(opened: Opened, model: type[Model], personal: Personal, subject: str) -> int:
    columns = table_of(model).columns
    blanks = {name: blank_of(model, name) for name in blanked(model)}
    if columns[personal.subject].nullable:
        blanks[personal.subject] = None
    asked = rows_of(model, personal, subject, *(columns[name] for name in blanks))
    assert asked is not None
    done = 0
    async with aclosing(_pages(opened, model, asked)) as found:
        async for unit, rows in found:
            left = [row for row in rows if list(row[len(_keys(model)) :]) != list(blanks.values())]
            done += await _blank(unit, model, left, blanks)
    return done


async def _blank(unit: Unit, model: type[Model], rows: Sequence[Any], blanks: dict[str, Any]) -> int:
    if rows and blanks:
        table = table_of(model)
        # None in a JSON column would be JSON's null.
        emptied = {name: null() if value is None else value for name, value in blanks.items()}
        await unit.execute(update(table).where(_among(model, rows)).values(emptied))
    return len(rows) if blanks else 0


async def _pages(
    opened: Opened, model: type[Model], asked: Select[Any]
) -> AsyncGenerator[tuple[Unit, Sequence[Any]], None]:
    """Pages of rows behind one another, each with the unit in which it was read."""
    last: Any = None
    while True:
        async with opened() as unit:
            page = asked if last is None else asked.where(_behind(table_of(model), last))
            rows = (await unit.execute(page.limit(BATCH))).all()
            yield unit, rows
        if len(rows) < BATCH:
            return
        last = rows[-1]


async def pages(unit: Unit, table: Table, asked: Select[Any]) -> AsyncIterator[Any]:
    """The rows that `asked` gives, which are by the key of the table and begin with it, read some hundred at a time."""
    last: Any = None
    while True:
        page = asked if last is None else asked.where(_behind(table, last))
        rows = (await unit.execute(page.limit(BATCH))).all()
        for row in rows:
            yield row
        if len(rows) < BATCH:
            return
        last = rows[-1]


def _keys(model: type[Model]) -> list[Column[Any]]:
    return list(table_of(model).primary_key.columns)


def _among(model: type[Model], rows: Sequence[Any]) -> ColumnElement[bool]:
    keys = _keys(model)
    if len(keys) == 1:
        return keys[0].in_([row[0] for row in rows])
    return or_(*(and_(*(key == value for key, value in zip(keys, row, strict=False))) for row in rows))


def _behind(table: Table, row: Any) -> ColumnElement[bool]:
    """The condition that a key comes behind the one of `row`: one range of the index that a key is."""
    keys = list(table.primary_key.columns)
    bound = [literal(value, key.type) for value, key in zip(row, keys, strict=False)]
    return keys[0] > bound[0] if len(keys) == 1 else tuple_(*keys) > tuple_(*bound)


def _document(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
