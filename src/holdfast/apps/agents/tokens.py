"""Which token a mint is: its symbol and decimals, where they are known."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec
from sqlalchemy import select

from holdfast.apps.agents import sample
from holdfast.apps.agents.mints import MINTS
from holdfast.apps.agents.models import AgentPricing, X402Payment
from holdfast.store import Unit


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token: amounts of it are base units, `10 ** decimals` to one."""

    mint: str
    symbol: str | None = None  # only of mints listed here: a name that a mint gives itself proves nothing
    decimals: int | None = None


@lru_cache(maxsize=1)
def listed_tokens() -> dict[str, Token]:
    """Mint → token, for the well-known ones and those of the sample ledger."""
    known = {mint.address: Token(mint=mint.address, symbol=mint.symbol, decimals=mint.decimals) for mint in MINTS}
    for row in sample.tokens():
        known[row["mint"]] = Token(mint=row["mint"], symbol=row["symbol"], decimals=row["decimals"])
    return known


async def tokens_of(unit: Unit, mints: Iterable[str]) -> dict[str, Token]:
    """Mint → token; the decimals of one that is not listed are those of its newest payment, else of a price in it."""
    found: dict[str, Token] = {}
    for mint in dict.fromkeys(mints):
        token = listed_tokens().get(mint)
        if token is None:
            token = Token(mint=mint, decimals=await _decimals(unit, mint) if mint else None)
        found[mint] = token
    return found


async def _decimals(unit: Unit, mint: str) -> int | None:
    newest = select(X402Payment.token_decimals).where(X402Payment.token_mint == mint)
    paid = (await unit.execute(newest.order_by(X402Payment.block_time.desc()).limit(1))).scalar()
    if paid is not None:
        return int(paid)
    asked = select(AgentPricing.token_decimals).where(AgentPricing.token_mint == mint).limit(1)
    priced = (await unit.execute(asked)).scalar()
    return None if priced is None else int(priced)
