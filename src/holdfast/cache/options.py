"""How a value is cached: one flat object, with tiers as presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import msgspec

from holdfast.cache.durations import Duration, seconds, shown
from holdfast.errors import ConfigurationError

_DURATIONS = {  # with the least that makes sense, and whether None is a value
    "ttl": (0.001, False),
    "fail_safe": (0.0, False),
    "fail_safe_pause": (0.0, False),
    "negative_ttl": (0.0, False),
    "max_staleness": (0.01, False),
    "debounce": (0.0, False),
    "soft_timeout": (0.0, True),
    "hard_timeout": (0.001, True),
    "lease": (0.1, False),
}


T = TypeVar("T", bound="Options")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a value is kept and served, and what happens when loading it fails or takes long. Times are seconds.

    Made with `Options.of(ttl="5m", …)`, or from a tier with `WARM.but(fail_safe="1d")`.

    Attributes:
        ttl: how long a value may be served.
        jitter: the share of `ttl` by which each value's is shortened at random, so that not all end at once.
        negative_ttl: how long None is kept, as `ttl`; 0 keeps no None.
        max_staleness: how long after a commit the value from before it may still be served, on any node.
        debounce: for how long after a value was loaded changes do not end it, but for tasks that have committed since,
            so that a storm of them costs one load in that time; at most `max_staleness`, and within its bound.
        fail_safe: for how long after its end a value is served, marked as stale, when loading anew fails.
        fail_safe_pause: for how long after such a failure no other load is tried.
        soft_timeout: how long a caller waits for a load when there is an older value; the load goes on by itself.
        hard_timeout: how long a caller waits for a load at most.
        refresh_ahead: how eagerly values in use are loaded anew before they end (XFetch's beta); 0 never.
        weight: of the value in memory, whose capacity is the sum of weights.
        skip_l1, skip_l2: leave memory, or what nodes share, alone.
        skip_l3: leave the table of results alone, where values lie too that are kept for more than an hour.
        lease: how long others, in this process or another, wait for one that loads before one of them loads too.
        counted_as: the name under which reads are counted; without it the key, its last part left out: `user:*`.
    """

    ttl: float = 300.0
    jitter: float = 0.0
    negative_ttl: float = 0.0
    max_staleness: float = 1.0
    debounce: float = 0.0
    fail_safe: float = 0.0
    fail_safe_pause: float = 1.0
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    refresh_ahead: float = 0.0
    weight: int = 1
    skip_l1: bool = False
    skip_l2: bool = False
    skip_l3: bool = False
    lease: float = 5.0
    counted_as: str | None = None

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Options, the rest as they are unless said.

        Raises:
            ConfigurationError: there is no such option, or a value makes no sense; the message names it.
        """
        return _sound(cls(**_checked(given)))

    def but(self, **given: Any) -> Self:
        """These options with some of them replaced; see `of` for what it raises."""
        return _sound(msgspec.structs.replace(self, **_checked(given))) if given else self


DEFAULT = Options()
"""For every call that says nothing else."""

HOT = Options(ttl=300.0)
WARM = Options(ttl=1_800.0)
COLD = Options(ttl=86_400.0)
TIERS: Mapping[str, Options] = {"hot": HOT, "warm": WARM, "cold": COLD}


def chosen(options: Options | None, given: Mapping[str, Any]) -> Options:
    """The options of a call: those that it names, or the usual ones, with single ones replaced.

    Raises:
        ConfigurationError: they are none; or as `Options.of`.
    """
    if options is None:
        options = DEFAULT
    elif not isinstance(options, Options):
        raise ConfigurationError(
            f"options={shown(options)} must be Options; write Options.of(ttl='5m'), or ttl='5m' alone"
        )
    return _sound(msgspec.structs.replace(options, **_checked(given))) if given else options


def tier_of(options: Options) -> str:
    """The first tier whose values are kept as long."""
    return next((name for name, tier in TIERS.items() if options.ttl <= tier.ttl), "cold")


def _sound(options: T) -> T:
    if options.debounce > options.max_staleness:
        raise ConfigurationError(
            f"debounce={options.debounce:g} is more than max_staleness={options.max_staleness:g}, within which a change"
            " must be seen; raise max_staleness too, or lower debounce"
        )
    return options


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in Options.__struct_fields__:
            raise ConfigurationError(f"the cache has no option {name!r}; it has {', '.join(Options.__struct_fields__)}")
        if name in _DURATIONS:
            least, may_be_none = _DURATIONS[name]
            found[name] = None if value is None and may_be_none else _duration(value, name, least)
        elif name == "weight":
            found[name] = _weight(value)
        elif name in ("skip_l1", "skip_l2", "skip_l3"):
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name}={shown(value)} must be True or False")
            found[name] = value
        elif name == "counted_as":
            found[name] = _name(value)
        else:
            found[name] = _number(name, value, most=1.0 if name == "jitter" else 100.0)
    return found


def _duration(value: Duration, name: str, least: float) -> float:
    return seconds(value, name, least=least)


def _weight(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise ConfigurationError(f"weight={shown(value)} must be a whole number from 0, under 2**32")
    return value


def _name(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 250 and value.isprintable()):
        raise ConfigurationError(f"counted_as={shown(value)} must be a text of 1 to 250 characters that can be seen")
    return value


def _number(name: str, value: object, *, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name}={shown(value)} must be a number")
    if not 0 <= value <= most:
        raise ConfigurationError(f"{name}={shown(value)} must be from 0 to {most:g}")
    return float(value)
