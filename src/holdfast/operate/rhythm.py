"""When a schedule is due, and what happens to the turns that were missed: rules only, no I/O and no clock.

Moments are milliseconds since 1970, UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Literal

import msgspec
from cronsim import CronSim, CronSimError

from holdfast.errors import ConfigurationError

CatchUp = Literal["once", "all", "skip"]
CATCH_UP: tuple[CatchUp, ...] = ("once", "all", "skip")
GRACE = 60_000  # a turn that is reached this late has not been missed: a worker is restarted in less
_SHORTEST = 0.1  # seconds between two turns
_FIRST_RETRY = 10_000
_LONGEST_RETRY = 3_600_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EVERY = "every "
_SIZES = (60, 60, 24, 31, 12, 7)  # of the fields second, minute, hour, day, month, weekday


class Rhythm(msgspec.Struct, frozen=True):
    """The moments at which a schedule has its turns: by a cron expression, or at every multiple of an interval.

    Attributes:
        cron: five fields, or six with seconds first; "" for an interval.
        every: milliseconds, counted from 1970, so that all processes mean the same moments; 0 for cron.
    """

    cron: str = ""
    every: int = 0

    @classmethod
    def of(cls, cron: str | None, every: float | None) -> Rhythm:
        """The rhythm of a cron expression or of an interval in seconds.

        Raises:
            ConfigurationError: both or neither are given, or one that has no moments.
        """
        if (cron is None) == (every is None):
            raise ConfigurationError("a schedule has a cron expression or every=seconds, and not both")
        if every is not None:
            if not _SHORTEST <= every <= 366 * 86_400:
                raise ConfigurationError(f"every={every!r} is not from {_SHORTEST:g} seconds to 366 days")
            return cls(every=round(every * 1_000))
        rhythm = cls(cron=" ".join((cron or "").split()))
        try:
            _check_steps(rhythm.cron)
            rhythm.after(0)
        except (CronSimError, StopIteration) as error:
            raise ConfigurationError(
                f"{cron!r} is no cron expression that ever comes ({str(error) or 'no such date'}); write five fields,"
                ' minute hour day month weekday, as in "0 2 * * *"'
            ) from None
        return rhythm

    @classmethod
    def parse(cls, text: str) -> Rhythm:
        """What `str` wrote."""
        if text.startswith(_EVERY):
            return cls.of(None, float(text.removeprefix(_EVERY).removesuffix(" s")))
        return cls.of(text, None)

    def __str__(self) -> str:
        if self.cron:
            return self.cron
        seconds = f"{self.every / 1_000:.3f}".rstrip("0").rstrip(".")
        return f"{_EVERY}{seconds} s"

    def after(self, moment: int) -> int:
        """The first turn after `moment`."""
        if self.every:
            return (moment // self.every + 1) * self.every
        return moment_of(next(CronSim(self.cron, time_of(moment))))

    def last(self, moment: int) -> int:
        """The latest turn at or before `moment`."""
        if self.every:
            return moment // self.every * self.every
        # One second on, for the iteration begins beyond where it is put; that second itself is left out again.
        return moment_of(next(CronSim(self.cron, time_of(moment // 1_000 * 1_000 + 1_000), reverse=True)))


def _check_steps(cron: str) -> None:
    """Refuse a step that leaps over its whole field, which the parser takes for the field's first value."""
    for field, size in zip(reversed(cron.split()), reversed(_SIZES), strict=False):
        for step in re.findall(r"/(\d+)", field):
            if int(step) > size:
                raise CronSimError(f"the step /{step[:20]} is longer than the {size} that there are")


class Turn(msgspec.Struct, frozen=True):
    """What a schedule that is due does now.

    Attributes:
        planned: the moment it runs for; None when every turn that came is left out.
        following: the turn after it.
    """

    planned: int | None
    following: int


def turn(rhythm: Rhythm, catch_up: CatchUp, due: int, now: int) -> Turn:
    """The turn to take at `now`, where the first that was not taken is `due`, at `now` or before.

    "once": one run for all that was missed, for the newest of them. "all": one for each, oldest first. "skip": the
    newest, unless it is later than `GRACE`.
    """
    if catch_up == "all":
        return Turn(due, rhythm.after(due))
    newest = max(due, rhythm.last(now))
    following = rhythm.after(newest)
    return Turn(None if catch_up == "skip" and now - newest > GRACE else newest, following)


def retry_after(failures: int) -> int:
    """Milliseconds to wait after so many failures in a row: 10 s, doubled each time, an hour at most."""
    doubled: int = 2 ** min(max(failures, 1) - 1, 16)
    return min(_LONGEST_RETRY, _FIRST_RETRY * doubled)


def time_of(moment: int) -> dt.datetime:
    """A moment as a UTC time."""
    return _EPOCH + dt.timedelta(milliseconds=moment)


def moment_of(time: dt.datetime) -> int:
    """A UTC time as a moment."""
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)
