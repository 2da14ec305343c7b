"""The unit of work: one transaction, one context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Executable, Result, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from holdfast.errors import InvalidValue, StoreError
from holdfast.model import Model
from holdfast.store.failures import Translated, is_of_the_driver
from holdfast.store.repository import Repository
from holdfast.store.scope import AllTenants, Scope, ScopedSession

if TYPE_CHECKING:
    from holdfast.store.store import Store

M = TypeVar("M", bound=Model)


class Unit:
    """One transaction and who acts in it. Made by `Store.unit()` and `Store.read()`, not by hand.

    Attributes:
        actor, request_id: written to the journal with every change of this unit.
        tenant: whose rows it reads and writes, where models are tenanted; None for nobody's, and for `ALL`.
        scope: what its statements are confined to.
        read_only: whether writes are refused (they would go to a reading connection).
        session: the SQLAlchemy session, for what the repository does not cover.
        is_open: whether it has not ended yet.
        task: that opened it.
        is_snapshot: whether it goes on seeing what was there when it began.
    """

    __slots__ = (
        "_after_commit",
        "_translated",
        "actor",
        "is_open",
        "is_snapshot",
        "read_only",
        "request_id",
        "scope",
        "session",
        "store",
        "task",
        "tenant",
    )

    def __init__(
        self,
        store: Store,
        session: AsyncSession,
        *,
        actor: str | None = None,
        tenant: str | AllTenants | None = None,
        request_id: str | None = None,
        read_only: bool = False,
    ) -> None:
        self.store = store
        self.session = session
        self.actor = actor
        self.tenant = None if isinstance(tenant, AllTenants) else tenant
        self.scope = Scope(tenant, actor, store.confined_names)
        cast(ScopedSession, session.sync_session).set_scope(self.scope)
        self.request_id = request_id
        self.read_only = read_only
        self.is_open = True
        self.task: asyncio.Task[Any] | None = None
        self.is_snapshot = False
        self._after_commit: list[Callable[[], Awaitable[None] | None]] = []
        self._translated = Translated(store.place, read_only=read_only)

    def begins(self, *, is_snapshot: bool) -> None:
        """What the store does before it gives the unit out; nothing is written yet."""
        self.is_snapshot = is_snapshot
        cast(ScopedSession, self.session.sync_session).has_written = False

    @property
    def has_written(self) -> bool:
        """Whether it may have written something: it has run more than queries on models."""
        return cast(ScopedSession, self.session.sync_session).has_written

    def __getitem__(self, model: type[M]) -> Repository[M]:
        """The repository of `model` in this unit: `await unit[Agent].get(id)`."""
        return Repository(self, model)

    def add(self, *rows: Model) -> None:
        """Insert `rows` when the unit flushes: before its next statement, at the latest at commit."""
        self.must_write("add")
        for row in rows:
            if not isinstance(row, Model):
                raise InvalidValue(f"unit.add(…) takes instances of models, not a {type(row).__name__}")
        with self._translated:
            self.session.add_all(rows)

    async def emit(self, topic: str | object, *, tags: Iterable[str] = (), data: Any = None) -> None:
        """Write an event that is no row (an upstream changed, a cache was cleared) into the journal with this unit.

        Args:
            topic: what happened, a declared `Event` or a word; a follower gets the word as `change.table`.
            tags: what it concerns, as text, beside the tags that the event derives from its fields.
            data: anything that JSON can hold, up to 64 KiB and 32 levels; none beside a declared event.

        Raises:
            InvalidValue: the topic is empty or reserved, the data cannot be written as JSON or are too large, or a
                field of the event has not the type it is declared with.
            StoreError: the unit only reads, or nothing keeps a journal of this store.
        """
        self.must_write("emit")
        if self.store.hooks.emit is None:
            raise StoreError("nothing keeps a journal of this store; open it with Holdfast.open(…)")
        await self.store.hooks.emit(self, topic, tags=tags, data=data)

    async def flush(self) -> None:
        """Send what was added or changed, so that constraints speak now rather than at commit."""
        with self._translated:
            await self.session.flush()

    async def connection(self) -> AsyncConnection:
        """The connection of this unit's transaction.

        Raises:
            StoreError: it leads to a replica, to which raw SQL does not go.
        """
        if getattr(self.session.sync_session, "is_on_replica", False):
            raise StoreError("raw SQL does not go to a replica; open the unit without replica=True")
        cast(ScopedSession, self.session.sync_session).has_written = True
        with self._translated:
            return await self.session.connection()

    async def execute(
        self, statement: Executable | str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Result[Any]:
        """Run a statement in this transaction; text takes `:name` parameters, bound, never formatted in.

        A statement on models is confined to the unit's tenant and to rows that are not deleted; text is not.

        Raises:
            WrongTenant: it cannot be confined.
            Conflict: a unique or foreign key is broken. InvalidValue: the table or its columns refuse a value.
            Unavailable: the database is gone, full or read-only. StoreError: anything else it says.
        """
        with self._translated:
            return await self.session.execute(text(statement) if isinstance(statement, str) else statement, parameters)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the unit that may fail alone: an exception inside undoes it and goes on to the caller.

        What was given to `after_commit` inside is undone with it.
        """
        before = len(self._after_commit)
        try:
            async with self.session.begin_nested():
                yield
        except BaseException as error:
            del self._after_commit[before:]
            if isinstance(error, Exception) and is_of_the_driver(error):
                self._translated.raise_for(error)
            raise

    def after_commit(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Call `callback`, and await what it returns, once this unit is committed; never when it is rolled back.

        An error in it is logged, and the other callbacks still run: what is committed stays committed.
        """
        self._after_commit.append(callback)

    def after_commit_callbacks(self) -> Iterable[Callable[[], Awaitable[None] | None]]:
        """What `after_commit` was given, in order."""
        return tuple(self._after_commit)

    def translated(self) -> Translated:
        """A context in which the driver's exceptions become Holdfast's."""
        return self._translated

    def wrote(self, row: Model) -> None:
        """Note that a statement has written `row`, if somebody asks for it."""
        written = cast(ScopedSession, self.session.sync_session).written
        if written is not None:
            written.note(row)

    def must_write(self, verb: str) -> None:
        """Raise `StoreError` when this unit only reads."""
        if self.read_only:
            raise StoreError(f"{verb} in a read-only unit; open it with hold.unit(…), not hold.read()")
        cast(ScopedSession, self.session.sync_session).has_written = True
