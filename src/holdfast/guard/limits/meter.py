"""One identity and its limits, worked out once for who calls often."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.guard.limits.limit import Limit
from holdfast.guard.limits.window import Demand


class Meter(NamedTuple):
    """What `Limiter.hit_meter` counts a call by. Made by `Limiter.meter`.

    Attributes:
        limits: that it has.
        demands: what is counted where all processes count.
        parts: what is counted where this process counts by itself.
        is_unlimited: whether nothing is counted.
        is_quota: whether one of the limits is about money.
    """

    limits: tuple[Limit, ...]
    demands: tuple[Demand, ...]
    parts: tuple[Demand, ...]
    is_unlimited: bool
    is_quota: bool
