"""`Journal`: the journal of one database, as the rest of the house uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import text

from holdfast.errors import ConfigurationError, JournalError, StoreError
from holdfast.journal import context
from holdfast.journal.changes import Change, Position, reset_everything
from holdfast.journal.dead_letters import DeadLetter, DeadLetters
from holdfast.journal.delivery import Subscription
from holdfast.journal.epoch import Epochs
from holdfast.journal.feed import Feed, Page
from holdfast.journal.feed_postgres import PostgresFeed
from holdfast.journal.feed_sqlite import SqliteFeed
from holdfast.journal.followers import PAGE, Follower
from holdfast.journal.leases import Leases
from holdfast.journal.pruning import Maintenance, edge, is_behind, prune
from holdfast.journal.status import JournalStatus, first_position, last_position, status
from holdfast.journal.wakeups import Waiter, Wakeups
from holdfast.shared import Coalesced
from holdfast.store import Store, Unit

ASK_RETRY = "UPDATE holdfast_followers SET retry = true WHERE name = :name"
ASK_REBUILD = """
    UPDATE holdfast_followers
    SET epoch = 0, tick = 0, seq = 0, state = 'following', reason = NULL, token = token + 1, until = 0
    WHERE name = :name
"""
KNOWN = "SELECT 1 FROM holdfast_followers WHERE name = :name"
FORGET = "DELETE FROM holdfast_followers WHERE name = :name"
SKIP = """
    DELETE FROM holdfast_dead_letters WHERE follower = :name
        AND (CAST(:tbl AS TEXT) IS NULL OR tbl = :tbl) AND (CAST(:key AS TEXT) IS NULL OR key = :key)
"""


class Journal:
    """What changed in one database, in order, and who follows it.

    Args:
        store: the database.
        keep: seconds for which changes are kept after every durable follower has had them.
        lease: seconds after which a follower's instance that says nothing is replaced by another.
        feed: reads the journal; the database's own way unless given.

    Making one joins the store's hooks: units carry their actor into the journal and wake followers.
    """

    def __init__(self, store: Store, *, keep: float = 3_600.0, lease: float = 10.0, feed: Feed | None = None) -> None:
        self.store = store
        self._keep = keep
        self._epochs = Epochs(store)
        self._data_version = None
        if feed is None and store.dialect == "sqlite":
            sqlite = SqliteFeed(store, self._epochs)
            feed = sqlite
            self._data_version = sqlite.data_version if store.file is not None else None
        self._feed: Feed = feed or PostgresFeed(store, self._epochs)
        # One tick at a time is enough for all who ask.
        self._ticks = Coalesced(self._feed.make_tick)
        self._leases = Leases(store, ttl=lease)
        self._wakeups = Wakeups(store, self._data_version)
        self._maintenance = Maintenance(store, self._epochs, keep=keep, every=max(1.0, min(30.0, keep / 4)))
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        store.hooks.after_begin.append(context.begin)
        store.hooks.before_commit.append(context.end)
        store.hooks.after_commit.append(self._committed)
        store.hooks.emit = context.emit

    async def start(self) -> None:
        """Begin to keep the journal short, in the background. Touches no database yet."""
        self._maintenance.start()

    async def close(self) -> None:
        """Stop the followers (their positions are kept), then everything else."""
        tasks = [task for _, task in self._followers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followers.clear()
        await self._maintenance.close()
        await self._wakeups.close()
        await self._feed.close()

    async def make_tick(self) -> Position:
        """A position behind everything that was committed before the call.

        Raises:
            JournalError: the database has no journal yet. Unavailable: it cannot be reached.
        """
        with self._needed():
            return await self._ticks.get()

    async def position(self) -> Position:
        """The last tick that was made, by anyone; makes none."""
        with self._needed():
            async with self.store.connect() as connection:
                return await last_position(connection)

    async def oldest(self) -> Position:
        """The earliest position after which `read` still has everything."""
        with self._needed():
            async with self.store.connect() as connection:
                return await first_position(connection)

    async def status(self) -> JournalStatus:
        """The position, and every durable follower with its lag and dead letters. JournalError: there is no journal."""
        with self._needed():
            return await status(self.store)

    async def read(
        self, after: Position, upto: Position, *, tables: Sequence[str] | None = None
    ) -> AsyncIterator[Page]:
        """The pages after `after` up to `upto` (from `make_tick`), until one is `lost`.

        On a `lost` page the changes since `after` are no longer there: what was derived from them must be
        rebuilt, and read on from the page's position.
        """
        more = True
        while more:
            page = await self._feed.page(after, upto, tables, PAGE)
            yield page
            after, more = page.position, page.more and not page.lost

    async def tail(
        self, after: Position | None = None, *, tables: Sequence[str] | None = None
    ) -> AsyncIterator[Change]:
        """Changes as they come, for ever; from now on unless `after` is given.

        When the changes after the position are gone (another epoch, pruned), a reset of everything comes first.

        Raises:
            Unavailable: the database is gone; go on later from the last change's position.
        """
        waiter = self._wakeups.waiter()
        try:
            while True:
                waiter.clear()
                upto = await self.make_tick()
                after = after or upto
                async for page in self.read(after, upto, tables=tables):
                    if page.lost:
                        yield reset_everything(page.position.tick)
                    for change in page.changes:
                        yield change
                    after = page.position
                await waiter.wait()
        finally:
            self._wakeups.forget(waiter)

    def listen(self) -> Waiter:
        """An ear for commits: woken soon after one, in whatever process it was. Give it back with `stop_listening`."""
        return self._wakeups.waiter()

    def stop_listening(self, waiter: Waiter) -> None:
        """Take back what `listen` gave."""
        self._wakeups.forget(waiter)

    async def subscribe(
        self,
        name: str,
        handler: Any,
        *,
        tables: Sequence[str] | None = None,
        wants: Callable[[Change], bool] | None = None,
        durable: bool = True,
        transactional: bool = False,
        max_lag: int | None = None,
        max_lag_seconds: float | None = None,
        start: Literal["rebuild", "now"] = "rebuild",
    ) -> None:
        """Run a follower in this process until `close` or `unsubscribe`.

        Args:
            name: what it is called; instances of a durable follower in other processes share it, and one runs.
            handler: `await handler(batch)`; `await handler(batch, unit)` when transactional. What it raises is
                retried with backoff; then the changes that fail are parked with their keys, and the others go on.
            tables: the tables and topics it wants, all unless given. A change with `table` "*" and op "reset" (also
                the first that a new follower gets) means: rebuild from the tables.
            wants: which changes of these, but for resets, which always come; all unless given.
            durable: keep its position in the database. Otherwise it begins anew with each start.
            transactional: the handler's writes through its unit and the position commit together: exactly once.
            max_lag, max_lag_seconds: changes or seconds after which a dead durable follower loses its place, so that
                it does not fill the disk; it rebuilds when it comes back.
            start: "now" lets a new follower begin with what comes next instead of a reset.

        Raises:
            ConfigurationError: the name is taken in this process, or the options contradict each other.
            JournalError: the database has no journal. Unavailable: it cannot be reached.
        """
        if not name or "\0" in name:
            raise ConfigurationError(f"a follower needs a name, not {name!r}")
        if name in self._followers:
            raise ConfigurationError(f"this process runs a follower {name!r} already; give the other one another name")
        if transactional and not durable:
            raise ConfigurationError(f"the follower {name!r} cannot be transactional without being durable")
        if start not in ("rebuild", "now"):
            raise ConfigurationError(f"a follower starts with 'rebuild' or 'now', not {start!r}")
        subscription = Subscription(
            name=name,
            handler=handler,
            tables=None if tables is None else tuple(tables),
            wants=wants,
            durable=durable,
            transactional=transactional,
            start=start,
        )
        now = await self.make_tick()
        if durable:
            await self._leases.register(
                name, now if start == "now" else None, max_lag_changes=max_lag, max_lag_seconds=max_lag_seconds
            )
        follower = Follower(self.store, self._feed, self._ticks, self._leases, self._wakeups.waiter(), subscription)
        self._followers[name] = (follower, asyncio.create_task(follower.run(), name=f"follower {name}"))

    async def keep_for(self, name: str) -> bool:
        """Have what comes kept for a durable follower that runs later, or elsewhere; returns whether it is a new one.

        One that is known keeps its place.

        Raises:
            JournalError: the database has no journal. Unavailable: it cannot be reached.
        """
        with self._needed():
            async with self.store.connect() as connection:
                if (await connection.execute(text(KNOWN), {"name": name})).first() is not None:
                    return False
        await self._leases.register(name, await self.make_tick(), max_lag_changes=None, max_lag_seconds=None)
        return True

    async def unsubscribe(self, name: str) -> None:
        """Stop the follower in this process; its position is kept for the next that runs it.

        Raises:
            JournalError: this process does not run it.
        """
        follower, task = self._running(name)
        del self._followers[name]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._wakeups.forget(follower.waiter)

    async def wait_until(self, position: Position, name: str, *, timeout: float = 30.0) -> None:
        """Wait until this process' follower `name` has had everything up to `position`.

        Raises:
            TimeoutError: it did not get there in `timeout` seconds. JournalError: this process does not run it.
        """
        follower, _ = self._running(name)
        async with asyncio.timeout(timeout):
            while follower.position is None or follower.position < position:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _running(self, name: str) -> tuple[Follower, asyncio.Task[None]]:
        try:
            return self._followers[name]
        except KeyError:
            raise JournalError(f"this process runs no follower {name!r}") from None

    async def retry(self, name: str) -> None:
        """Have the follower take its dead letters again, wherever it runs. JournalError: there is no such follower."""
        await self._ask(ASK_RETRY, name)

    async def skip(self, name: str, *, table: str | None = None, key: str | None = None) -> int:
        """Drop dead letters, of one table or key or all; their keys are delivered again. Returns how many."""
        async with self.store.unit(confined=False) as unit:
            result = await unit.execute(SKIP, {"name": name, "tbl": table, "key": key})
        await self._ask(ASK_RETRY, name)
        return int(result.rowcount)  # type: ignore[attr-defined]

    async def rebuild(self, name: str) -> None:
        """Have the follower begin anew with a reset of everything. JournalError: there is no such follower."""
        await self._ask(ASK_REBUILD, name)

    async def forget(self, name: str) -> None:
        """Remove a durable follower that no process will run again, so that pruning need not wait for it."""
        await self._ask(FORGET, name)

    async def dead_letters(self, name: str) -> list[DeadLetter]:
        """The changes that the follower could not take, oldest first, at most 1,000."""
        with self._needed():
            return await DeadLetters(self.store, name).letters()

    async def prune(self, *, keep: float | None = None) -> int:
        """Remove now what every durable follower has had and is older than `keep` seconds."""
        return await prune(self.store, self._epochs, keep=self._keep if keep is None else keep)

    async def edge(self) -> int:
        """A number behind which everything lies that is in the journal now; for `is_behind`."""
        with self._needed():
            return await edge(self.store)

    async def is_behind(self, number: int) -> bool:
        """Whether pruning has left nothing of what was in the journal when `edge` gave this number."""
        with self._needed():
            return await is_behind(self.store, number)

    @contextmanager
    def _needed(self) -> Iterator[None]:
        """Say what to do where the database has no journal yet."""
        try:
            yield
        except StoreError as error:
            if "holdfast_" in str(error) and any(words in str(error) for words in ("does not exist", "no such table")):
                raise JournalError(f"{self.store.place} has no journal yet; run `holdfast migrate up`") from error
            raise

    async def _ask(self, statement: str, name: str) -> None:
        with self._needed():
            async with self.store.connect(write=True) as connection:
                asked = await connection.execute(text(statement), {"name": name})
        if asked.rowcount == 0:
            raise JournalError(f"there is no durable follower {name!r}; `holdfast journal status` lists them")

    async def _committed(self, unit: Unit) -> None:
        self._wakeups.committed()
