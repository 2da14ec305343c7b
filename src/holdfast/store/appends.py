"""Buffered rows: lines of a log that nobody waits for, written many at a time."""

from __future__ import annotations

from typing import Any

from holdfast.errors import ConfigurationError
from holdfast.model import Model
from holdfast.store.store import Store
from holdfast.store.unit import Unit
from holdfast.store.write_behind import WriteBehind

Line = dict[str, Any]


class Appends(WriteBehind[Line]):
    """Inserts rows of logs (requests, uses), in memory first; one statement a table writes what came.

    What was added is written every `interval` seconds, when `size` rows wait, and by `close`. A process that is killed
    loses what it had not written: at most one interval of it, while the database takes writes. A write that fails is
    put back, and written with what comes later: give each row its key, and one whose COMMIT was lost on the way is not
    written twice. A row that its table refuses (what it names is gone) costs itself only, and the log says so.
    `capacity` rows may wait while the database is away; beyond that new ones are dropped, counted in `dropped`.

    Attributes:
        dropped: rows that were given up, for the log's reasons.

    Example::

        async with Appends(store) as appends:
            appends.add(UsageLog, id=uuid7(), endpoint="/v1/resources/books", status_code=200)
    """

    _name = "appends"
    _may_write_twice = True  # a key that is there already is refused

    def __init__(self, store: Store, *, interval: float = 1.0, size: int = 5_000, capacity: int = 100_000) -> None:
        super().__init__(store, interval=interval, size=size, capacity=capacity)
        self._lines: dict[type[Model], list[Line]] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return self._waiting

    def add(self, model: type[Model], **values: Any) -> None:
        """Insert a row soon. Costs no statement; callable from any thread. What is not given gets its default.

        Raises:
            ConfigurationError: this is closed.
        """
        if self._closed:
            raise ConfigurationError("these appends are closed; what is added now would never be written")
        with self._lock:
            if self._waiting >= self._capacity:
                self._drop(1, "full")
                return
            self._lines.setdefault(model, []).append(values)
            self._waiting += 1
            waiting = self._waiting
        self._came(waiting)

    def _take(self) -> dict[type[Model], list[Line]]:
        taken, self._lines, self._waiting = self._lines, {}, 0
        return taken

    def _put_back(self, model: type[Model], rows: list[Line]) -> None:
        self._lines[model] = rows + self._lines.get(model, [])
        self._waiting += len(rows)

    async def _send(self, unit: Unit, model: type[Model], rows: list[Line]) -> int:
        await unit[model].add_many(rows)
        return len(rows)
