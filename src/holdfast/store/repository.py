"""`Repository`: the rows of one model in one unit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import Select, Uuid, func, select, update

from holdfast.errors import Conflict, InvalidValue, NotFound
from holdfast.model import Model, Versioned
from holdfast.store import bulk
from holdfast.store.pages import Cursors, Page, beyond, keyset_orders
from holdfast.store.query import Query

if TYPE_CHECKING:
    from holdfast.store.unit import Unit

M = TypeVar("M", bound=Model)

PAGE_SIZE = 50
PAGE_LIMIT = 1_000  # rows a page may ask for: what comes from outside is bounded
_LAST_PAGE = 10**9  # so that the rows before it are a number that every backend takes
_IN_LIST = 500  # keys a statement: well under every backend's limit of parameters


class Repository(Generic[M]):
    """Read and write the rows of `model`. Made by `unit[Model]`."""

    __slots__ = ("model", "unit")

    def __init__(self, unit: Unit, model: type[M]) -> None:
        self.unit = unit
        self.model = model

    def query(self) -> Query[M]:
        """All rows, to be narrowed."""
        return Query(self.model)

    async def get(self, key: Any, *, include: Sequence[str] = ()) -> M:
        """The row with this key, a UUID or its text.

        Raises:
            NotFound: there is none. InvalidValue: it is no key.
        """
        row = await self.find(key, include=include)
        if row is None:
            raise NotFound(f"there is no {self.model.__name__} with the key {key}")
        return row

    async def find(self, key: Any, *, include: Sequence[str] = ()) -> M | None:
        """The row with this key, or None. A row that this unit has read already costs no statement."""
        key = self._key(key)
        if include:  # as a statement: the session's own `get` leaves a row it holds without them
            statement = (
                select(self.model).where(self.model.id == key).options(*self.query().include(*include).options())
            )
            return (await self.unit.execute(statement)).scalars().first()
        with self.unit.translated():
            return await self.unit.session.get(self.model, key)

    async def get_many(self, keys: Iterable[Any], *, include: Sequence[str] = ()) -> dict[Any, M]:
        """The rows that exist among `keys`, by key, in the order of `keys`."""
        wanted = list(dict.fromkeys(map(self._key, keys)))
        options = self.query().include(*include).options()
        found: dict[Any, M] = {}
        for start in range(0, len(wanted), _IN_LIST):
            part = wanted[start : start + _IN_LIST]
            statement = select(self.model).where(self.model.id.in_(part)).options(*options)
            for row in (await self.unit.execute(statement)).scalars():
                found[row.id] = row
        return {key: found[key] for key in wanted if key in found}

    async def first(self, query: Query[M]) -> M | None:
        """The first row of the query, or None."""
        at_most = 1 if query.at_most is None else min(1, query.at_most)
        return (await self.unit.execute(query.limit(at_most).build())).scalars().first()

    async def list(self, query: Query[M] | None = None) -> list[M]:
        """All rows of the query, in memory: bound it with `limit`, or use `page` or `stream`."""
        return list((await self.unit.execute((query or self.query()).build())).scalars())

    async def count(self, query: Query[M] | None = None) -> int:
        """How many rows the query has, its limit and offset left aside."""
        return cast(int, (await self.unit.execute(self._counting(query or self.query()))).scalar_one())

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
        rows written meanwhile move it.

        Args:
            limit: rows, 1 to 1,000.
            after: `Page.next` of the page before; None for the first.
            number: which page of `limit` rows, from 1; it too has a `next`.
            total: also count all rows of the query.

        Raises:
            InvalidValue: an argument is out of bounds, both `after` and `number` are given, the cursor is of another
                model, order or tenant or was changed, or the query has a limit or an offset.
            ConfigurationError: in production there is no key to sign the cursor with.
        """
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidValue(f"a page has 1 to {PAGE_LIMIT} rows, not {limit}")
        if after is not None and number is not None:
            raise InvalidValue("a page is asked for by after=… or by number=…, not by both")
        if number is not None and not 1 <= number <= _LAST_PAGE:
            raise InvalidValue(f"pages are numbered from 1 to {_LAST_PAGE}, not {number}")
        query = query or self.query()
        if query.at_most is not None or query.skip:
            raise InvalidValue("a page has its own size and place; leave limit and offset out of its query")
        orders = keyset_orders(query)
        cursors = Cursors(query, orders, self.unit.store.secrets, self.unit.tenant)
        narrowed = query if after is None else query.where(beyond(query, orders, cursors.decode(after)))
        # The total comes along with the rows, as one more column: a statement of its own would be a round trip more.
        columns: list[Any] = [self.model]
        if total:
            columns.append(self._counting(query).correlate(None).scalar_subquery())
        statement = (
            narrowed.filtered(select(*columns))
            .options(*query.options())
            .order_by(*query.order_terms(orders))
            .limit(limit + 1)  # one more tells whether there is a next page
        )
        if number is not None and number > 1:
            statement = statement.offset((number - 1) * limit)
        found: Sequence[Any] = (await self.unit.execute(statement)).all()
        rows = [row[0] for row in found]
        counted = None
        if total:
            counted = found[0][1] if found else await self.count(query)
        return Page(rows[:limit], cursors.encode(rows[limit - 1]) if len(rows) > limit else None, counted)

    async def stream(self, query: Query[M] | None = None, *, batch: int = 1_000) -> AsyncIterator[M]:
        """Every row of the query in flat memory, fetched `batch` at a time.

        To stop early, close it: `async with contextlib.aclosing(repository.stream()) as rows: …`.
        """
        statement = (query or self.query()).build().execution_options(yield_per=batch)
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
            Conflict: a unique key is taken.
        """
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
            return await bulk.insert(self.unit.session, self.model, rows)

    async def upsert_many(
        self,
        rows: Sequence[M | dict[str, Any]],
        *,
        on: Sequence[str] = ("id",),
        update_columns: Sequence[str] | None = None,
    ) -> int:
        """Insert rows, or update those whose `on` columns are there already; returns the rows written.

        Args:
            on: the columns of a unique constraint; on a tenanted model `id` means the tenant and `id`, so that
                the key of another tenant's row is a `Conflict` and not a way to it.
            update_columns: what to overwrite; None means every column given but `on`, `id` and `created_at`;
                empty leaves existing rows alone. A row that would not change is not written at all.
        """
        self.unit.must_write("upsert_many")
        tenant = self.model.__policy__.tenant
        if tenant not in (None, "id") and tuple(on) == ("id",):
            on = (tenant, "id")
        with self.unit.translated():
            return await bulk.upsert(self.unit.session, self.model, rows, on, update_columns)

    async def update(self, key: Any, *, expect: int | None = None, **values: Any) -> M:
        """Change columns of one row in one statement and return the row as it is now.

        Args:
            expect: the version that the caller has seen; the model must be `Versioned`.

        Raises:
            NotFound: there is no such row. Conflict: its version is not `expect`; the message has both.
        """
        self.unit.must_write("update")
        if not values:
            raise InvalidValue("update(…) is given nothing to change; write column=value")
        key, versioned = self._key(key), issubclass(self.model, Versioned)
        for name in values:
            self.query().column(name)
        if expect is not None and not versioned:
            raise InvalidValue(f"{self.model.__name__} has no version to expect; declare it with Versioned")
        if versioned and "version" in values:
            raise InvalidValue("the version is raised by the library; give the one that you have seen as expect=…")
        statement = update(self.model).where(self.model.id == key)
        if versioned:
            values["version"] = self.model.version + 1  # type: ignore[attr-defined]
            if expect is not None:
                statement = statement.where(self.model.version == expect)  # type: ignore[attr-defined]
        changed = statement.values(**values).returning(self.model).execution_options(populate_existing=True)
        row = (await self.unit.execute(changed)).scalars().first()
        if row is not None:
            return cast(M, row)
        found = select(self.model.version if versioned else self.model.id).where(self.model.id == key)  # type: ignore[attr-defined]
        current = (await self.unit.execute(found)).first()
        if current is None:
            raise NotFound(f"there is no {self.model.__name__} with the key {key}")
        raise Conflict(
            f"{self.model.__name__} {key} is at version {current[0]}, not {expect} any more; read it again and retry"
        )

    def _counting(self, query: Query[M]) -> Select[tuple[int]]:
        return query.filtered(select(func.count()).select_from(self.model))

    def _key(self, key: Any) -> Any:
        if isinstance(key, UUID) or not isinstance(self.model.__table__.c.id.type, Uuid):
            return key
        try:
            return UUID(key)
        except (ValueError, TypeError, AttributeError):
            shown = repr(key) if len(repr(key)) <= 80 else f"{repr(key)[:77]}…"
        raise InvalidValue(f"{shown} is no key of {self.model.__name__}; a key is a UUID")
