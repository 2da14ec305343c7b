"""Limits within one process: the same rules, in memory that is bounded."""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from holdfast.guard.limits.window import Answer, Demand, Said, Window, window_of

_SHARED = 256  # windows that those share for whom there is no room
_SWEPT = 2  # idle ones that leave at a call, of each length of window: more than can come

Name = str | int  # of a window of one's own, or the number of a shared one


class MemoryLimits:
    """What one process has admitted; for one thread.

    What counts no more leaves. When `capacity` windows still count, those who are new share 256 of them: they may be
    denied early, but nobody is let through more often than its limit says, and memory stays what it is.

    Args:
        capacity: windows, one for each identity and limit.
        clock: microseconds that never go back.
    """

    def __init__(
        self, *, capacity: int = 100_000, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1_000
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        # By the length of the window, so that the one that was used least recently is the first that leaves.
        self._windows: dict[tuple[int, int], OrderedDict[Name, Window]] = {}
        self._count = 0  # without those that are shared

    def __len__(self) -> int:
        """How many windows are kept."""
        return sum(map(len, self._windows.values()))

    def ask(self, demands: Sequence[Demand], cost: int, *, charge: bool) -> Answer:
        """What limits say to a call; with `charge` it is counted by all of them if all let it pass.

        Args:
            demands: with names that no other identity has.
        """
        now = self._clock()
        self._sweep(now)
        found, waits, passes = [], [], True
        for demand in demands:
            kept = self._kept(demand)
            name, window = self._find(kept, demand, now)
            at = window.at(now)
            wait = window.wait(demand.most, cost, now)
            found.append((kept, name, window, at))
            waits.append(wait)
            passes = passes and not wait
        if passes and charge:
            for kept, name, window, at in found:
                window.add(cost, at)
                self._keep(kept, name, window)
        said = [
            Said(window.used, wait, window.whole(now)) for (_, _, window, _), wait in zip(found, waits, strict=True)
        ]
        return Answer(time.time(), passes, tuple(said))

    def forget(self, demands: Sequence[Demand]) -> None:
        """Count nothing any more under these names; what several share for want of room stays."""
        for demand in demands:
            if self._kept(demand).pop(demand.name, None) is not None:
                self._count -= 1

    def _kept(self, demand: Demand) -> OrderedDict[Name, Window]:
        return self._windows.setdefault((demand.window, demand.width), OrderedDict())

    def _find(self, kept: OrderedDict[Name, Window], demand: Demand, now: int) -> tuple[Name, Window]:
        """Where a call is to be counted; not kept yet if it is new."""
        window = kept.get(demand.name)
        if window is not None:
            return demand.name, window
        together = zlib.crc32(demand.name.encode()) % _SHARED
        shared = kept.get(together)
        if self._count >= self._capacity:
            return together, window_of(demand) if shared is None else shared
        if shared is None:
            return demand.name, window_of(demand)
        # What was counted there may have been its own: it takes all of it along.
        shared.at(now)
        return demand.name, shared.copy()

    def _keep(self, kept: OrderedDict[Name, Window], name: Name, window: Window) -> None:
        self._count += isinstance(name, str) and name not in kept
        kept[name] = window
        kept.move_to_end(name)

    def _sweep(self, now: int) -> None:
        for length, kept in list(self._windows.items()):
            for _ in range(_SWEPT):
                oldest = next(iter(kept), None)
                if oldest is None:
                    del self._windows[length]
                    break
                window = kept[oldest]
                window.at(now)
                if window.used:
                    break
                del kept[oldest]
                self._count -= isinstance(oldest, str)
