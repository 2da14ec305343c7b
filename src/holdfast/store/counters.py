"""Buffered counters: how often a row was used, and when last, without a write for every use."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, Integer, Table, Update, and_, bindparam, func, inspect, select, text, update
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import ConfigurationError, Conflict, HoldfastError, InvalidValue
from holdfast.logs import get_logger
from holdfast.model import Model, UtcTime
from holdfast.store.cancellation import to_the_end
from holdfast.store.failures import is_connection_loss
from holdfast.store.keys import key_of
from holdfast.store.scope import ALL
from holdfast.store.store import Store

log = get_logger("holdfast.counters")

Change = int | dt.datetime
Row = dict[str, Change]  # what happened to the columns of one row

_BATCH = 5_000  # rows a transaction
_ACTOR = "counters"


class Counters:
    """Adds to columns of rows, and moves times forward, in memory first; one statement a table writes what came.

    What was added is written every `interval` seconds, when `size` rows wait, and by `close`. A process that is killed
    loses what it had not written: at most one interval of it, while the database takes writes. A write that fails is
    put back, and written with what comes later. Where the connection is lost during COMMIT nobody knows whether it
    happened: then it is **not** written again, so that nothing counts twice, and the log says so.

    Rows that are gone are left out, and the log says how many. Values that no column takes (a number that grows too
    large) cost their own row only. `capacity` rows may wait while the database is away; beyond that new ones are
    dropped, counted in `dropped`, and the log says so.

    The journal captures these writes as any other, with the actor `counters`. They leave `updated_at` and `version`
    alone: a row that is used is not edited. A key is enough: they do not ask whose the row is.

    Attributes:
        waiting: rows that wait to be written.
        dropped: uses that were given up, for the log's reasons.

    Example::

        async with Counters(store) as counters:
            counters.add(ApiKey, key.id)          # usage_count + 1
            counters.touch(ApiKey, key.id)        # last_used_at = now
    """

    def __init__(self, store: Store, *, interval: float = 1.0, size: int = 5_000, capacity: int = 100_000) -> None:
        if not interval > 0 or not 0 < size <= capacity:
            raise ConfigurationError(
                f"counters are written every interval={interval!r} > 0 seconds and at size={size!r} rows, from 1 to"
                f" capacity={capacity!r}"
            )
        self._store, self._interval, self._size, self._capacity = store, interval, size, capacity
        self._rows: dict[tuple[type[Model], Any], Row] = {}
        self._lock = threading.Lock()  # uses are counted from any thread
        self._writing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._regularly: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return len(self._rows)

    def add(
        self, model: type[Model], key: Any, column: str = "usage_count", by: int = 1, *, touching: str | None = None
    ) -> None:
        """Add `by` to a column of whole numbers, NULL counting as 0. Costs no statement; callable from any thread.

        Args:
            touching: a column of times that is moved forward to now along with it.

        Raises:
            InvalidValue: the model has no such column, it is of another kind, or `key` is none of the model's.
        """
        if type(by) is not int:
            raise InvalidValue(f"a counter is raised by a whole number, not by {by!r}")
        changes: Row = {_column(model, column, counts=True): by}
        if touching is not None:
            changes[_column(model, touching, counts=False)] = dt.datetime.now(dt.UTC)
        self._keep(model, key, changes)

    def touch(self, model: type[Model], key: Any, column: str = "last_used_at", at: dt.datetime | None = None) -> None:
        """Move a time forward to `at`, now unless given; one that is later already stays. As cheap as `add`.

        Raises:
            InvalidValue: as `add`; or `at` has no time zone.
        """
        if at is not None and at.tzinfo is None:
            raise InvalidValue("a time needs a time zone, as in datetime.now(UTC)")
        moment = dt.datetime.now(dt.UTC) if at is None else at.astimezone(dt.UTC)
        self._keep(model, key, {_column(model, column, counts=False): moment})

    def start(self) -> None:
        """Begin to write regularly, in this event loop."""
        if self._regularly is None:
            self._loop = asyncio.get_running_loop()
            self._regularly = self._loop.create_task(self._forever(), name="counters")
            if self._rows:
                self._some.set()

    async def flush(self) -> None:
        """Write what waits now.

        Raises:
            HoldfastError: it could not be written; it waits for the next time.
        """
        await to_the_end(self._flush())

    async def close(self) -> None:
        """Write what waits and end; what cannot be written is lost, and the log says how much."""
        self._closed = True
        regularly, self._regularly = self._regularly, None
        if regularly is not None:
            async with self._writing:  # not in the middle of a write
                regularly.cancel()
            await asyncio.gather(regularly, return_exceptions=True)
        try:
            await self.flush()
        except HoldfastError as error:
            with self._lock:
                lost, self._rows = len(self._rows), {}
            log.warning("counters_lost", rows=lost, reason=str(error))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _keep(self, model: type[Model], key: Any, changes: Row) -> None:
        if self._closed:
            raise ConfigurationError("these counters are closed; what is counted now would never be written")
        place = (model, key_of(model).parse(key))
        with self._lock:
            row = self._rows.get(place)
            is_new = row is None
            if row is None:
                if len(self._rows) >= self._capacity:
                    self._drop(1, "full")
                    return
                row = self._rows[place] = {}
            for column, change in changes.items():
                row[column] = merged(row.get(column), change)
            waiting = len(self._rows)
        if is_new and (waiting == 1 or waiting == self._size):  # to wake costs a system call
            self._wake(waiting >= self._size)

    def _drop(self, uses: int, reason: str) -> None:
        if not self.dropped or self.dropped // 10_000 != (self.dropped + uses) // 10_000:
            log.warning("counters_dropped", uses=self.dropped + uses, reason=reason)
        self.dropped += uses

    def _wake(self, many: bool) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it is closed by now, and `close` has written
                self._loop.call_soon_threadsafe(self._many.set if many else self._some.set)

    async def _forever(self) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._many.wait()
            self._some.clear()
            self._many.clear()
            try:
                await self._flush()
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                log.warning("counters_wait", rows=len(self._rows), reason=str(error))
                await asyncio.sleep(self._interval)
            if self._rows:
                self._some.set()

    async def _flush(self) -> None:
        async with self._writing:
            with self._lock:
                taken, self._rows = self._rows, {}
            by_table: dict[type[Model], list[tuple[Any, Row]]] = {}
            for (model, key), row in taken.items():
                by_table.setdefault(model, []).append((key, row))
            problem: Exception | None = None
            for model, rows in by_table.items():
                rows.sort(key=lambda item: item[0])
                for start in range(0, len(rows), _BATCH):
                    part = rows[start : start + _BATCH]
                    try:
                        await self._write(model, part)
                    except Exception as error:  # noqa: BLE001  the other tables have nothing to do with it
                        self._put_back(model, part)
                        problem = error
            if problem is not None:
                raise problem

    async def _write(self, model: type[Model], rows: list[tuple[Any, Row]]) -> None:
        """Write `rows` in one unit. What is raised says that none of them was written."""
        complete = False
        try:
            async with self._store.unit(actor=_ACTOR, tenant=ALL) as unit:
                with unit.translated():
                    written = await _send(await unit.connection(), model, rows)
                complete = True
        except (InvalidValue, Conflict) as error:
            if len(rows) == 1:
                self._drop(1, f"{model.__name__}: {error}")
                return
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                try:
                    await self._write(model, part)
                except Exception as again:  # noqa: BLE001
                    # The other half may be written: only this one is put back.
                    self._put_back(model, part)
                    log.warning("counters_wait", rows=len(part), reason=str(again))
            return
        except Exception as error:
            if complete and is_connection_loss(error):
                self._drop(len(rows), "the connection was lost during COMMIT")
                return
            raise
        if written < len(rows):
            log.info("counted_rows_are_gone", model=model.__name__, rows=len(rows) - written)

    def _put_back(self, model: type[Model], rows: list[tuple[Any, Row]]) -> None:
        with self._lock:
            for key, row in rows:
                newer = self._rows.setdefault((model, key), {})
                for column, change in row.items():
                    newer[column] = merged(newer.get(column), change)


def merged(one: Change | None, other: Change) -> Change:
    """Two changes of a column as one: numbers are added up, of times the later one stays. In any order the same."""
    if one is None:
        return other
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return max(one, other)


# Some hundred rows of some hundred thousand: PostgreSQL would rather read the whole table, which takes far longer.
_BY_KEY = text("SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)")


async def _send(connection: Any, model: type[Model], rows: Sequence[tuple[Any, Row]]) -> int:
    table: Table = model.__table__  # type: ignore[assignment]
    keys = key_of(model).columns
    names = tuple(sorted({name for _, row in rows for name in row}))
    counting = {name for name in names if not _is_time(table.c[name].type)}
    values = [
        {
            **{f"key_{n}": part for n, part in enumerate(key if len(keys) > 1 else (key,))},
            **{f"new_{name}": row.get(name, 0 if name in counting else None) for name in names},
        }
        for key, row in rows
    ]
    if connection.dialect.name == "sqlite":
        return int((await connection.execute(_one_by_one(table, keys, names), values)).rowcount)
    arrays = {f"{name}_": [row[name] for row in values] for name in values[0]}
    lock, statement = _from_arrays(table, keys, names)
    await connection.execute(_BY_KEY)
    # UPDATE locks rows in the order of its plan; two writers of the same rows must lock them in the same order.
    await connection.execute(lock, arrays)
    return int((await connection.execute(statement, arrays)).rowcount)


@lru_cache(maxsize=256)
def _one_by_one(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Update:
    """SQLite's: one prepared statement, run for each row in one transaction."""
    values: dict[str, Any] = _untouched(table)
    for name in names:
        column = table.c[name]
        new = bindparam(f"new_{name}", type_=column.type)
        if _is_time(column.type):
            values[name] = func.coalesce(func.max(func.coalesce(column, new), new), column)
        else:
            values[name] = func.coalesce(column, 0) + new
    where = [table.c[key] == bindparam(f"key_{n}", type_=table.c[key].type) for n, key in enumerate(keys)]
    return update(table).where(*where).values(values)


@lru_cache(maxsize=256)
def _from_arrays(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> tuple[Any, Update]:
    """PostgreSQL's: the rows locked in the order of their keys, and UPDATE … FROM one array a column."""
    given = {f"key_{n}": table.c[key].type for n, key in enumerate(keys)}
    given |= {f"new_{name}": table.c[name].type for name in names}
    arrays = (bindparam(f"{name}_", type_=ARRAY(kind, dimensions=1)) for name, kind in given.items())
    source = func.unnest(*arrays).table_valued(*given, name="given").render_derived()
    same = and_(*(table.c[key] == source.c[f"key_{n}"] for n, key in enumerate(keys)))
    columns = [table.c[key] for key in keys]
    lock = select(*columns).join(source, same).order_by(*columns).with_for_update(key_share=True, of=table)
    values: dict[str, Any] = _untouched(table)
    for name in names:
        new = source.c[f"new_{name}"]
        is_time = _is_time(table.c[name].type)
        values[name] = func.greatest(table.c[name], new) if is_time else func.coalesce(table.c[name], 0) + new
    return lock, update(table).where(same).values(values)


def _untouched(table: Table) -> dict[str, Any]:
    """What an update would set by itself, left as it is."""
    return {column.name: column for column in table.columns if column.onupdate is not None}


_columns: WeakKeyDictionary[type[Model], dict[tuple[str, bool], str]] = WeakKeyDictionary()


def _column(model: type[Model], name: str, *, counts: bool) -> str:
    known = _columns.setdefault(model, {})
    found = known.get((name, counts))
    if found is not None:
        return found
    attributes = {a.key: a.columns[0] for a in inspect(model).column_attrs}
    column = attributes.get(name)
    if column is None:
        raise InvalidValue(f"{model.__name__} has no column {name!r}; it has {', '.join(sorted(attributes))}")
    kind, wanted = (_is_count, "whole numbers") if counts else (_is_time, "times")
    if not kind(column.type) or column.primary_key or column.foreign_keys:
        raise InvalidValue(f"{model.__name__}.{name} is no column of {wanted} that counters can write")
    known[name, counts] = str(column.name)
    return str(column.name)


def _is_time(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind, UtcTime)


def _is_count(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind.impl_instance if isinstance(kind, TypeDecorator) else kind, Integer)
