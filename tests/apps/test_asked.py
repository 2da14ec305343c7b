"""What is asked of others is asked seldom, and again when it must be."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import pytest

from holdfast import Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import asked
from holdfast.apps.accounts.asked import analysis, price, provider_session
from holdfast.apps.marketplace import asked as marketplace_asked
from holdfast.apps.marketplace.asked import price as price_to_pay
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.upstreams import quotes
from holdfast.upstreams.quotes import Analysis, ProviderSession, Quote
from tests.backends import settings_for

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Others:
    """Prices, an analyst and an auth provider that count what they are asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def quote(self, symbol: str, currency: str) -> Quote | None:
        self.asked[f"{symbol}/{currency}"] += 1
        if symbol == "NONE":
            return None
        return Quote(symbol=symbol, currency=currency, price=Decimal("0.000000000000000001"), at=AT)

    async def analyse(self, symbol: str, horizon: str) -> Analysis | None:
        self.asked[f"{symbol} {horizon}"] += 1
        return Analysis(symbol=symbol, horizon=horizon, summary="up", details={"by": [1, 2.5]}, at=AT)

    async def session(self, session_id: str) -> ProviderSession | None:
        self.asked["sessions"] += 1
        return ProviderSession(session_id=session_id, user_id="user_1", expires_at=AT)


@pytest.fixture
def others() -> Iterator[Others]:
    plugged = Others()
    quotes.plug(prices=plugged, analyst=plugged, auth_provider=plugged)
    yield plugged
    quotes.unplug()


@pytest.fixture(params=(False, True))
async def hold(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Holdfast]:
    """With Redis and without."""
    url = request.getfixturevalue("redis_url") if request.param else None
    settings = settings_for(sqlite_url, redis_url=url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        yield hold


async def test_prices_are_asked_by_symbol_and_currency_and_each_app_has_its_own_bound(
    hold: Holdfast, others: Others
) -> None:
    for _ in range(3):
        found = await price("sol")
        assert found is not None
        assert (found.symbol, found.currency, found.price) == ("SOL", "USD", Decimal("0.000000000000000001"))
        assert await price("SOL", "eur") is not None
        assert await price_to_pay("SOL") is not None
        assert await analysis("sol", "4H") is not None
    assert others.asked == {"SOL/USD": 2, "SOL/EUR": 1, "SOL 4h": 1}
    calls = (asked._price, asked._analysis, asked._session, marketplace_asked._price)
    assert [call.declared.options.ttl for call in calls] == [60.0, 300.0, 3_600.0, 10.0]


async def test_nine_of_ten_questions_to_the_auth_provider_are_saved(hold: Holdfast, others: Others) -> None:
    draw = random.Random(1)
    for _ in range(1_000):  # a hundred people, each of whom asks ten times
        await provider_session(f"sess_{draw.randrange(100)}")
    assert others.asked["sessions"] <= 100
    await hold.cache.invalidate("session:sess_1")
    await provider_session("sess_1")
    assert others.asked["sessions"] <= 101


async def test_what_another_process_has_asked_is_not_asked_again(
    sqlite_url: str, redis_url: str, others: Others
) -> None:
    settings = settings_for(sqlite_url, redis_url=redis_url, redis_timeout=5.0)
    for _ in range(2):
        async with await Holdfast.open(settings=settings, metadata=accounts.metadata):
            found = await analysis("BTC")
            assert found is not None
            assert found.details == {"by": [1, 2.5]}
            assert found.at == AT
    assert others.asked == {"BTC 1d": 1}


async def test_the_usual_prices_are_warm(hold: Holdfast, others: Others) -> None:
    [warmed] = await hold.cache.warmer.run(["holdfast.apps.accounts.asked.quoted"])
    assert (warmed.keys, warmed.loaded, warmed.failed) == (3, 3, 0)
    for symbol in ("BTC", "ETH", "SOL"):
        assert await price(symbol) is not None
    assert set(others.asked.values()) == {1}


async def test_without_anybody_who_answers_it_is_said(hold: Holdfast) -> None:
    quotes.unplug()
    with pytest.raises(ConfigurationError, match=r"plug\(prices=…\)"):
        await price("BTC")
    [warmed] = await hold.cache.warmer.run(["holdfast.apps.accounts.asked.quoted"])
    assert (warmed.keys, warmed.error) == (0, None)


async def test_a_token_that_is_none_is_not_remembered(hold: Holdfast, others: Others) -> None:
    assert await price("NONE") is None
    assert await price("NONE") is None
    assert others.asked["NONE/USD"] == 2


@pytest.mark.parametrize("symbol", ["", "B TC", "BTC:USD", "Ⅴ", "ß", "x" * 21, None, 5])
async def test_what_is_no_symbol_is_refused_before_anybody_is_asked(others: Others, symbol: str) -> None:
    with pytest.raises(InvalidValue, match="is no symbol"):
        await price(symbol)
    with pytest.raises(InvalidValue, match="is no currency"):
        await price("BTC", symbol)
    with pytest.raises(InvalidValue, match="is no horizon"):
        await analysis("BTC", symbol)
    assert not others.asked


async def test_what_can_be_no_session_is_not_shown(others: Others) -> None:
    with pytest.raises(InvalidValue) as refused:
        await provider_session("tok en")
    assert "tok en" not in str(refused.value)
