"""The rules of sliding windows, as plain functions of a time: what is counted, what passes, and when it would.

Times are whole microseconds of one clock. A call counts in the half-open window that begins with it: with a window of
60 s one of second 10 counts until, and not in, second 70. A clock that was set back is taken to stand still until it
has caught up, so that what was admitted is never forgotten early.

The Lua text in `script.py` does the same in Redis; `tests/guard` hold both against one another.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import NamedTuple, Protocol, Self

EXACT = 10_000
"""The most in a window up to which each admitted call is kept by itself."""

PARTS = 100
"""Sub-windows of a window above that; a call counts for up to one of them longer than it should."""

NEVER = -1


class Demand(NamedTuple):
    """What one limit asks.

    Attributes:
        name: what it is counted under.
        most: how many pass in a window, 0 or more.
        window: microseconds.
    """

    name: str
    most: int
    window: int

    @property
    def width(self) -> int:
        """Microseconds of a sub-window; 0 where each call is kept by itself."""
        return 0 if self.most <= EXACT else -(-self.window // PARTS)


class Said(NamedTuple):
    """What one limit says to a call.

    Attributes:
        used: what counts now, with the call if it was admitted.
        wait: microseconds until the call would pass if nobody else came; 0: it does, NEVER: it cannot.
        whole: microseconds until nothing counts any more if nobody came.
    """

    used: int
    wait: int
    whole: int


class Answer(NamedTuple):
    """What several limits say to one call.

    Attributes:
        now: the clock, in seconds since 1970.
        passes: whether all let it pass.
        said: what each says, in their order.
    """

    now: float
    passes: bool
    said: tuple[Said, ...]


class Window(Protocol):
    """What was admitted in a window, as far as it still counts."""

    def at(self, now: int) -> int:
        """Forget what has left; returns the time that it is taken to be."""

    @property
    def used(self) -> int:
        """What counts."""

    def wait(self, most: int, cost: int, now: int) -> int:
        """Microseconds until `cost` more pass; 0: now, NEVER: they cannot. After `at`."""

    def add(self, cost: int, at: int) -> None:
        """Count an admitted call at a time that `at` gave."""

    def whole(self, now: int) -> int:
        """Microseconds until nothing counts."""

    def copy(self) -> Self:
        """Another one that has counted the same."""


class Log:
    """Each admitted call by itself: exact. Eight bytes a call.

    Args:
        window: microseconds.
    """

    __slots__ = ("_latest", "_start", "_times", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._times = array("q")  # ascending
        self._start = 0  # where those begin that may still count
        self._latest = 0

    def at(self, now: int) -> int:
        self._latest = now = max(now, self._latest)
        times, start = self._times, self._start
        edge = now - self._window
        while start < len(times) and times[start] <= edge:
            start += 1
        if start and 2 * start >= len(times):  # so that each is moved once on average
            del times[:start]
            start = 0
        self._start = start
        return now

    @property
    def used(self) -> int:
        return len(self._times) - self._start

    def wait(self, most: int, cost: int, now: int) -> int:
        if self.used + cost <= most:
            return 0
        if cost > most:
            return NEVER
        return self._times[len(self._times) - 1 - (most - cost)] + self._window - now

    def add(self, cost: int, at: int) -> None:
        self._times.extend([at] * cost)

    def whole(self, now: int) -> int:
        return self._times[-1] + self._window - now if self.used else 0

    def copy(self) -> Log:
        made = Log(self._window)
        made._times, made._latest = self._times[self._start :], self._latest
        return made


class Counters:
    """How many were admitted in each of 100 sub-windows, and in the one that is just leaving.

    A call counts until its whole sub-window has left: never too short, and at most one sub-window too long. So it never
    lets more than N into a window, and denies a call early only where it would be more than N in 1.01 windows.

    Args:
        window: microseconds.
    """

    __slots__ = ("_latest", "_parts", "_width", "used")

    def __init__(self, window: int) -> None:
        self._width = -(-window // PARTS)
        self._parts: deque[tuple[int, int]] = deque()  # (number of the sub-window, admitted in it), ascending
        self._latest = self.used = 0

    def at(self, now: int) -> int:
        self._latest = now = max(now, self._latest)
        parts = self._parts
        oldest = now // self._width - PARTS
        while parts and parts[0][0] < oldest:
            self.used -= parts.popleft()[1]
        return now

    def wait(self, most: int, cost: int, now: int) -> int:
        over = self.used + cost - most
        if over <= 0:
            return 0
        if cost > most:
            return NEVER
        for number, count in self._parts:
            over -= count
            if over <= 0:
                return self._left(number) - now
        raise AssertionError("what counts is the sum of its parts")

    def add(self, cost: int, at: int) -> None:
        number = at // self._width
        if self._parts and self._parts[-1][0] == number:
            self._parts[-1] = (number, self._parts[-1][1] + cost)
        else:
            self._parts.append((number, cost))
        self.used += cost

    def whole(self, now: int) -> int:
        return self._left(self._parts[-1][0]) - now if self._parts else 0

    def copy(self) -> Counters:
        made = Counters(self._width * PARTS)
        made._parts, made.used, made._latest = self._parts.copy(), self.used, self._latest
        return made

    def _left(self, number: int) -> int:
        """When a sub-window has left every window that now may end."""
        return (number + PARTS + 1) * self._width


def window_of(demand: Demand) -> Window:
    """Where a limit begins to count."""
    return Counters(demand.window) if demand.width else Log(demand.window)
