"""What happens, told as it happens: one follower of the journal, any number of listeners."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from holdfast.errors import HoldfastError, JournalError, Unavailable
from holdfast.hold import Holdfast
from holdfast.http.problems import RETRY_AFTER, Refusal
from holdfast.journal import EVERYTHING, Batch, Change, Position
from holdfast.logs import get_logger
from holdfast.operate import Examiner
from holdfast.rollup import TOPIC

MOST_LISTENERS = 100
HEARTBEAT = 15.0  # seconds after which a listener that heard nothing is told that we are there
LIFETIME = 600.0  # seconds after which a listener must come again; what a stream holds is then given back
_GATHER = 0.15  # seconds between two events of a kind: a bulk load is one thing that happens, not thousands
_PATIENCE = 2.0  # seconds that a listener waits for the journal to be followed; the database may be away
_LOOK = 1.0  # seconds between two looks at whether the database answers
_REMEMBERED = 256  # events, for listeners that come again
_SHOWN = 20  # changes
_LOOK_BACK = (64, 16, 4, 1, 0)  # ticks that are tried for changes from before we listened, until they are there
_LOOK_BACK_PAGES = 8  # of them, since a tick may hold any number of changes

log = get_logger("holdfast.http")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event: `journal` (what changed), `rollups` (figures were computed), `status` (the database came or went)."""

    id: str
    name: str
    data: dict[str, Any]


class Live:
    """Follows the journal of one `Holdfast` once somebody listens.

    Attributes:
        changes: the newest changes, newest first.
        database_up: whether the database answered last.
    """

    def __init__(self, hold: Holdfast, examiner: Examiner) -> None:
        self.hold = hold
        self.examiner = examiner
        self.changes: deque[Change] = deque(maxlen=_SHOWN)
        self.database_up = True
        self._life = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._events: deque[Event] = deque(maxlen=_REMEMBERED)
        self._listeners: set[asyncio.Event] = set()
        self._tables: Counter[str] = Counter()
        self._position: Position | None = None
        self._happened = asyncio.Event()
        self._name = f"http.live.{self._life}"
        self._tasks: list[asyncio.Task[None]] = []
        self._following = asyncio.Event()
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    async def start(self) -> None:
        """Follow the journal from now on, until `close`; does nothing the second time."""
        if not self._tasks and not self._closed:
            self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._tell())]

    async def close(self) -> None:
        """End every stream and stop following, so that a server that waits for its connections can end."""
        self._closed = True
        for listener in self._listeners:
            listener.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._following.is_set():
            self._following.clear()
            with contextlib.suppress(JournalError):  # the journal was closed before us
                await self.hold.journal.unsubscribe(self._name)

    async def listen(self, last_id: str | None = None) -> AsyncIterator[Event | None]:
        """Events from now on, those after `last_id` first where they are remembered; None is a heartbeat.

        The first event, `hello`, says whether anything was missed. Ends when `close` is called, and after
        `LIFETIME` seconds.

        Raises:
            Refusal: 503, too many listen already.
        """
        if len(self._listeners) >= MOST_LISTENERS:
            told = f"{MOST_LISTENERS} streams are open already, which is the most; close one"
            raise Refusal(503, told, {"Retry-After": str(RETRY_AFTER)})
        await self.start()
        woken = asyncio.Event()
        self._listeners.add(woken)
        try:
            # What is read after `hello` must not be older than what is told after it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._following.wait()
            known = {event.id: i for i, event in enumerate(self._events)}
            resumed = last_id in known
            seen = self._events[-1].id if self._events else None
            if resumed:
                seen = last_id
            yield Event(id=seen or f"{self._life}-0", name="hello", data={"resumed": resumed, **self._state()})
            ends = time.monotonic() + LIFETIME
            while not self._closed and time.monotonic() < ends:
                missed = self._after(seen)
                for event in missed:
                    seen = event.id
                    yield event
                if missed:
                    continue
                woken.clear()
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await woken.wait()
                except TimeoutError:
                    yield None
        finally:
            self._listeners.discard(woken)

    def _after(self, seen: str | None) -> list[Event]:
        events = list(self._events)
        place = next((i for i, event in enumerate(events) if event.id == seen), None)
        return events if place is None else events[place + 1 :]

    def _publish(self, name: str, data: dict[str, Any]) -> None:
        self._events.append(Event(id=f"{self._life}-{next(self._numbers)}", name=name, data=data))
        for listener in self._listeners:
            listener.set()

    def _state(self) -> dict[str, Any]:
        return {"database": "up" if self.database_up else "down"}

    async def _changed(self, batch: Batch) -> None:
        self._position = batch.position
        for change in batch.changes:
            self._tables[change.table] += 1
            self._remember(change)
        self._happened.set()

    def _remember(self, change: Change) -> None:
        if change.op != "event" and change.table != EVERYTHING:
            self.changes.appendleft(change)

    async def _tell(self) -> None:
        while True:
            await self._happened.wait()
            self._happened.clear()
            tables, self._tables = self._tables, Counter()
            refreshed = tables.pop(TOPIC, 0)
            position = str(self._position)
            if tables:
                data = {"position": position, "changes": tables.total(), "tables": dict(tables.most_common(50))}
                self._publish("journal", data)
            if refreshed:
                self._publish("rollups", {"position": position})
            await asyncio.sleep(_GATHER)

    async def _watch(self) -> None:
        """See whether the database answers, and follow its journal as soon as it does."""
        while True:
            up = True
            try:
                await self.examiner.ping()
                if not self._following.is_set():
                    await self._follow()
            except HoldfastError as error:
                up = not isinstance(error, Unavailable)
                log.info("live_waits", reason=str(error))
            if up != self.database_up:
                self.database_up = up
                self._publish("status", self._state())
            await asyncio.sleep(_LOOK)

    async def _follow(self) -> None:
        now = await self.hold.journal.make_tick()
        await self._look_back(now)
        await self.hold.journal.subscribe(self._name, self._changed, durable=False, start="now")
        await self.hold.journal.wait_until(now, self._name)
        self._following.set()

    async def _look_back(self, now: Position) -> None:
        """Show what changed last before we listened, as far as the journal still has it and it is not much."""
        for back in _LOOK_BACK:
            self.changes.clear()
            if await self._read_from(Position(now.epoch, max(0, now.tick - back)), now):
                return

    async def _read_from(self, before: Position, now: Position) -> bool:
        read = 0
        async for page in self.hold.journal.read(before, now):
            read += 1
            if page.lost or read > _LOOK_BACK_PAGES:
                return False
            for change in page.changes:
                self._remember(change)
        return True
