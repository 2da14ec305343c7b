"""Services that sign their calls: who may pass, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devservers import start_redis
from holdfast import Holdfast
from holdfast.errors import ConfigurationError, InvalidValue, Unavailable
from holdfast.guard.services import ServiceRefused, Services, sign
from tests.backends import settings_for
from tests.guard.conftest import Connect
from tests.logs import capture_logs

SECRET, OTHER = "s" * 32, "another-secret-of-forty-letters-or-so"
KEYS = f"mcp:{SECRET}, billing:{OTHER}"
NOW = 1_700_000_000.0
CALL = ("POST", "/v1/prices?symbol=SOL|x", b'{"a": 1}')


def signed(now: float = NOW, **given: Any) -> str:
    return sign(*CALL, **{"key": "mcp", "secret": SECRET, "now": now, **given})


@pytest.fixture(params=["memory", "redis", "redis_cluster"])
def services(request: pytest.FixtureRequest, connect: Connect) -> Services:
    redis_url = None if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    redis = None if redis_url is None else connect(redis_url)
    return Services(KEYS, redis=redis, clock=lambda: NOW)


async def test_a_signed_call_passes_once(services: Services) -> None:
    assert await services.verify(signed(), *CALL) == "mcp"
    assert await services.verify(signed(key="billing", secret=OTHER), *CALL) == "billing"
    again = signed()
    outcomes = await asyncio.gather(*(services.verify(again, *CALL) for _ in range(20)), return_exceptions=True)
    assert outcomes.count("mcp") == 1
    assert sum(isinstance(one, ServiceRefused) for one in outcomes) == 19


@pytest.mark.parametrize(
    "call",
    [
        ("GET", *CALL[1:]),
        ("POST", "/v1/prices?symbol=SOL", CALL[2]),
        ("POST", "/v1/prices", CALL[2]),
        (*CALL[:2], b'{"a": 2}'),
        (*CALL[:2], b""),
        ("post", *CALL[1:]),
        ("POST", "v1/prices", CALL[2]),
        ("POST", "/v1/\n", CALL[2]),
        ("POST", "/" + "x" * 9_000, CALL[2]),
    ],
)
async def test_a_signature_is_good_for_its_call_only_and_is_not_used_up_by_others(
    services: Services, call: Any
) -> None:
    signature = signed()
    with pytest.raises(ServiceRefused):
        await services.verify(signature, *call)
    assert await services.verify(signature, *CALL) == "mcp"


@pytest.mark.parametrize("part", range(5))
async def test_no_part_of_a_signature_can_be_changed(services: Services, part: int) -> None:
    signature = signed()
    parts = signature.split(".")
    for changed in ("billing", "nobody", "v2", str(int(NOW) + 1), "n" * 20, "0" * 64, "", "x" * 300):
        forged = ".".join([*parts[:part], changed, *parts[part + 1 :]])
        with pytest.raises(ServiceRefused):
            await services.verify(forged, *CALL)
    assert await services.verify(signature, *CALL) == "mcp"


@pytest.mark.parametrize(("off", "passes"), [(-61, False), (-59, True), (0, True), (59, True), (61, False)])
async def test_clocks_may_differ_by_a_minute(services: Services, off: int, passes: bool) -> None:
    if passes:
        assert await services.verify(signed(NOW + off), *CALL) == "mcp"
    else:
        with pytest.raises(ServiceRefused, match="clocks may differ by 60 s"):
            await services.verify(signed(NOW + off), *CALL)


@given(st.none() | st.text(max_size=300))
async def test_anything_else_is_refused(text: str | None) -> None:
    with pytest.raises(ServiceRefused):
        await Services(KEYS).verify(text, *CALL)


async def test_with_redis_away_nobody_passes(connect: Connect) -> None:
    with start_redis() as server:
        redis = connect(server.url, timeout=0.5)
        services = Services(KEYS, redis=redis, clock=lambda: NOW)
        server.stop()
        with pytest.raises(Unavailable, match="cannot be told from a repeated one"):
            await services.verify(signed(), *CALL)
        with pytest.raises(ServiceRefused):  # who has no key learns nothing of it
            await services.verify(signed(secret=OTHER), *CALL)


async def test_what_is_remembered_without_redis_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.guard.services._REMEMBERED", 3)
    services = Services(KEYS, clock=lambda: NOW)
    for _ in range(3):
        await services.verify(signed(), *CALL)
    with pytest.raises(Unavailable, match="use Redis"):
        await services.verify(signed(), *CALL)


async def test_what_is_remembered_without_redis_leaves() -> None:
    services = Services(KEYS, clock=lambda: NOW, tolerance=0.001)
    services._note_here("a", -1.0)
    await services.verify(signed(NOW), *CALL)
    assert "a" not in services._used


@pytest.mark.parametrize(
    "keys",
    ["mcp", f"a b:{SECRET}", f"mcp:{'short' * 3}", f"mcp:{SECRET},mcp:{OTHER}", f":{SECRET}", f"{SECRET},{OTHER}"],
)
def test_malformed_keys_are_refused_and_never_told(keys: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        Services(keys)
    assert SECRET not in str(told.value)
    assert "short" * 3 not in str(told.value)


@pytest.mark.parametrize("given", [{"secret": "short"}, {"key": "a.b"}])
def test_what_cannot_be_signed_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as told:
        signed(**given)
    assert SECRET not in str(told.value)


def test_a_body_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidValue, match="up to 16 MiB"):
        sign("POST", "/", bytes(2**24 + 1), key="mcp", secret=SECRET)


async def test_no_secret_is_in_logs_errors_or_what_is_printed() -> None:
    services = Services(KEYS, clock=lambda: NOW)
    with capture_logs() as logs:
        told = [repr(services)]
        for signature in (signed(secret=OTHER), "v1", signed(NOW + 999)):
            with pytest.raises(ServiceRefused) as refused:
                await services.verify(signature, *CALL)
            told.append(str(refused.value))
    assert not any(secret in text for secret in (SECRET, OTHER) for text in [*told, str(logs)])


def test_the_blocking_face_verifies_too(sqlite_url: str) -> None:
    with Holdfast.blocking(settings=settings_for(sqlite_url, service_keys=KEYS)) as hold:
        signature = sign(*CALL, key="mcp", secret=SECRET)
        assert hold.services.verify(signature, *CALL) == "mcp"
        with pytest.raises(ServiceRefused, match="was used before"):
            hold.services.verify(signature, *CALL)
