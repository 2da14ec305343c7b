"""What the accounts ask others for, and keep: prices, analyses, sessions of the auth provider."""

from __future__ import annotations

from holdfast.apps.accounts import keys
from holdfast.cache import cached, warms
from holdfast.upstreams import quotes
from holdfast.upstreams.quotes import Analysis, ProviderSession, Quote

QUOTED = ("BTC", "ETH", "SOL")
"""Tokens whose price in US dollars is kept warm."""


@cached(keys.PRICE)
async def _price(symbol: str, currency: str) -> Quote | None:
    return await quotes.quote(symbol, currency)


@cached(keys.ANALYSIS)
async def _analysis(symbol: str, horizon: str) -> Analysis | None:
    return await quotes.analyse(symbol, horizon)


@cached(keys.SESSION)
async def _session(session_id: str) -> ProviderSession | None:
    return await quotes.session(session_id)


@warms(_price, every="30s")
async def quoted() -> list[tuple[str, str]]:
    """The prices that are kept warm; none while nobody knows prices."""
    return [(symbol, "USD") for symbol in QUOTED] if quotes.is_plugged("prices") else []


async def price(symbol: str, currency: str = "USD") -> Quote | None:
    """What a token costs, at most a minute old; None where there is no such token.

    Raises:
        InvalidValue: it is no symbol or no currency. ConfigurationError: nobody knows prices.
    """
    return await _price(quotes.symbol_of(symbol), quotes.currency_of(currency))


async def analysis(symbol: str, horizon: str = "1d") -> Analysis | None:
    """An analysis of a token's market, at most five minutes old; None where there is no such token.

    Raises:
        InvalidValue: it is no symbol or no horizon. ConfigurationError: nobody makes any.
    """
    return await _analysis(quotes.symbol_of(symbol), quotes.horizon_of(horizon))


async def provider_session(session_id: str) -> ProviderSession | None:
    """What the auth provider says of a session, asked once an hour, or again once `session:ID` was invalidated.

    Raises:
        InvalidValue: it can be no session's id. ConfigurationError: no auth provider.
    """
    return await _session(quotes.session_id_of(session_id))
