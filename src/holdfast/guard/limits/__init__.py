"""Who may call how often: exact sliding windows, over all processes."""

from holdfast.guard.limits.decision import Decision, Standing
from holdfast.guard.limits.headers import headers_of, problem_of
from holdfast.guard.limits.limit import AnyLimits, Limit
from holdfast.guard.limits.limiter import Limiter
from holdfast.guard.limits.memory import MemoryLimits
from holdfast.guard.limits.redis import RedisLimits
from holdfast.guard.limits.tiers import Tiers

__all__ = [
    "AnyLimits",
    "Decision",
    "Limit",
    "Limiter",
    "MemoryLimits",
    "RedisLimits",
    "Standing",
    "Tiers",
    "headers_of",
    "problem_of",
]
