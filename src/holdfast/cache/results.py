"""The third level: values that are kept for more than an hour lie in a table of the database too.

They outlive Redis and every process, and where there is no Redis all processes share them. As with Redis nobody trusts
them, and nothing fails because of them. The table belongs to no model, so what is written there is in no journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.cache import carried
from holdfast.cache.clock import boottime
from holdfast.cache.entry import Entry
from holdfast.cache.freshness import Freshness
from holdfast.cache.marks import Marks
from holdfast.cache.options import Options
from holdfast.cache.wire import LONGEST_BEGINNING, Codec, head_of
from holdfast.errors import HoldfastError, InvalidValue
from holdfast.logs import get_logger
from holdfast.model import Text
from holdfast.store import Store

log = get_logger("holdfast.cache")

FROM = 3_600.0  # seconds: what is kept for no longer is not worth a write
LARGEST = 2**20  # bytes of a value, as it is written

_ASKED = 500  # keys a statement
_MOST = 2_000  # entries that wait to be written
_PATIENCE = 1.0  # seconds for a look, after which the value is loaded
_WRITING = 10.0  # seconds for keeping, which nobody waits for
_PAUSE = 30.0  # seconds for which the table is left alone after a failure
_PRUNED_EVERY = 60.0  # seconds
_PRUNED = 1_000  # rows a statement

metadata = MetaData()
results = Table(
    "holdfast_results",
    metadata,
    Column("key", Text(), primary_key=True),  # with the version of its codec before it
    Column("data", LargeBinary(), nullable=False),
    Column("ends", BigInteger(), nullable=False, index=True),  # seconds since 1970
)

_LOOK = select(results.c.key, results.c.data).where(results.c.key.in_(bindparam("keys", expanding=True)))
_ENDED = (
    select(results.c.key).where(results.c.ends < bindparam("now")).order_by(results.c.ends).limit(bindparam("most"))
)


class Results:
    """The table of results, for one node."""

    def __init__(self, store: Store, marks: Marks) -> None:
        self._store = store
        self._marks = marks
        self._again = 0.0  # when it is asked again, after a failure
        self._prune_at = 0.0
        self._waiting: dict[str, tuple[Entry, Codec]] = {}
        self._is_writing = False
        # A row that another process is about to remove is left to it.
        self._prune = delete(results).where(
            results.c.key.in_(_ENDED.with_for_update(skip_locked=True) if store.dialect == "postgresql" else _ENDED)
        )

    def takes(self, options: Options) -> bool:
        """Whether values with these options are kept here, as far as that can be said before they are loaded."""
        return options.ttl > FROM and not options.skip_l3 and not options.skip_l2

    async def get(self, keys: list[str], codec: Codec) -> dict[str, Entry]:
        """The entries of `keys` that are there, by key; none where the database does not answer in time.

        They are read on a connection of their own, never in the snapshot of a unit.
        """
        start = f"{codec.version}:"
        found: dict[str, Entry] = {}

        async def look() -> None:
            async with self._store.connect() as connection:
                for first in range(0, len(keys), _ASKED):
                    names = [start + key for key in keys[first : first + _ASKED]]
                    rows = (await connection.execute(_LOOK, {"keys": names})).all()
                    now, clock = boottime(), time.time()
                    for name, data in rows:
                        if (entry := carried.read(bytes(data), codec, self._marks, now, clock)) is not None:
                            found[name[len(start) :]] = entry

        await self._asked(look, _PATIENCE)
        return found

    def keep(self, entries: Mapping[str, Entry], codec: Codec) -> bool:
        """Have entries written; whether somebody has to call `write` for it, which writes them all by one connection.

        Where more wait than can be written, the rest is not kept.
        """
        for key, entry in entries.items():
            if entry.epoch and entry.value is not None and len(self._waiting) < _MOST:
                self._waiting[f"{codec.version}:{key}"] = (entry, codec)
        return bool(self._waiting) and not self._is_writing

    async def write(self) -> None:
        """Write what waits, as far as it is not too large; now and then drop what has ended."""
        if self._is_writing:
            return
        self._is_writing = True
        try:
            while self._waiting:
                names = sorted(self._waiting)[:_ASKED]  # in one order, so that no two processes wait for one another
                rows = [row for name in names if (row := _row(name, *self._waiting.pop(name))) is not None]
                if rows:
                    await self._asked(partial(self._write, rows), _WRITING)
        finally:
            self._is_writing = False

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        statement: Any = (sqlite.insert if self._store.dialect == "sqlite" else postgresql.insert)(results)
        new = {"data": statement.excluded.data, "ends": statement.excluded.ends}
        async with self._store.connect(write=True) as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=new), rows)
        if (now := boottime()) >= self._prune_at:
            self._prune_at = now + _PRUNED_EVERY
            await self.prune()

    async def prune(self) -> int:
        """Drop what has ended; returns how much.

        Raises:
            Unavailable, StoreError: as the database says.
        """
        pruned = 0
        while True:
            async with self._store.connect(write=True) as connection:
                count = (await connection.execute(self._prune, {"now": int(time.time()), "most": _PRUNED})).rowcount
            pruned += count
            if count < _PRUNED:
                return pruned

    async def sweep(self, freshness: Freshness) -> int:
        """Drop what may never be served again; returns how much.

        Raises:
            Unavailable, StoreError: as the database says.
        """
        swept, last = 0, ""
        while True:
            begins = func.substr(results.c.data, 1, LONGEST_BEGINNING)
            page = select(results.c.key, begins).where(results.c.key > last).order_by(results.c.key).limit(_ASKED)
            async with self._store.connect() as connection:
                rows = (await connection.execute(page)).all()
            heads = ((key, head_of(bytes(data))) for key, data in rows)
            names = [key for key, head in heads if head and freshness.is_outdated(head.epoch, head.as_of, head.hashes)]
            if names:
                async with self._store.connect(write=True) as connection:
                    swept += (await connection.execute(delete(results).where(results.c.key.in_(names)))).rowcount
            if len(rows) < _ASKED:
                return swept
            last = rows[-1].key

    async def _asked(self, work: Callable[[], Awaitable[None]], patience: float) -> None:
        """Do `work`; where the database does not answer, leave it alone for a while, and the caller without."""
        if boottime() < self._again:
            return
        try:
            async with asyncio.timeout(patience):
                await work()
        except (HoldfastError, TimeoutError) as error:
            self._again = boottime() + _PAUSE
            log.warning("cache_results_away", reason=str(error) or type(error).__name__, pause=_PAUSE)


def _row(name: str, entry: Entry, codec: Codec) -> dict[str, Any] | None:
    now = boottime()
    try:
        data = carried.written(entry, codec, now)
    except InvalidValue as error:
        log.warning("cache_result_not_kept", key=name, reason=str(error))
        return None
    return {"key": name, "data": data, "ends": round(time.time() + entry.kept - now)} if len(data) <= LARGEST else None
