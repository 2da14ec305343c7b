"""Keys that open nothing cost the address that sends them; whose word is taken for what that address is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.errors import ConfigurationError
from holdfast.guard.keys.text import new_key
from holdfast.guard.limits import Limiter
from holdfast.http import create_app
from holdfast.http.addresses import networks_of
from holdfast.http.guesses import Guesses
from holdfast.http.problems import Refusal
from tests.http.press import Press, press_at

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Press]:
    url = f"sqlite:///{tmp_path_factory.mktemp('guesses') / 'press.db'}"
    async with press_at(url, key_guesses=f"{MOST}/hour", trusted_proxies="10.0.0.0/8, 2001:db8::1") as made:
        yield made


async def ask(press: Press, key: str, address: str, forwarded: str | None = None) -> httpx.Response:
    """The answer to who asks for memos from an address."""
    transport = httpx.ASGITransport(app=press.client._transport.app, client=(address, 4711))  # type: ignore[attr-defined]
    headers = {"X-API-Key": key} | ({} if forwarded is None else {"X-Forwarded-For": forwarded})
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        return await client.get("/v1/resources/memos", headers=headers)


@pytest.mark.parametrize("mode", ["live", "session", "malformed"])
async def test_who_guesses_is_shut_out(press: Press, mode: Any) -> None:
    address = {"live": "192.0.2.1", "session": "192.0.2.2", "malformed": "192.0.2.3"}[mode]
    ada = press.keys["ada"]
    assert (await ask(press, ada, address)).status_code == 200
    for _ in range(MOST):
        guess = "nothing" if mode == "malformed" else new_key("hold", mode)
        assert (await ask(press, guess, address)).status_code == 401
    for _ in range(2):
        shut = await ask(press, new_key("hold", "session" if mode == "session" else "live"), address)
        assert (shut.status_code, shut.headers["content-type"]) == (429, "application/problem+json")
        assert 3_500 < int(shut.headers["retry-after"]) <= 3_600
        assert "your address" in shut.json()["detail"]
    for _ in range(20):  # on a machine that has stood still for a second nothing is known for sure
        await press.hold.cache.renew()
        known = await ask(press, ada, address)
        if known.status_code == 200:
            break
    assert known.status_code == 200  # whose key is known here, is not asked for it
    assert (await ask(press, new_key("hold", "live"), "192.0.2.99")).status_code == 401  # nobody else is shut out


async def test_a_good_key_is_not_looked_up_from_there(press: Press) -> None:
    for _ in range(MOST + 1):
        answer = await ask(press, new_key("hold", "live"), "192.0.2.4")
    assert answer.status_code == 429
    assert (await ask(press, press.keys["eve"], "192.0.2.4")).status_code == 429
    assert (await ask(press, press.keys["eve"], "192.0.2.5")).status_code in (200, 403)


async def test_the_neighbours_of_one_subscriber_are_he_himself(press: Press) -> None:
    statuses = [(await ask(press, "guess", f"2001:db8:1:2::{part:x}")).status_code for part in range(1, MOST + 2)]
    assert statuses == [401] * MOST + [429]
    assert (await ask(press, "guess", "::ffff:192.0.2.6")).status_code == 401


async def test_a_proxy_that_is_ours_says_who_asks_and_nobody_else_does(press: Press) -> None:
    for number in range(MOST + 1):
        answer = await ask(press, "guess", "10.1.2.3", f"198.51.100.{number}, 192.0.2.7")
    assert answer.status_code == 429  # what stands before the last address, the caller wrote himself
    assert (await ask(press, "guess", "10.1.2.3", "192.0.2.8")).status_code == 401
    statuses = [(await ask(press, "guess", "192.0.2.9", f"198.51.100.{n}")).status_code for n in range(MOST + 1)]
    assert statuses == [401] * MOST + [429]  # he is no proxy of ours


async def test_the_time_comes_when_he_may_again() -> None:
    now = [0.0]
    guesses = Guesses(Limiter(), "1/s", clock=lambda: now[0])
    await guesses.count("192.0.2.1")
    with pytest.raises(Refusal) as shut:
        await guesses.count("192.0.2.1")
    assert (shut.value.status, shut.value.headers["Retry-After"]) == (429, "1")
    assert guesses.is_shut("192.0.2.1")
    with pytest.raises(Refusal):
        guesses.refuse_shut("192.0.2.1")
    now[0] = 1.0
    assert not guesses.is_shut("192.0.2.1")
    guesses.refuse_shut("192.0.2.1")


async def test_it_can_be_left_off_and_cannot_be_nonsense(press: Press) -> None:
    guesses = Guesses(Limiter(), "unlimited")
    for _ in range(100):
        await guesses.count(None)
    assert not guesses.is_shut(None)
    with pytest.raises(ConfigurationError, match="HOLDFAST_KEY_GUESSES: 'often' is no limit"):
        Guesses(Limiter(), "often")
    with pytest.raises(ConfigurationError, match=r"'10\.0\.0\.0/99', which is no network"):
        networks_of("::1, 10.0.0.0/99")
    assert create_app(press.hold)
