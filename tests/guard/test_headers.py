"""What a response says of a decision."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guard.limits import Decision, Limit, Standing, headers_of, problem_of

BURST = Limit(100, 60.0, "burst")
DAILY = Limit(5_000, 86_400.0, "daily")


def test_an_allowed_call_tells_of_every_limit() -> None:
    decision = Decision(
        True, (Standing(BURST, 50, 29.2, 0.0), Standing(DAILY, 4_000, 86_400.0, 0.0)), 1_700_000_000.5, "redis"
    )
    assert (decision.remaining, decision.reset, decision.retry_after) == (50, 86_400.0, 0.0)
    assert headers_of(decision) == {
        "RateLimit-Policy": '"burst";q=100;w=60, "daily";q=5000;w=86400',
        "RateLimit": '"burst";r=50;t=30, "daily";r=4000;t=86400',
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "50",
        "X-RateLimit-Reset": "1700000030",
    }


def test_a_denied_call_tells_of_what_denies_it_and_when_to_come_again() -> None:
    decision = Decision(
        False, (Standing(BURST, 0, 58.0, 2.4), Standing(DAILY, 4_000, 86_000.0, 0.0)), 1_700_000_000.0, "redis"
    )
    assert headers_of(decision) == {
        "RateLimit-Policy": '"burst";q=100;w=60, "daily";q=5000;w=86400',
        "RateLimit": '"burst";r=0;t=3',
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1700000058",
        "Retry-After": "3",
    }
    problem = problem_of(decision)
    assert problem["status"] == 429
    assert problem["title"] == "Too Many Requests"
    assert problem["detail"] == "burst (100 in 60 s): try again in 3 s"
    assert problem["retry_after"] == 2.4
    assert [(one["name"], one["denies"]) for one in problem["limits"]] == [("burst", True), ("daily", False)]
    assert msgspec.json.decode(msgspec.json.encode(problem)) == problem


def test_a_call_that_would_never_pass_is_not_told_to_come_again() -> None:
    decision = Decision(False, (Standing(Limit(0), 0, 0.0, None),), 1_700_000_000.0, "redis")
    assert "Retry-After" not in headers_of(decision)
    problem = problem_of(decision)
    assert "retry_after" not in problem
    assert problem["detail"] == "this call costs more than per-minute (0 in 60 s) ever lets through"


def test_where_nothing_limits_nothing_is_told() -> None:
    decision = Decision(True, (Standing(Limit(None), None, 0.0, 0.0),), 0.0, "nowhere")
    assert headers_of(decision) == {}
    assert decision.remaining is None
    with pytest.raises(ValueError, match="is no problem"):
        problem_of(decision)


waits = st.one_of(st.just(0.0), st.floats(1e-6, 90_000), st.none())


@given(st.lists(st.tuples(waits, st.floats(0, 90_000), st.integers(0, 100)), min_size=1, max_size=4))
def test_retry_after_is_never_before_a_t_that_is_told(given: list[tuple[float | None, float, int]]) -> None:
    standings = tuple(
        Standing(Limit(100, 60.0, f"n{number}"), remaining, reset, wait)
        for number, (wait, reset, remaining) in enumerate(given)
    )
    decision = Decision(not any(one.denies for one in standings), standings, 1_700_000_000.0, "redis")
    headers = headers_of(decision)
    for item in headers["RateLimit"].split(", "):
        found = re.fullmatch(r'"n\d";r=\d+;t=(\d+)', item)
        assert found is not None
        if "Retry-After" in headers:
            assert int(headers["Retry-After"]) >= int(found[1])
            assert decision.retry_after is not None
            assert int(headers["Retry-After"]) >= decision.retry_after
    assert ("Retry-After" in headers) == (not decision.allowed and decision.retry_after is not None)


@pytest.mark.parametrize(
    ("window", "told"),
    [(0.5, "0.5 s"), (90, "90 s"), (3_600, "1 h"), (5_400, "5400 s"), (86_400, "1 day"), (2_592_000, "30 days")],
)
def test_a_window_is_told_as_people_say_it(window: float, told: str) -> None:
    decision = Decision(False, (Standing(Limit(40, window, "month"), 0, 1.0, 1.0),), 0.0, "redis")
    assert problem_of(decision)["detail"] == f"month (40 in {told}): try again in 1 s"
