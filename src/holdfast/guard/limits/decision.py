"""What is decided about a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from holdfast.guard.limits.limit import Limit
from holdfast.guard.limits.window import Answer

AGAIN = 1.0  # seconds until a call may ask again that could not be counted

Source = Literal["redis", "memory", "nowhere"]


class Standing(msgspec.Struct, frozen=True):
    """How a caller stands with one limit.

    Attributes:
        limit: as it was declared.
        remaining: how many more pass now; None where it is unlimited.
        reset: seconds until nothing counts any more if nobody came.
        retry_after: seconds after which the call that was denied would pass; 0.0: this limit let it pass, None: it
            never would, since it costs more than the limit.
    """

    limit: Limit
    remaining: int | None
    reset: float
    retry_after: float | None

    @property
    def denies(self) -> bool:
        """Whether the call may not pass for this limit."""
        return self.retry_after != 0.0


class Decision(msgspec.Struct, frozen=True):
    """What is decided about a call. It is true where the call may pass.

    Attributes:
        allowed: whether it may pass; one that may not has cost nothing.
        standings: how the caller stands with each limit, in their order.
        at: by the clock that counted, in seconds since 1970.
        source: where it was counted; `nowhere`: nothing limits it, or it could not be counted, and a quota lets nobody
            pass then.
    """

    allowed: bool
    standings: tuple[Standing, ...]
    at: float
    source: Source

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def denied(self) -> tuple[Standing, ...]:
        """The limits that deny it."""
        return tuple(standing for standing in self.standings if standing.denies)

    @property
    def is_unavailable(self) -> bool:
        """Whether it is denied only since it could not be counted: Redis is away."""
        return not self.allowed and self.source == "nowhere"

    @property
    def binding(self) -> Standing | None:
        """The limit to be told of: of those that deny it the one that does longest, else the one that is nearest."""
        if not self.allowed:
            return max(self.denied, key=lambda one: float("inf") if one.retry_after is None else one.retry_after)
        limited = [one for one in self.standings if one.remaining is not None]
        return min(limited, key=lambda one: one.remaining or 0, default=None)

    @property
    def remaining(self) -> int | None:
        """How many more pass now; None where nothing limits them."""
        return min((one.remaining for one in self.standings if one.remaining is not None), default=None)

    @property
    def reset(self) -> float:
        """Seconds until nothing counts any more if nobody came."""
        return max((one.reset for one in self.standings), default=0.0)

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the call would pass if nobody else came, and not a millisecond before; None: never."""
        waits = [one.retry_after for one in self.standings]
        return None if None in waits else max((wait for wait in waits if wait is not None), default=0.0)


def decided(limits: Sequence[Limit], answer: Answer, source: Source, most: Sequence[int]) -> Decision:
    """The decision of an answer to those limits that are limited, which had `most` left to give."""
    given = iter(zip(answer.said, most, strict=True))
    standings = []
    for limit in limits:
        if limit.most is None:
            standings.append(Standing(limit, None, 0.0, 0.0))
            continue
        said, local = next(given)
        wait = said.wait / 1e6 if said.wait >= 0 else None
        standings.append(Standing(limit, max(0, local - said.used), said.whole / 1e6, wait))
    return Decision(answer.passes, tuple(standings), answer.now, source)


def unlimited(limits: Sequence[Limit], at: float) -> Decision:
    """The decision where nothing limits."""
    return Decision(True, tuple(Standing(limit, None, 0.0, 0.0) for limit in limits), at, "nowhere")


def uncounted(limits: Sequence[Limit], at: float) -> Decision:
    """The decision where a quota is asked for that cannot be counted."""
    standings = (
        Standing(limit, 0, AGAIN, AGAIN) if limit.quota and limit.most is not None else Standing(limit, None, 0.0, 0.0)
        for limit in limits
    )
    return Decision(False, tuple(standings), at, "nowhere")
