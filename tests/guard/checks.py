"""What must be so of limits, said without their rules; and limiters with a fault that these checks must find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from holdfast.guard.limits.script import HIT

SECOND = 1_000_000


class Admitted(NamedTuple):
    at: int  # microseconds
    cost: int


def most_in_any_window(admitted: Sequence[Admitted], window: int) -> int:
    """The most that was admitted in any half-open window of so many microseconds."""
    ordered = sorted(admitted)
    most = inside = first = 0
    for one in ordered:
        inside += one.cost
        while ordered[first].at <= one.at - window:
            inside -= ordered[first].cost
            first += 1
        most = max(most, inside)
    return most


def counted(admitted: Sequence[Admitted], after: int, until: int) -> int:
    """What was admitted after one moment and until another."""
    return sum(one.cost for one in admitted if after < one.at <= until)


# The window by sorted set that is often written: those of one millisecond are one member, and who is denied counts.
BY_SORTED_SET = """
local clock = redis.call('TIME')
local now, answers = clock[1] * 1000000 + clock[2], {}
for i, key in ipairs(KEYS) do
  local most, window = string.match(ARGV[i], '^1 %d+ 1 (%d+) (%d+) %d+$')
  most, window = tonumber(most), tonumber(window)
  local stamp = math.floor(now / 1000)
  redis.call('ZREMRANGEBYSCORE', key, 0, stamp - window / 1000)
  redis.call('ZADD', key, stamp, stamp)
  local count = redis.call('ZCARD', key)
  redis.call('PEXPIRE', key, window / 1000)
  if count <= most then answers[i] = {now, 1, count, 0, window} else answers[i] = {now, 0, count, window, window} end
end
return answers
"""

DENIED_COUNT_TOO = HIT.replace("if not (all and charge) then return answer end", "if not charge then return answer end")
ONE_COUNTS_THOUGH_ANOTHER_DENIES = HIT.replace(
    "if passes ~= 0 then all = false end",
    "if passes ~= 0 then all = false elseif charge and width == 0 then redis.call('LPUSH', key, time) end",
)
ONE_MORE = HIT.replace("and count + cost > most then", "and count + cost > most + 1 then")
NOTHING_LEAVES = HIT.replace("if at(key, -1) <= edge then", "if false then")
