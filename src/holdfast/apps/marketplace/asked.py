"""What the marketplace asks others for: prices, for who is about to pay."""

from __future__ import annotations

from holdfast.apps.marketplace import keys
from holdfast.cache import cached
from holdfast.upstreams import quotes
from holdfast.upstreams.quotes import Quote


@cached(keys.PRICE)
async def _price(symbol: str, currency: str) -> Quote | None:
    return await quotes.quote(symbol, currency)


async def price(symbol: str, currency: str = "USD") -> Quote | None:
    """What a token costs, at most ten seconds old; None where there is no such token.

    Raises:
        InvalidValue: it is no symbol or no currency. ConfigurationError: nobody knows prices.
    """
    return await _price(quotes.symbol_of(symbol), quotes.currency_of(currency))
