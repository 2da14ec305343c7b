"""What others know and charge for, or answer slowly: prices, analyses, sessions. Who answers is plugged in.

An application gives the adapters once, `plug(prices=…)`; what asks them is cached in the apps, by keys that say for how
long. Values are plain and exact, so that they may lie in Redis.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from holdfast.errors import ConfigurationError, InvalidValue

_SYMBOL = re.compile(r"[A-Z0-9]{1,20}\Z", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3,5}\Z", re.ASCII)
_HORIZON = re.compile(r"[1-9][0-9]{0,3}[hdwmy]\Z", re.ASCII)
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,128}\Z", re.ASCII)


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What a token costs.

    Attributes:
        symbol, currency: upper case: `SOL`, `USD`.
        price: of one token, in the currency; exact.
        at: when that was so.
    """

    symbol: str
    currency: str
    price: Decimal
    at: dt.datetime


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody makes of a market.

    Attributes:
        symbol, horizon: of which token, for how long: `1d`, `4h`.
        summary: text.
        details: whatever else is told, as JSON holds it.
        at: when it was made.
    """

    symbol: str
    horizon: str
    summary: str
    details: dict[str, Any] = {}
    at: dt.datetime


class ProviderSession(msgspec.Struct, frozen=True, kw_only=True):
    """What an auth provider says of a session.

    Attributes:
        session_id, user_id: in the provider's words.
        expires_at: when it ends at the latest.
    """

    session_id: str
    user_id: str
    expires_at: dt.datetime


class Prices(Protocol):
    """Who knows prices."""

    async def quote(self, symbol: str, currency: str) -> Quote | None:
        """What a token costs now; None where there is no such token or currency."""


class Analyst(Protocol):
    """Who makes analyses."""

    async def analyse(self, symbol: str, horizon: str) -> Analysis | None:
        """An analysis; None where there is no such token."""


class AuthProvider(Protocol):
    """Who knows who is signed in."""

    async def session(self, session_id: str) -> ProviderSession | None:
        """A session that is open; None where there is none."""


_plugged: dict[str, Any] = {}


def plug(
    *, prices: Prices | None = None, analyst: Analyst | None = None, auth_provider: AuthProvider | None = None
) -> None:
    """Say who answers from now on, in this process; what is not named stays as it was.

    Example::

        plug(prices=CoinPrices(api_key=…))
    """
    given = {"prices": prices, "analyst": analyst, "auth_provider": auth_provider}
    _plugged.update({name: one for name, one in given.items() if one is not None})


def unplug() -> None:
    """Forget who answers."""
    _plugged.clear()


def is_plugged(name: str) -> bool:
    """Whether somebody answers: `prices`, `analyst` or `auth_provider`."""
    return name in _plugged


async def quote(symbol: str, currency: str) -> Quote | None:
    """Ask who knows prices. ConfigurationError: nobody was plugged in."""
    return await _answers("prices").quote(symbol, currency)  # type: ignore[no-any-return]


async def analyse(symbol: str, horizon: str) -> Analysis | None:
    """Ask who makes analyses. ConfigurationError: nobody was plugged in."""
    return await _answers("analyst").analyse(symbol, horizon)  # type: ignore[no-any-return]


async def session(session_id: str) -> ProviderSession | None:
    """Ask the auth provider. ConfigurationError: none was plugged in."""
    return await _answers("auth_provider").session(session_id)  # type: ignore[no-any-return]


def _answers(name: str) -> Any:
    if name not in _plugged:
        raise ConfigurationError(
            f"nobody answers for {name}; give an adapter with holdfast.upstreams.quotes.plug({name}=…)"
        )
    return _plugged[name]


def symbol_of(text: str) -> str:
    """A token's symbol in upper case. InvalidValue: it is none."""
    return _shaped(text, _upper(text), _SYMBOL, "symbol: 1 to 20 letters and digits")


def currency_of(text: str) -> str:
    """A currency in upper case. InvalidValue: it is none."""
    return _shaped(text, _upper(text), _CURRENCY, "currency: 3 to 5 letters, as USD")


def horizon_of(text: str) -> str:
    """A horizon in lower case. InvalidValue: it is none."""
    told = "horizon: a number and one of h, d, w, m, y, as 4h"
    return _shaped(text, text.lower() if isinstance(text, str) else "", _HORIZON, told)


def session_id_of(text: str) -> str:
    """A session's id. InvalidValue: it can be none."""
    told = "session's id: 1 to 128 letters, digits, - and _"
    return _shaped(None, text if isinstance(text, str) else "", _SESSION, told)  # not shown: it may open something


def _upper(text: object) -> str:
    return text.upper() if isinstance(text, str) and text.isascii() else ""  # ß would become SS


def _shaped(shown: object, text: str, shape: re.Pattern[str], told: str) -> str:
    if shape.match(text) is None:
        raise InvalidValue(f"{'that' if shown is None else repr(str(shown)[:40])} is no {told}")
    return text
