"""What a limit says: at most so many in any window of so long."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from holdfast.cache.durations import seconds
from holdfast.errors import ConfigurationError

MOST = 10**12
LONGEST = 366 * 86_400.0  # seconds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXT = re.compile(r"(?:(?P<name>[^:\s]+)\s*:\s*)?(?P<most>\d[\d_]*)\s*/\s*(?P<window>.*?)(?P<quota>\s+quota)?", re.S)
_WORDS = {
    "second": "second",
    "sec": "second",
    "s": "second",
    "minute": "minute",
    "min": "minute",
    "m": "minute",
    "hour": "hour",
    "h": "hour",
    "day": "day",
    "d": "day",
    "week": "week",
    "w": "week",
}
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0, "week": 604_800.0}
_NAMES = {length: f"per-{word}" for word, length in _SECONDS.items()}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` in any half-open window of `window` seconds.

    Attributes:
        most: how many; 0 lets nobody through, None everybody.
        window: seconds, in whole milliseconds.
        name: what headers and answers call it, and with `window` what its count is kept under: limits of one name and
            window share what they have counted, so that an account that changes its tier takes it along.
        policy: what the header `RateLimit-Policy` says of it, in whole seconds.
        quota: whether it is a promise about money rather than about speed: without Redis, where each process would
            count for itself, nobody passes.

    Raises:
        ConfigurationError: no limit is like that.
    """

    most: int | None
    window: float = 60.0
    name: str = ""
    quota: bool = False
    policy: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        most, window = self.most, self.window
        if most is not None and not (type(most) is int and 0 <= most <= MOST):
            raise ConfigurationError(f"a limit of {most!r} is none; it is a whole number up to {MOST}, or None")
        length = round(seconds(window, "the window of a limit", least=0.001), 3)
        if length > LONGEST:
            raise ConfigurationError(f"a limit's window of {window!r} is longer than {LONGEST / 86_400:g} days")
        object.__setattr__(self, "window", length)
        name = self.name or _NAMES.get(length) or f"per-{length:.3f}".rstrip("0").rstrip(".") + "s"
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is no name of a limit; it has up to 64 letters, digits and the signs . _ -"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "policy", f'"{name}";q={most};w={max(1, math.ceil(length))}')

    @classmethod
    def parse(cls, text: str) -> Limit:
        """The limit that a text says: `60/min`, `burst: 100/10s`, `month: 50_000/30d quota`, `unlimited`.

        The window is a word (second, minute, hour, day, week) or a duration such as `10s` and `1h30m`.

        Raises:
            ConfigurationError: it says none.
        """
        return _parsed(text)

    @property
    def is_unlimited(self) -> bool:
        """Whether everybody passes."""
        return self.most is None


AnyLimits = Limit | str | Iterable[Limit | str]


def limits_of(given: AnyLimits) -> tuple[Limit, ...]:
    """AnyLimits as they are given: one or several, as text or made.

    Raises:
        ConfigurationError: a text says none, or two would be counted under one name.
    """
    if isinstance(given, str):
        return limits_of_text(given)
    found = (given,) if isinstance(given, Limit) else tuple(_one(one) for one in given)
    check_names(found)
    return found


@lru_cache(maxsize=1_024)
def limits_of_text(text: str) -> tuple[Limit, ...]:
    """The limits of a text: one, or several with + between them.

    Raises:
        ConfigurationError: a part says no limit, or two would be counted under one name.
    """
    found = tuple(Limit.parse(part) for part in text.split("+"))
    check_names(found)
    return found


def check_names(limits: Sequence[Limit]) -> None:
    """ConfigurationError: two of them have one name, or there are more than ten."""
    if len(limits) > 10:
        raise ConfigurationError(f"{len(limits)} limits at once; ten at most")
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two limits are called {name!r}; name them apart: 'burst: 10/s + {name}: 60/min'")


def _one(given: Limit | str) -> Limit:
    if isinstance(given, Limit):
        return given
    if not isinstance(given, str):
        raise ConfigurationError(f"{given!r} is no limit; give a Limit, or a text such as '60/min'")
    return Limit.parse(given)


@lru_cache(maxsize=1_024)
def _parsed(text: str) -> Limit:
    said = text.strip()
    if said == "unlimited":
        return Limit(None, name="unlimited")
    found = _TEXT.fullmatch(said)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is no limit; write how many in how long: '60/min', 'burst: 100/10s', 'month: 50_000/30d quota',"
            " or 'unlimited'"
        )
    window = found["window"].strip()
    word = _WORDS.get(window.lower())
    length = _SECONDS[word] if word else seconds(window, f"the window of {text!r}", least=0.001)
    most = int(found["most"].replace("_", ""))
    return Limit(most, length, found["name"] or "", quota=found["quota"] is not None)
