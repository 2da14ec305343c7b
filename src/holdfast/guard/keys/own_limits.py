"""Limits that a key has of its own, beside those of its tier: checked as they are given, read to be counted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.guard.limits import Limit
from holdfast.guard.limits.limit import check_names

LIMITS = 5  # that a key may have
_LONGEST = 100  # characters of one
_PREFIX = "key-"


def checked_limits(limits: Iterable[str] | None) -> list[str] | None:
    """Limits of a key, as they are kept; None where it has none.

    Raises:
        InvalidValue: one is none, or says `unlimited`; they are too many, or two are called the same.
    """
    if limits is None:
        return None
    if isinstance(limits, str):
        raise InvalidValue(f"limits={limits[:60]!r} are several; write ({limits[:60]!r},)")
    found = [_checked(limit) for limit in limits]
    if len(found) > LIMITS:
        raise InvalidValue(f"a key has at most {LIMITS} limits of its own, not {len(found)}")
    try:
        check_names([Limit.parse(text) for text in found])
    except ConfigurationError as error:
        raise InvalidValue(str(error)) from None
    return found or None


@lru_cache(maxsize=1_024)
def own_limits(limits: tuple[str, ...]) -> tuple[Limit, ...]:
    """The limits of a key, under names that headers tell from those of its tier: `key-per-minute`."""
    return tuple(_named(Limit.parse(text)) for text in limits)


def _checked(text: str) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise InvalidValue(f"{str(text)[:60]!r} is no limit of a key; write how many in how long, as '100/minute'")
    try:
        limit = Limit.parse(text)
        if limit.is_unlimited:
            raise InvalidValue("'unlimited' is no limit of a key: leave limits out, and it has those of its tier alone")
        _named(limit)
    except ConfigurationError as error:
        raise InvalidValue(f"a limit of a key cannot be: {error}"[:500]) from None
    return text.strip()


def _named(limit: Limit) -> Limit:
    return Limit(limit.most, limit.window, _PREFIX + limit.name, limit.quota)
