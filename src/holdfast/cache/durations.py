"""Durations as people write them: 300, 0.5, "90s", "5m", "1h30m"."""

from __future__ import annotations

import datetime as dt
import re

from holdfast.errors import ConfigurationError

Duration = float | int | str | dt.timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*", re.I)
_LONGEST = 10 * 365 * 86_400.0
_SHOWN = 60  # characters


def seconds(duration: Duration, what: str, *, least: float = 0.0) -> float:
    """A duration in seconds.

    Args:
        what: what it is for, as the message tells it.

    Raises:
        ConfigurationError: it is none, is under `least`, or over ten years.
    """
    found = _seconds(duration)
    if found is None or not least <= found <= _LONGEST:
        bound = f", {least:g} s or more" if least else ""
        raise ConfigurationError(
            f"{what}={shown(duration)} is no duration{bound}; write seconds, or a text such as '90s', '5m', '1h30m',"
            " '1d'"
        )
    return found


def _seconds(duration: object) -> float | None:
    if isinstance(duration, dt.timedelta):
        return duration.total_seconds()
    if isinstance(duration, str):
        parts = list(_PART.finditer(duration.strip()))
        if not parts or sum(len(part[0]) for part in parts) != len(duration.strip()):
            return None
        if len({part[2].lower() for part in parts}) < len(parts):  # "5m5m" is a slip, not ten minutes
            return None
        return sum(float(part[1]) * _UNITS[part[2].lower()] for part in parts)
    if isinstance(duration, int | float) and not isinstance(duration, bool) and abs(duration) <= _LONGEST:
        return float(duration)
    return None


def written(length: float) -> str:
    """Seconds as people say them: `60 s`, `2 h`, `30 days`."""
    for unit, word in ((86_400.0, "days"), (3_600.0, "h")):
        if length >= unit and length % unit == 0:
            count = round(length / unit)
            return "1 day" if word == "days" and count == 1 else f"{count:,} {word}"
    return f"{length:.3f}".rstrip("0").rstrip(".") + " s"


def shown(value: object) -> str:
    """A value as a message names it, however long it is."""
    text = hex(value) if isinstance(value, int) and value.bit_length() > 200 else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
