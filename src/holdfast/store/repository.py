"""`Repository`: the rows of one model in one unit."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, Select, delete, func, literal_column, select, update

from holdfast.errors import Conflict, InvalidValue, NotFound
from holdfast.model import Attributed, Model, SoftDeleted, Versioned
from holdfast.model.encrypted import blinded
from holdfast.store import bulk
from holdfast.store.differing import differing
from holdfast.store.keys import key_of
from holdfast.store.pages import Cursors, Page, beyond, keyset_orders, place
from holdfast.store.query import Query, order_terms, shown, whole
from holdfast.store.scope import DELETED

if TYPE_CHECKING:
    from holdfast.store.unit import Unit

M = TypeVar("M", bound=Model)

PAGE_SIZE = 50
PAGE_LIMIT = 1_000  # rows a page may ask for: what comes from outside is bounded
_LAST_PAGE = 10**9  # so that the rows before it are a number that every backend takes
_OR_LIST = 200  # keys of several columns a statement: SQLite takes expressions of depth 1,000
_IN_LIST = 500  # keys a statement: well under every backend's limit of parameters


class Repository(Generic[M]):
    """Read and write the rows of `model`. Made by `unit[Model]`."""

    __slots__ = ("_key", "model", "unit")

    def __init__(self, unit: Unit, model: type[M]) -> None:
        self.unit = unit
        self.model = model
        self._key = key_of(model)

    def query(self) -> Query[M]:
        """All rows, to be narrowed."""
        return Query(self.model)

    async def get(self, key: Any, *, include: Sequence[str] = ()) -> M:
        """The row with this key: a UUID or its text; of a model with another key its value, a tuple or a dictionary.

        Raises:
            NotFound: there is none, it is another tenant's, or it is deleted. InvalidValue: it is no key.
        """
        row = await self.find(key, include=include)
        if row is None:
            raise NotFound(f"there is no {self.model.__name__} with the key {key}")
        return row

    async def find(self, key: Any, *, include: Sequence[str] = ()) -> M | None:
        """The row with this key, or None. A row that this unit has read already costs no statement."""
        key = self._key.parse(key)
        if include:  # as a statement: the session's own `get` leaves a row it holds without them
            options = self.query().include(*include).options()
            statement = select(self.model).where(self._key.equals(key)).options(*options)
            return (await self.unit.execute(statement)).scalars().first()
        with self.unit.translated():
            row = await self.unit.session.get(self.model, key)
        # What the session holds it gives without asking.
        if isinstance(row, SoftDeleted) and row.deleted_at is not None:
            return None
        return row

    async def get_many(self, keys: Iterable[Any], *, include: Sequence[str] = ()) -> dict[Any, M]:
        """The rows that exist among `keys`, by key, in the order of `keys`; a key of several columns is a tuple."""
        wanted = list(dict.fromkeys(map(self._key.parse, keys)))
        options = self.query().include(*include).options()
        found: dict[Any, M] = {}
        step = _IN_LIST if len(self._key.names) == 1 else _OR_LIST
        for start in range(0, len(wanted), step):
            part = wanted[start : start + step]
            statement = select(self.model).where(self._key.among(part)).options(*options)
            for row in (await self.unit.execute(statement)).scalars():
                found[self._key.of(row)] = row
        return {key: found[key] for key in wanted if key in found}

    async def first(self, query: Query[M]) -> M | None:
        """The first row of the query, or None."""
        query = self._mine(query)
        at_most = 1 if query.at_most is None else min(1, query.at_most)
        return (await self.unit.execute(query.limit(at_most).build())).scalars().first()

    async def list(self, query: Query[M] | None = None) -> list[M]:
        """All rows of the query, in memory: bound it with `limit`, or use `page` or `stream`."""
        return list((await self.unit.execute(self._mine(query).build())).scalars())

    async def count(self, query: Query[M] | None = None) -> int:
        """How many rows the query has, its limit and offset left aside."""
        return cast(int, (await self.unit.execute(self._counting(self._mine(query)))).scalar_one())

    async def exists(self, query: Query[M] | None = None) -> bool:
        """Whether the query has a row."""
        statement = self._mine(query).filtered(select(literal_column("1")).select_from(self.model)).limit(1)
        return (await self.unit.execute(statement)).first() is not None

    async def page(
        self,
        query: Query[M] | None = None,
        *,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        number: int | None = None,
        total: bool = False,
    ) -> Page[M]:
        """One page of the query in its order, the key breaking ties: by cursor, or by number.

        A page by cursor costs the same wherever it is; one by number makes the database read all rows before it, and
        rows written meanwhile move it. What is found by a search comes by number while its order is relevance, which
        is no place to go on from: such a page has no `next`.

        Args:
            limit: rows, 1 to 1,000.
            after: `Page.next` of the page before; None for the first.
            number: which page of `limit` rows, from 1; it too has a `next`.
            total: also count all rows of the query.

        Raises:
            InvalidValue: an argument is out of bounds, both `after` and `number` are given, the cursor is of another
                model, order or tenant or was changed, the query has a limit or an offset, or it is a search in the
                order of relevance and `number` is not given.
            ConfigurationError: in production there is no key to sign the cursor with.
        """
        if type(limit) is not int or not 1 <= limit <= PAGE_LIMIT:
            raise InvalidValue(f"a page has 1 to {PAGE_LIMIT} rows, not {shown(limit)}")
        if after is not None and number is not None:
            raise InvalidValue("a page is asked for by after=… or by number=…, not by both")
        if after is not None and not isinstance(after, str):
            raise InvalidValue(f"after={shown(after)} is no cursor; give the `next` of the page before, which is text")
        if number is not None and (type(number) is not int or not 1 <= number <= _LAST_PAGE):
            raise InvalidValue(f"pages are numbered from 1 to {_LAST_PAGE}, not {shown(number)}")
        query = self._mine(query)
        if query.at_most is not None or query.skip:
            raise InvalidValue("a page has its own size and place; leave limit and offset out of its query")
        ranked = query.searched is not None and not query.orders
        if ranked and number is None:
            raise InvalidValue(
                "pages by relevance are asked for by number=1, 2, …; for pages by cursor give the search an order_by(…)"
            )
        orders = keyset_orders(query)
        cursors = Cursors(query, orders, self.unit.store.secrets, self.unit.tenant)
        seen = None if after is None else cursors.decode(after)
        # The total comes along with the rows, as one more column: a statement of its own would be a round trip more.
        columns: list[Any] = [self.model]
        if total:
            columns.append(self._counting(query).correlate(None).scalar_subquery())
        statement = query.filtered(select(*columns)).options(*query.options())
        if seen is not None:
            statement = statement.where(beyond(self.model, orders, tuple(value is None for value in seen)))
        terms = query.searched.ranking() if ranked and query.searched else order_terms(self.model, orders)
        statement = statement.order_by(*terms).limit(limit + 1)  # one more tells whether there is a next page
        if number is not None and number > 1:
            statement = statement.offset((number - 1) * limit)
        found: Sequence[Any] = (await self.unit.execute(statement, None if seen is None else place(seen))).all()
        rows = [row[0] for row in found]
        counted = None
        if total:
            counted = found[0][1] if found else await self.count(query)
        following = cursors.encode(rows[limit - 1]) if len(rows) > limit and not ranked else None
        return Page(rows[:limit], following, counted)

    async def stream(self, query: Query[M] | None = None, *, batch: int = 1_000) -> AsyncIterator[M]:
        """Every row of the query in flat memory, fetched `batch` at a time.

        To stop early, close it: `async with contextlib.aclosing(repository.stream()) as rows: …`.
        """
        whole(batch, "stream(batch={})", least=1)
        statement = self._mine(query).build().execution_options(yield_per=batch)
        with self.unit.translated():
            result = await self.unit.session.stream(statement)
            try:
                async for part in result.scalars().partitions():
                    for row in cast(Sequence[M], part):
                        yield row
            finally:
                await result.close()

    async def add(self, row: M) -> M:
        """Insert one row now.

        Raises:
            Conflict: a unique key is taken. InvalidValue: it is no instance of this model.
        """
        if not isinstance(row, self.model):
            raise InvalidValue(
                f"unit[{self.model.__name__}].add(…) takes a {self.model.__name__}(…), not {_told(row)}; many rows as"
                " dicts go into add_many"
            )
        self.unit.add(row)
        await self.unit.flush()
        return row

    async def add_many(self, rows: Sequence[M | dict[str, Any]]) -> int:
        """Insert rows in one go, as fast as the driver; returns how many.

        Rows need not give the same columns; what is not given gets its default. Instances are only read from:
        they do not become part of the session, nor do their relationships.

        Raises:
            Conflict: a unique or foreign key is broken. InvalidValue: a value or a column that the table refuses.
                After either the unit can only be rolled back, unless the call stood in a savepoint.
        """
        self.unit.must_write("add_many")
        with self.unit.translated():
            return await bulk.insert(self.unit.session, self.unit.scope, self.model, rows)

    async def upsert_many(
        self,
        rows: Sequence[M | dict[str, Any]],
        *,
        on: Sequence[str] | None = None,
        update_columns: Sequence[str] | None = None,
    ) -> int:
        """Insert rows, or update those whose `on` columns are there already; returns the rows written.

        A row that would not change is not written at all, and one that is deleted is left alone.

        Args:
            on: the columns of a unique constraint; None means the key. On a tenanted model the tenant goes without
                saying, so that the key of another tenant's row is a `Conflict` and not a way to it.
            update_columns: what to overwrite; None means every column given but `on`, the key, and what says when
                and by whom the row was created; empty leaves existing rows alone.
        """
        self.unit.must_write("upsert_many")
        on = self._key.columns if on is None else tuple(on)
        tenant = self.model.__policy__.tenant
        if tenant is not None and tenant not in on and on != (tenant,):
            on = (tenant, *on)
        with self.unit.translated():
            return await bulk.upsert(self.unit.session, self.unit.scope, self.model, rows, on, update_columns)

    async def update(self, key: Any, *, expect: int | None = None, **values: Any) -> M:
        """Change columns of one row in one statement and return the row as it is now.

        A row that has all of these values already is not written: it keeps its version and `updated_at`, and the
        journal has nothing of it. Encrypted columns and SQL expressions are written in any case.

        Args:
            expect: the version that the caller has seen; the model must be `Versioned`.

        Raises:
            NotFound: there is no such row, or it is deleted. Conflict: its version is not `expect`; the message has
                both.
        """
        self.unit.must_write("update")
        if not values:
            raise InvalidValue("update(…) is given nothing to change; write column=value")
        for name in values:
            self.query().column(name)
        if issubclass(self.model, Versioned) and "version" in values:
            raise InvalidValue("the version is raised by the library; give the one that you have seen as expect=…")
        key = self._key.parse(key)
        differs = differing(self.model, values, self.unit.store.dialect)
        if differs is None:
            return await self._change(key, expect, values)
        row = await self._write(key, expect, values, differs)
        if row is not None:
            return row
        # It may have changed since: it is locked, as an update would have, and looked at again.
        same = select(self.model, differs).where(self._key.equals(key), *self._expected(expect)).with_for_update()
        found: Any = (await self.unit.execute(same.execution_options(populate_existing=True))).first()
        if found is None:
            raise await self._missed(key, expect, select(self.model))
        return await self._change(key, expect, values) if found[1] else cast(M, found[0])

    async def delete(self, key: Any, *, expect: int | None = None) -> None:
        """Delete one row: softly where the model is `SoftDeleted`, else for good.

        What points at a row that is deleted softly still does; it is left out where it would be included.

        Raises:
            NotFound: there is no such row, or it is deleted already. Conflict: its version is not `expect`, or another
                row needs it.
        """
        if not issubclass(self.model, SoftDeleted):
            await self.purge(key, expect=expect)
            return
        self.unit.must_write("delete")
        values: dict[str, Any] = {"deleted_at": dt.datetime.now(dt.UTC)}
        if hasattr(self.model, "deleted_by"):
            values["deleted_by"] = self.unit.actor
        await self._change(self._key.parse(key), expect, values)

    async def restore(self, key: Any, *, expect: int | None = None) -> M:
        """Take back a soft deletion; returns the row.

        Raises:
            NotFound: no deleted row has this key. Conflict: its version is not `expect`, or what it had to itself is
                taken (`live_unique`). InvalidValue: the model is not `SoftDeleted`.
        """
        self.unit.must_write("restore")
        self.query().only_deleted()
        values: dict[str, Any] = {"deleted_at": None}
        if hasattr(self.model, "deleted_by"):
            values["deleted_by"] = None
        return await self._change(self._key.parse(key), expect, values, deleted=True)

    async def purge(self, key: Any, *, expect: int | None = None) -> None:
        """Delete one row for good, whether it is deleted softly or not.

        Raises:
            NotFound: there is no such row. Conflict: its version is not `expect`, or another row needs it.
        """
        self.unit.must_write("purge")
        key = self._key.parse(key)
        gone = delete(self.model).where(self._key.equals(key), *self._expected(expect))
        done: Any = await self.unit.execute(gone.execution_options(**{DELETED: True}))
        if not done.rowcount:
            raise await self._missed(key, expect, select(self.model).execution_options(**{DELETED: True}))

    async def _change(self, key: Any, expect: int | None, values: dict[str, Any], *, deleted: bool = False) -> M:
        """Write `values` into the row with this key; into a deleted one where `deleted`."""
        row = await self._write(key, expect, values, *self._were_deleted(deleted), deleted=deleted)
        if row is None:
            among = select(self.model).where(*self._were_deleted(deleted))
            raise await self._missed(key, expect, among.execution_options(**{DELETED: True}) if deleted else among)
        return row

    def _were_deleted(self, deleted: bool) -> tuple[ColumnElement[bool], ...]:
        return (self.query().column("deleted_at").is_not(None),) if deleted else ()

    async def _write(
        self,
        key: Any,
        expect: int | None,
        values: dict[str, Any],
        *conditions: ColumnElement[bool],
        deleted: bool = False,
    ) -> M | None:
        """The row with this key, with `values` written into it; None where none fulfils the conditions."""
        statement = update(self.model).where(self._key.equals(key), *self._expected(expect), *conditions)
        if deleted:
            statement = statement.execution_options(**{DELETED: True})
        values |= blinded(self.model, values)
        if issubclass(self.model, Versioned):
            values["version"] = self.model.version + 1
        if issubclass(self.model, Attributed):
            values["updated_by"] = self.unit.actor
        changed = statement.values(**values).returning(self.model).execution_options(populate_existing=True)
        row = (await self.unit.execute(changed)).scalars().first()
        if row is not None:
            self.unit.wrote(row)
        return cast("M | None", row)

    def _expected(self, expect: int | None) -> tuple[ColumnElement[bool], ...]:
        if expect is None:
            return ()
        whole(expect, "expect={}", least=0)
        if not issubclass(self.model, Versioned):
            raise InvalidValue(f"{self.model.__name__} has no version to expect; declare it with Versioned")
        return (self.model.version == expect,)

    async def _missed(self, key: Any, expect: int | None, among: Select[Any]) -> NotFound | Conflict:
        """Why a statement met no row with this key."""
        version = self.query().column("version") if expect is not None else literal_column("1")
        found = among.with_only_columns(version).select_from(self.model).where(self._key.equals(key))
        current = (await self.unit.execute(found)).first()
        if current is None:
            return NotFound(f"there is no {self.model.__name__} with the key {key}")
        return Conflict(
            f"{self.model.__name__} {key} is at version {current[0]}, not {expect} any more; read it again and retry"
        )

    def _mine(self, query: Query[M] | None) -> Query[M]:
        """The query, or that of all rows."""
        if query is None:
            return self.query()
        if not isinstance(query, Query) or query.model is not self.model:
            of = f"a query of {query.model.__name__}" if isinstance(query, Query) else _told(query)
            raise InvalidValue(f"unit[{self.model.__name__}] takes a Query({self.model.__name__}), not {of}")
        return query

    def _counting(self, query: Query[M]) -> Select[tuple[int]]:
        return query.filtered(select(func.count()).select_from(self.model))


def _told(row: Any) -> str:
    return f"a {type(row).__name__}"
