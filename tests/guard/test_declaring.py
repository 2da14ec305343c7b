"""What is a limit, what tiers are, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Settings
from holdfast.errors import ConfigurationError
from holdfast.guard.limits import Limit, Tiers
from holdfast.guard.limits.limit import limits_of


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("60/min", Limit(60, 60.0, "per-minute")),
        (" 60 / minute ", Limit(60, 60.0, "per-minute")),
        ("5/s", Limit(5, 1.0, "per-second")),
        ("1/m", Limit(1, 60.0, "per-minute")),
        ("0/hour", Limit(0, 3_600.0, "per-hour")),
        ("10_000/day", Limit(10_000, 86_400.0, "per-day")),
        ("burst: 100/10s", Limit(100, 10.0, "burst")),
        ("3/250ms", Limit(3, 0.25, "per-0.25s")),
        ("7/1h30m", Limit(7, 5_400.0, "per-5400s")),
        ("month: 50_000/30d quota", Limit(50_000, 2_592_000.0, "month", quota=True)),
        ("unlimited", Limit(None, name="unlimited")),
    ],
)
def test_a_limit_is_read_from_a_text(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit
    assert limits_of(text) == (limit,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "/min",
        "60/",
        "-1/min",
        "1.5/min",
        "60/year",
        "60/0s",
        "a b: 60/min",
        "60/400d",
        "9" * 13 + "/s",
    ],
)
def test_what_is_no_limit_is_refused_with_a_way_to_write_one(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Limit.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_limit_or_is_refused(text: str) -> None:
    try:
        limit = Limit.parse(text)
    except ConfigurationError:
        return
    assert limit.is_unlimited or limit.window > 0


@pytest.mark.parametrize("most", [-1, 1.5, True, "60", 10**13])
def test_a_limit_is_a_whole_number(most: Any) -> None:
    with pytest.raises(ConfigurationError, match="a whole number up to"):
        Limit(most)


@pytest.mark.parametrize("given", ["1/s + 2/s", ["1/s", Limit(2, 1.0)], [1], [f"n{n}: 1/s" for n in range(11)]])
def test_limits_of_one_call_have_different_names(given: Any) -> None:
    with pytest.raises(ConfigurationError):
        limits_of(given)


def test_tiers_are_data_and_a_setting_adds_to_them() -> None:
    tiers = Tiers()
    assert dict(tiers) == {
        "free": (Limit(60, 60.0),),
        "pro": (Limit(1_000, 60.0),),
        "enterprise": (Limit(None, name="unlimited"),),
    }
    tiers = Tiers("free=5/min, trial=1/s + day: 50/day quota")
    assert tiers["free"] == (Limit(5, 60.0),)
    assert tiers["trial"] == (Limit(1, 1.0), Limit(50, 86_400.0, "day", quota=True))
    assert len(tiers) == 4
    assert "gold" not in tiers


@pytest.mark.parametrize("text", ["free", "=60/min", "free=", "free=60", "free=1/s, free=2/s"])
def test_what_says_no_tiers_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Tiers(text)


def test_settings_name_what_limits_need() -> None:
    settings = Settings.from_environment(
        {"HOLDFAST_LIMITS": "free=1/min", "HOLDFAST_INSTANCES": "3", "HOLDFAST_SERVICE_TOLERANCE": "30"}
    )
    assert (settings.limits, settings.instances, settings.service_tolerance) == ("free=1/min", 3, 30.0)
    with pytest.raises(ConfigurationError, match="HOLDFAST_INSTANCES must be 1 or more"):
        Settings.from_environment({"HOLDFAST_INSTANCES": "0"})
