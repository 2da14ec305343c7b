"""How large the next batch is, and how long to rest before it: rules only."""

from __future__ import annotations

LEAST = 10  # rows: below, it is not their number that takes the time
_AIM = 0.5  # of the bound, so that a batch that takes twice as long as the last still keeps it
_GROWTH = 1.5


class Pace:
    """Keeps the time for which a batch holds locks under a bound.

    Args:
        most: rows of a batch at most.
        bound: seconds.
        duty: the share of the time that is worked; the rest is rested.

    Attributes:
        size: rows of the next batch.
    """

    def __init__(self, most: int, *, bound: float, duty: float = 1.0) -> None:
        self._most = most
        self._bound = bound
        self._duty = duty
        self.size = min(most, 10 * LEAST)

    @property
    def limit(self) -> float:
        """Seconds after which a statement is better given up than waited for; 0 where it is as small as it gets."""
        return self._bound * 0.7 if self.size > LEAST else 0.0

    def took(self, rows: int, seconds: float, *, waiting: bool = False) -> None:
        """Learn from a batch; `waiting` says that somebody waits for a lock."""
        aim = self._bound * (_AIM / 2 if waiting else _AIM)
        wanted = rows * aim / max(seconds, 1e-6)
        if wanted > self.size and rows < self.size:
            return  # a short last page says nothing about a longer one
        least = min(LEAST, self._most)
        self.size = round(max(least, self.size / 2, min(wanted, self.size * _GROWTH, self._most)))

    def halve(self) -> None:
        """Take fewer rows: the last batch took too long, or one of its rows was refused."""
        self.size = max(1, self.size // 2)

    def rest(self, seconds: float) -> float:
        """Seconds to rest after a batch that took `seconds`."""
        return seconds * (1 / self._duty - 1)
