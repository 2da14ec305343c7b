"""`hold.limits`: who may call how often."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from holdfast.errors import InvalidValue, Unavailable
from holdfast.guard.limits.decision import AGAIN, Decision, decided, uncounted, unlimited
from holdfast.guard.limits.limit import AnyLimits, Limit, limits_of
from holdfast.guard.limits.memory import MemoryLimits
from holdfast.guard.limits.meter import Meter
from holdfast.guard.limits.redis import RedisLimits
from holdfast.guard.limits.tiers import FREE, Tiers
from holdfast.guard.limits.window import EXACT, NEVER, Answer, Demand, Said
from holdfast.logs import get_logger
from holdfast.store.redis import Away, Redis

log = get_logger("holdfast.guard")

_LONGEST = 1_024  # characters of an identity
_SAID_AGAIN = 60.0  # seconds after which it is logged again that it is counted here


class Limiter:
    """Lets callers through as often as their limits say, over all processes that share a Redis.

    Without a Redis, or while it is away, each of `instances` processes lets an equal part through by itself.

    Args:
        redis: where all processes count; None: this one is the only one.
        tiers: limits by tier.
        prefix: what names in Redis begin with.
        instances: how many processes there are.

    Attributes:
        tiers: as given.
    """

    def __init__(
        self, redis: Redis | None = None, *, tiers: Tiers | None = None, prefix: str = "holdfast", instances: int = 1
    ) -> None:
        self.tiers = Tiers() if tiers is None else tiers
        self._prefix = prefix
        self._instances = instances
        self._redis = None if redis is None else RedisLimits(redis)
        self._memory = MemoryLimits()
        self._said_until = 0.0

    async def hit(
        self, identity: str, cost: int = 1, *, limits: AnyLimits | None = None, tier: str | None = None
    ) -> Decision:
        """Count a call of `identity`, if all its limits let it pass; one that is denied costs nothing.

        Args:
            identity: who calls, such as `user:42` or `org:7`; Redis has a digest of it only.
            cost: what the call counts for, 1 or more.
            limits: in place of those of the tier: `"60/min"`, `"burst: 10/s + 500/hour"`, a `Limit`, or several.
            tier: a name of `tiers`; `free` unless given.

        Raises:
            ConfigurationError: the limits are none, or there is no such tier.
            InvalidValue: the identity is empty or longer than 1,024 characters, or the cost is no whole number above 0.
        """
        return await self._decide(self.meter(identity, limits=limits, tier=tier), cost, charge=True)

    def meter(
        self,
        identity: str,
        *,
        limits: AnyLimits | None = None,
        tier: str | None = None,
        own: tuple[str, Sequence[Limit]] | None = None,
    ) -> Meter:
        """What `hit_meter` counts for an identity; arguments and errors as of `hit`.

        Args:
            own: limits that a part of the identity has beside, such as one of an organisation's keys, and how the part
                is called: they count what it does, the others what all of it does.
        """
        chosen = self._chosen(limits, tier)
        part, of_part = own or ("", ())

        def demanded(instances: int) -> tuple[Demand, ...]:
            all_of_it = self._demands(self._tag(identity), chosen, instances)
            return all_of_it + self._demands(f"{self._tag(identity)}:{part}", of_part, instances)

        demands = demanded(1)
        parts = demands if self._instances == 1 else demanded(self._instances)
        chosen += tuple(of_part)
        return Meter(
            chosen,
            demands,
            parts,
            all(limit.is_unlimited for limit in chosen),
            any(limit.quota and not limit.is_unlimited for limit in chosen),
        )

    async def hit_meter(self, meter: Meter, cost: int = 1) -> Decision:
        """What `hit` does; InvalidValue: as there."""
        return await self._decide(meter, cost, charge=True)

    async def peek(
        self, identity: str, cost: int = 1, *, limits: AnyLimits | None = None, tier: str | None = None
    ) -> Decision:
        """What `hit` would decide, and nothing is counted. Arguments and errors as there."""
        return await self._decide(self.meter(identity, limits=limits, tier=tier), cost, charge=False)

    async def reset(self, identity: str, *, limits: AnyLimits | None = None, tier: str | None = None) -> None:
        """Forget what was counted of `identity` for these limits; arguments as of `hit`.

        Raises:
            As `hit`. Unavailable: Redis does not answer, and has forgotten nothing, or not yet.
        """
        meter = self.meter(identity, limits=limits, tier=tier)
        self._memory.forget(meter.parts)
        if self._redis is None or not meter.demands:
            return
        try:
            await self._redis.forget(meter.demands)
        except Away:
            raise Unavailable("Redis does not answer, so what it has counted is not reset; try again") from None

    async def _decide(self, meter: Meter, cost: int, *, charge: bool) -> Decision:
        chosen = meter.limits
        if type(cost) is not int or cost < 1:
            raise InvalidValue(f"a call costs 1 or more, a whole number, not {cost!r}")
        if meter.is_unlimited:
            return unlimited(chosen, time.time())
        if self._redis is not None:
            try:
                answer = await self._redis.ask(meter.demands, cost, charge=charge)
            except Away:
                self._say_that_it_is_away()
                if meter.is_quota:
                    return uncounted(chosen, time.time())
            else:
                return decided(chosen, answer, "redis", [demand.most for demand in meter.demands])
        return self._here(meter, cost, charge=charge)

    def _here(self, meter: Meter, cost: int, *, charge: bool) -> Decision:
        """What this process decides by itself, with its part of each limit."""
        limits, parts = meter.limits, meter.parts
        answer = self._memory.ask(parts, cost, charge=charge)
        if self._instances > 1 and not answer.passes:
            answer = _perhaps_elsewhere(answer, [limit.most or 0 for limit in limits if not limit.is_unlimited], cost)
        return decided(limits, answer, "memory", [part.most for part in parts])

    def _chosen(self, limits: AnyLimits | None, tier: str | None) -> tuple[Limit, ...]:
        return self.tiers[FREE if tier is None else tier] if limits is None else limits_of(limits)

    def _demands(self, tag: str, limits: Sequence[Limit], instances: int) -> tuple[Demand, ...]:
        """What is counted for each limit that is one, under names that begin with a tag."""
        demands = []
        for limit in limits:
            if limit.most is None:
                continue
            most = limit.most if instances == 1 or not limit.most else max(1, limit.most // instances)
            window = round(limit.window * 1_000)
            kind = "log" if limit.most <= EXACT else "sub"
            name = f"{tag}:{limit.name}:{window}:{kind}"
            demands.append(Demand(name, most, window * 1_000))
        return tuple(demands)

    def _tag(self, identity: str) -> str:
        """What names of an identity begin with, which does not tell who it is; InvalidValue: it is none."""
        if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST:
            raise InvalidValue(f"an identity is a text of 1 to {_LONGEST:,} characters, such as 'user:42'")
        digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"{self._prefix}:limit:{{{digest}}}"

    def _say_that_it_is_away(self) -> None:
        now = time.monotonic()
        if now >= self._said_until:
            self._said_until = now + _SAID_AGAIN
            log.warning("limits_without_redis", instances=self._instances)


def _perhaps_elsewhere(answer: Answer, most: Sequence[int], cost: int) -> Answer:
    """The answer to a call that costs more than this process' part: it is not that it would never pass."""
    wait = round(AGAIN * 1e6)
    said = (
        Said(one.used, wait if one.wait == NEVER and cost <= limit else one.wait, one.whole)
        for one, limit in zip(answer.said, most, strict=True)
    )
    return Answer(answer.now, answer.passes, tuple(said))
