"""Which limits an account has, by its tier: data, and a setting in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holdfast.errors import ConfigurationError
from holdfast.guard.limits.limit import Limit, limits_of_text

DEFAULTS = "free=60/min, pro=1000/min, enterprise=unlimited"
FREE = "free"


class Tiers(Mapping[str, tuple[Limit, ...]]):
    """Limits by tier: those of a text, and the defaults for tiers that it does not name.

    Args:
        text: `free=60/min, pro=10/s + month: 50_000/30d quota, enterprise=unlimited`, as in `HOLDFAST_LIMITS`.

    Raises:
        ConfigurationError: the text says no limits, or one tier twice.
    """

    def __init__(self, text: str = "") -> None:
        self._limits = _said(DEFAULTS) | _said(text)

    def __getitem__(self, tier: str) -> tuple[Limit, ...]:
        """The limits of a tier. ConfigurationError: there is none of this name."""
        found = self._limits.get(tier)
        if found is None:
            raise ConfigurationError(
                f"no tier is called {str(tier)[:64]!r}; there are {', '.join(self)}, and HOLDFAST_LIMITS may name more"
            )
        return found

    def __contains__(self, tier: object) -> bool:
        return tier in self._limits

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)


def _said(text: str) -> dict[str, tuple[Limit, ...]]:
    found: dict[str, tuple[Limit, ...]] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        tier, sign, limits = (part.strip() for part in pair.partition("="))
        if not sign or not tier or tier in found:
            raise ConfigurationError(
                f"{pair!r} in HOLDFAST_LIMITS is no tier with its limits, or one that was said before; write"
                " free=60/min, pro=1000/min"
            )
        try:
            found[tier] = limits_of_text(limits)
        except ConfigurationError as error:
            raise ConfigurationError(f"HOLDFAST_LIMITS, of the tier {tier[:64]!r}: {error}") from None
    return found
