"""Figures as people read them; exact, since amounts are money."""

from __future__ import annotations

import datetime as dt


def units(amount: int | str, decimals: int | None) -> str:
    """Base units as units of the token, with all digits that are not trailing zeros: `1234500`, 6 → `1.2345`.

    Base units themselves, grouped, where the token's decimals are not known.
    """
    whole, part = divmod(int(amount), 10 ** (decimals or 0))
    digits = str(part).zfill(decimals or 0).rstrip("0") if decimals else ""
    return f"{whole:,}.{digits}" if digits else f"{whole:,}"


def about(amount: int | str, decimals: int | None) -> float:
    """The same as a float, for the height of a bar."""
    return int(amount) / float(10 ** (decimals or 0))


def percent(rate: float | None) -> str:
    """A rate with two digits, rounded so that only all is 100 % and only none is 0 %; a dash where there is none."""
    if rate is None:
        return "–"
    if 0 < rate < 1:
        rate = min(max(rate, 0.0001), 0.9999)
    return f"{rate * 100:.2f}".rstrip("0").rstrip(".") + " %"


def short(address: str) -> str:
    """The two ends of a long address."""
    return address if len(address) <= 12 else f"{address[:5]}…{address[-4:]}"


def moment(at: dt.datetime | None) -> str:
    """A time to the second, in UTC."""
    return "" if at is None else f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three digits that count; a dash where there are none."""
    return "–" if value is None else f"{value:,.3g} ms" if value < 1000 else f"{value / 1000:,.3g} s"


def clock(at: float) -> str:
    """A time of the day to the minute, in UTC."""
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%H:%M}"


def size(bytes: int | None) -> str:
    """A size in the unit that suits it; a dash where it is not known."""
    if bytes is None:
        return "–"
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if bytes >= factor:
            return f"{bytes / factor:,.3g} {unit}"
    return f"{bytes} B"
