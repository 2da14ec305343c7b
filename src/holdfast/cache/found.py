"""What a look-up gives."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a look-up gives where nothing fresh is kept."""


class Found(msgspec.Struct, Generic[T], frozen=True):
    """A value, and how it was had.

    Attributes:
        value: what was asked for.
        stale: whether it may be older than `max_staleness` allows: loading anew failed or took too long.
        loaded: whether it was loaded for this call.
    """

    value: T
    stale: bool = False
    loaded: bool = False
