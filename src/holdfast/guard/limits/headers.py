"""What a response says of a decision: headers, and the body of a denial. Data only; the response is made above.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers, `X-RateLimit-*` the older ones.
"""

from __future__ import annotations

import math
from typing import Any

from holdfast.cache.durations import written
from holdfast.guard.limits.decision import Decision, Standing


def headers_of(decision: Decision) -> dict[str, str]:
    """The headers of a response; empty where nothing limits.

    `RateLimit-Policy` has every limit, `RateLimit` every limit of an allowed call and those that deny a denied one: so
    `Retry-After`, which a denied one has unless it would never pass, is never before a `t`. Of `X-RateLimit-*`, which
    can tell of one limit only, `Reset` is in seconds since 1970. Seconds are whole, rounded up.
    """
    limited = [one for one in decision.standings if one.limit.most is not None]
    told = [one for one in (limited if decision.allowed else decision.denied) if one.remaining is not None]
    if not told:
        return {}
    headers = {
        "RateLimit-Policy": ", ".join(one.limit.policy for one in limited),
        "RateLimit": ", ".join(f'"{one.limit.name}";r={one.remaining};t={_seconds_of(one)}' for one in told),
    }
    binding = decision.binding
    if binding is not None and binding.remaining is not None:
        headers["X-RateLimit-Limit"] = str(binding.limit.most)
        headers["X-RateLimit-Remaining"] = str(binding.remaining)
        headers["X-RateLimit-Reset"] = str(math.ceil(decision.at + binding.reset))
    if not decision.allowed and decision.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(decision.retry_after))
    return headers


def problem_of(decision: Decision) -> dict[str, Any]:
    """The members of a problem (RFC 9457) for a call that was denied: `type`, `title`, `status`, `detail`, `limits`.

    `status` is 429, or 503 where it could not be counted. `retry_after` has seconds, exactly; it is left out where the
    call would never pass.

    Raises:
        ValueError: the call was allowed.
    """
    if decision.allowed:
        raise ValueError("a call that was allowed is no problem")
    wait = decision.retry_after
    names = ", ".join(f"{one.limit.name} ({one.limit.most} in {written(one.limit.window)})" for one in decision.denied)
    if decision.is_unavailable:
        status, title, detail = 503, "Service Unavailable", f"what counts against {names} is not known just now"
    elif wait is None:
        status, title, detail = 429, "Too Many Requests", f"this call costs more than {names} ever lets through"
    else:
        status, title, detail = 429, "Too Many Requests", f"{names}: try again in {math.ceil(wait)} s"
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if wait is not None:
        problem["retry_after"] = wait
    problem["limits"] = [
        {
            "name": one.limit.name,
            "limit": one.limit.most,
            "window": one.limit.window,
            "remaining": one.remaining,
            "denies": one.denies,
        }
        for one in decision.standings
        if one.limit.most is not None
    ]
    return problem


def _seconds_of(standing: Standing) -> int:
    """Of a limit that denies when it lets the call pass, of others when all of it is there again."""
    if standing.denies:
        return math.ceil(standing.limit.window if standing.retry_after is None else standing.retry_after)
    return math.ceil(standing.reset)
